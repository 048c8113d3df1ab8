//! Builds the tree of a guest's state from what any decoder of serde reads.
//!
//! The bytes are the guest's own, so nothing that they declare is believed: no memory is reserved for a
//! declared length, and [`NODES_MAX`] and [`DEPTH_MAX`] bound the tree.

use std::fmt::{self, Display};
use std::hash::Hash;

use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error as _, IgnoredAny,
    MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::state_tree::{DEPTH_MAX, NODES_MAX, StateTree, Unread, hash_of};

/// The longest key of bytes that is shown as such; a longer one is shown as a hash.
const KEY_BYTES_MAX: usize = 16;

/// A whole state, or the bound that it exceeds. Not every decoder takes a seed, but each takes this.
pub(super) struct BoundedTree(pub(super) Result<StateTree, Unread>);

impl<'de> Deserialize<'de> for BoundedTree {
    fn deserialize<D: Deserializer<'de>>(state: D) -> Result<Self, D::Error> {
        let mut bounds = Bounds::default();
        let root = Node {
            bounds: &mut bounds,
            depth: 0,
            key: None,
        };
        let read = root.deserialize(state);
        match bounds.exceeded {
            Some(reason) => Ok(Self(Err(reason))),
            None => read.map(|tree| Self(Ok(tree))),
        }
    }
}

#[derive(Default)]
struct Bounds {
    nodes: usize,
    exceeded: Option<Unread>,
}

/// Reads one value.
struct Node<'a> {
    bounds: &'a mut Bounds,
    depth: usize,
    /// Takes the text of a scalar that is a key.
    key: Option<&'a mut Option<String>>,
}

impl Node<'_> {
    fn inner<'a>(&'a mut self, key: Option<&'a mut Option<String>>) -> Node<'a> {
        Node {
            bounds: &mut *self.bounds,
            depth: self.depth + 1,
            key,
        }
    }

    /// Counts the value, before anything of it is read.
    fn count<E: de::Error>(&mut self) -> Result<(), E> {
        self.bounds.nodes += 1;
        let exceeded = if self.depth > DEPTH_MAX {
            Unread::TooDeep
        } else if self.bounds.nodes > NODES_MAX {
            Unread::TooLarge
        } else {
            return Ok(());
        };
        self.bounds.exceeded = Some(exceeded);
        Err(E::custom(exceeded))
    }

    fn scalar<E>(self, tree: StateTree, text: impl Display) -> Result<StateTree, E> {
        if let Some(key) = self.key {
            *key = Some(text.to_string());
        }
        Ok(tree)
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = StateTree;

    fn deserialize<D: Deserializer<'de>>(mut self, value: D) -> Result<StateTree, D::Error> {
        self.count()?;
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = StateTree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<StateTree, E> {
        self.scalar(StateTree::Empty, "null")
    }

    fn visit_none<E>(self) -> Result<StateTree, E> {
        self.scalar(StateTree::Empty, "null")
    }

    fn visit_bool<E>(self, value: bool) -> Result<StateTree, E> {
        self.scalar(StateTree::bit(value), value)
    }

    fn visit_i64<E>(self, value: i64) -> Result<StateTree, E> {
        self.scalar(StateTree::integer(i128::from(value)), value)
    }

    fn visit_u64<E>(self, value: u64) -> Result<StateTree, E> {
        self.scalar(StateTree::integer(i128::from(value)), value)
    }

    fn visit_i128<E>(self, value: i128) -> Result<StateTree, E> {
        self.scalar(StateTree::integer(value), value)
    }

    fn visit_u128<E>(self, value: u128) -> Result<StateTree, E> {
        match i128::try_from(value) {
            Ok(value) => self.scalar(StateTree::integer(value), value),
            Err(_) => self.scalar(StateTree::leaf("large integer", value), value),
        }
    }

    fn visit_f64<E>(self, value: f64) -> Result<StateTree, E> {
        self.scalar(StateTree::float(value), value)
    }

    fn visit_str<E>(self, text: &str) -> Result<StateTree, E> {
        match text {
            "" => self.scalar(StateTree::Empty, ""),
            _ => self.scalar(StateTree::leaf("text", text), text),
        }
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<StateTree, E> {
        match bytes {
            [] => self.scalar(StateTree::Empty, "0x"),
            _ => self.scalar(StateTree::leaf("bytes", bytes), Hex(bytes)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<StateTree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self.inner(None))? {
            items.push(item);
        }
        Ok(match items.len() {
            0 => StateTree::Empty,
            _ => StateTree::List(items.into()),
        })
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<StateTree, A::Error> {
        let mut entries = Vec::new();
        let mut text = None;
        while let Some(key) = map.next_key_seed(self.inner(Some(&mut text)))? {
            // A number is the same key in all encodings, for JSON has only texts. Lists and maps, which can
            // be keys too, have no text.
            let key = text.take().unwrap_or_else(|| hash_text(&key));
            let value = map.next_value_seed(self.inner(None))?;
            entries.push((key.into_boxed_str(), value));
        }
        StateTree::map(entries).ok_or_else(|| A::Error::custom("a key is repeated"))
    }

    /// An extension of MessagePack, as a list of its type and its bytes.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, parts: D) -> Result<StateTree, D::Error> {
        parts.deserialize_any(self)
    }

    /// A tagged value of CBOR, as its value.
    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<StateTree, A::Error> {
        let (IgnoredAny, parts) = tagged.variant()?;
        parts.tuple_variant(2, Tagged(self))
    }
}

/// Reads a tag and its value.
struct Tagged<'a>(Node<'a>);

impl<'de> Visitor<'de> for Tagged<'_> {
    type Value = StateTree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tag and a value")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut parts: A) -> Result<StateTree, A::Error> {
        parts.next_element::<IgnoredAny>()?;
        let key = self.0.key.take();
        let value = parts.next_element_seed(self.0.inner(key))?;
        value.ok_or_else(|| A::Error::custom("a tag without a value"))
    }
}

