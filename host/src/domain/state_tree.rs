//! A guest's state as a tree. Scalars are kept as hashes, for the tree is there to compare two states, not to
//! show them.

use std::hash::{DefaultHasher, Hash, Hasher};

/// The most values of a state that is read, keys included. A state of 1 MiB, the default limit, has no more,
/// for none takes less than a byte. So many take up to 42 MB, and 60 MB while they are read; more only
/// where keys are longer than 24 bytes.
pub(super) const NODES_MAX: usize = 1 << 20;

/// The most lists, maps and tags around a value. It is less than each decoder allows (JSON 127, CBOR 256,
/// MessagePack 1023), so that a state is too deep in all of them or in none.
pub(super) const DEPTH_MAX: usize = 100;

/// A value of a state, with all that is in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum StateTree {
    /// Null, false, 0, or a text, bytes, a list or a map of length 0: what a missing value reads as.
    Empty,
    /// Another scalar: the hash of its value.
    Leaf(u64),
    List(Box<[StateTree]>),
    /// In the order of the keys. A `BTreeMap` takes half a KiB even for one entry.
    Map(Box<[(Box<str>, StateTree)]>),
}

/// Why a state is not read as a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unread {
    #[error("it is not JSON, MessagePack or CBOR with a map or a list at its top level")]
    OtherEncoding,
    #[error("it holds more than {NODES_MAX} values")]
    TooLarge,
    #[error("it is nested more than {DEPTH_MAX} levels deep")]
    TooDeep,
}

impl StateTree {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// Returns a scalar that is not empty. The kind tells 1 from true, and a text from bytes.
    pub(super) fn leaf(kind: &str, value: impl Hash) -> Self {
        Self::Leaf(hash_of((kind, value)))
    }

    /// What a default stands for holds nothing: `false`, and 0 below.
    pub(super) fn bit(value: bool) -> Self {
        match value {
            true => Self::leaf("bool", true),
            false => Self::Empty,
        }
    }

    pub(super) fn integer(value: i128) -> Self {
        match value {
            0 => Self::Empty,
            value => Self::leaf("integer", value),
        }
    }

    pub(super) fn float(value: f64) -> Self {
        match value == 0.0 {
            true => Self::Empty,
            false => Self::leaf("float", value.to_bits()),
        }
    }

    /// Returns the hash of all that is in it.
    pub(super) fn fingerprint(&self) -> u64 {
        hash_of(self)
    }

    /// None if a key is repeated: decoders differ on which of its values counts.
    pub(super) fn map(mut entries: Vec<(Box<str>, Self)>) -> Option<Self> {
        entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let is_repeated = entries.windows(2).any(|pair| pair[0].0 == pair[1].0);
        match entries.len() {
            _ if is_repeated => None,
            0 => Some(Self::Empty),
            _ => Some(Self::Map(entries.into())),
        }
    }
}

pub(super) fn hash_of(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str) -> (Box<str>, StateTree) {
        (key.into(), StateTree::Leaf(1))
    }

    #[test]
    fn a_map_is_in_order_and_has_no_key_twice() {
        let map = StateTree::map(vec![entry("b"), entry(""), entry("a")]);
        let Some(StateTree::Map(entries)) = map else {
            panic!("{map:?}");
        };
        let keys: Vec<_> = entries.iter().map(|(key, _)| &**key).collect();
        assert_eq!(keys, ["", "a", "b"]);
        assert_eq!(StateTree::map(Vec::new()), Some(StateTree::Empty));
        let repeated = vec![entry("b"), entry("a"), entry("b")];
        assert_eq!(StateTree::map(repeated), None);
    }

    #[test]
    fn a_fingerprint_tells_what_is_in_it_and_where() {
        let list = |trees: &[StateTree]| StateTree::List(trees.into());
        let (leaf, other) = (StateTree::Leaf(1), StateTree::Leaf(2));
        let all = [
            StateTree::Empty,
            leaf.clone(),
            list(std::slice::from_ref(&leaf)),
            list(&[leaf.clone(), other.clone()]),
            list(&[other, leaf.clone()]),
            list(&[list(&[leaf])]),
            StateTree::map(vec![entry("a")]).expect("no key is repeated"),
            StateTree::map(vec![entry("b")]).expect("no key is repeated"),
        ];
        for (at, tree) in all.iter().enumerate() {
            for (other_at, other) in all.iter().enumerate() {
                let is_same = tree.fingerprint() == other.fingerprint();
                assert_eq!(is_same, at == other_at, "{tree:?} {other:?}");
            }
        }
    }

    #[test]
    fn a_value_takes_24_bytes() {
        // What is said of `NODES_MAX` rests on it.
        assert_eq!(size_of::<StateTree>(), 24);
    }
}