/// Shows bytes that are a key.
struct Hex<'a>(&'a [u8]);

impl Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() > KEY_BYTES_MAX {
            return f.write_str(&hash_text(self.0));
        }
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn hash_text(key: impl Hash) -> String {
    format!("#{:016x}", hash_of(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message_pack(bytes: &[u8]) -> StateTree {
        tree(rmp_serde::from_slice(bytes).ok())
    }

    fn cbor(bytes: &[u8]) -> StateTree {
        tree(ciborium::from_reader(bytes).ok())
    }

    fn json(text: &str) -> StateTree {
        tree(serde_json::from_str(text).ok())
    }

    fn tree(read: Option<BoundedTree>) -> StateTree {
        let BoundedTree(tree) = read.expect("it decodes");
        tree.expect("it is small")
    }

    fn keys(tree: &StateTree) -> String {
        let StateTree::Map(entries) = tree else {
            panic!("{tree:?}");
        };
        entries.iter().map(|(key, _)| format!("|{key}")).collect()
    }

    #[test]
    fn scalars_are_the_same_in_all_encodings() {
        for (text, packed, concise) in [
            ("null", &b"\xc0"[..], &b"\xf6"[..]),
            ("\"\"", b"\xc4\x00", b"\xf7"),
            ("true", b"\xc3", b"\xf5"),
            ("7", b"\xd3\0\0\0\0\0\0\0\x07", b"\xc2\x41\x07"),
            ("-2", b"\xfe", b"\x21"),
            ("0.5", b"\xca\x3f\0\0\0", b"\xf9\x38\0"),
            ("\"ab\"", b"\xa2ab", b"\x7f\x61a\x61b\xff"),
        ] {
            let tree = json(text);
            assert_eq!(tree, message_pack(packed), "{text}");
            assert_eq!(tree, cbor(concise), "{text}");
        }
        for nothing in ["false", "0", "-0", "0.0", "-0.0", "\"\"", "[]", "{}"] {
            assert_eq!(json(nothing), json("null"), "{nothing}");
        }
        let kinds = "null true 1 1.0 -1 \"1\" [1] {\"1\":1}".split(' ');
        let mut kinds: Vec<_> = kinds.map(json).collect();
        // Bytes, what is no UTF-8, an integer of 128 bits, and not a number.
        kinds.push(message_pack(b"\xc4\x011"));
        kinds.push(message_pack(b"\xa1\xff"));
        kinds.push(cbor(&[&b"\xc2\x50"[..], &[0xff; 16]].concat()));
        kinds.push(cbor(b"\xf9\x7e\x00"));
        for (at, kind) in kinds.iter().enumerate() {
            assert!(!kinds[..at].contains(kind), "{at}: {kind:?}");
            assert_eq!(kind.is_empty(), at == 0);
        }
    }

    #[test]
    fn extensions_and_tags_are_read_through() {
        let extensions = message_pack(b"\x93\xd4\x05\x01\xc7\x00\x05\x07");
        let first = StateTree::List([json("5"), StateTree::leaf("bytes", &b"\x01"[..])].into());
        let expected = [first, json("[5, null]"), json("7")];
        assert_eq!(extensions, StateTree::List(expected.into()));
        assert_eq!(cbor(b"\xc0\xd8\x20\x82\x01\xc1\x02"), json("[1,2]"));
        assert_eq!(keys(&cbor(b"\xa1\xc0\xc0\x61k\xc0\x01")), "|k");
    }

    #[test]
    fn keys_are_texts() {
        let scalars = message_pack(
            b"\x88\x01\x00\xff\x00\xc3\x00\xc0\x00\xc4\x02\xab\x0d\x00\xa1k\x00\xa0\x00\xca\x3f\xc0\0\0\x00",
        );
        assert_eq!(keys(&scalars), "||-1|0xab0d|1|1.5|k|null|true");
        let list = format!("|#{:016x}", hash_of(json("[1,2]")));
        assert_eq!(keys(&message_pack(b"\x81\x92\x01\x02\x00")), list);
        let long = cbor(b"\xa1\x52a long byte string\x00");
        assert_eq!(keys(&long).len(), "|#".len() + 16);
        assert_eq!(cbor(b"\xa1\x01\x00"), json("{\"1\":0}"));
        // `{1: 0, "1": 0}`.
        assert!(rmp_serde::from_slice::<BoundedTree>(b"\x82\x01\x00\xa11\x00").is_err());
    }
}
