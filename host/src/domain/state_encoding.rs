//! The encodings in which a guest's state is read as a tree.
//!
//! The contract leaves the encoding to the guest. The SDK writes MessagePack; JSON and CBOR are what other
//! guests use. Anything else is not read, and nothing is said about it.

use serde::Deserialize as _;

use super::state_tree::{StateTree, Unread};
use super::state_visitor::BoundedTree;

/// What CBOR may begin with, to be told from other data (RFC 8949, section 3.4.6).
const CBOR_SELF_DESCRIBED: &[u8] = &[0xd9, 0xd9, 0xf7];

#[derive(Clone, Copy, Debug)]
enum Encoding {
    Json,
    MessagePack,
    Cbor,
}

impl StateTree {
    /// Reads a state in the first encoding in which all its bytes are one map or one list.
    pub(crate) fn read(state: &[u8]) -> Result<Self, Unread> {
        let mut exceeded = None;
        for encoding in Encoding::ALL {
            match encoding.read(state) {
                Ok(tree) => return Ok(tree),
                Err(Unread::OtherEncoding) => {}
                Err(reason) => exceeded = exceeded.or(Some(reason)),
            }
        }
        Err(exceeded.unwrap_or(Unread::OtherEncoding))
    }

    /// Reads two states of one session, in the same encoding if there is one for both: some bytes have two
    /// meanings, as `[100]` in CBOR is `{24: 100}` in MessagePack.
    pub(crate) fn read_both(before: &[u8], after: &[u8]) -> Result<(Self, Self), Unread> {
        for encoding in Encoding::ALL {
            if let Ok(before) = encoding.read(before)
                && let Ok(after) = encoding.read(after)
            {
                return Ok((before, after));
            }
        }
        Ok((Self::read(before)?, Self::read(after)?))
    }
}

impl Encoding {
    const ALL: [Self; 3] = [Self::Json, Self::MessagePack, Self::Cbor];

    fn read(self, state: &[u8]) -> Result<StateTree, Unread> {
        let state = match self {
            Self::Json => state.trim_ascii_start(),
            Self::MessagePack => state,
            Self::Cbor => state.strip_prefix(CBOR_SELF_DESCRIBED).unwrap_or(state),
        };
        // Almost any first byte is a whole scalar in one of them, which would say nothing.
        let is_container = state.first().is_some_and(|first| match self {
            Self::Json => matches!(first, b'{' | b'['),
            Self::MessagePack => matches!(first, 0x80..=0x9f | 0xdc..=0xdf),
            Self::Cbor => matches!(first, 0x80..=0xbf),
        });
        let read = is_container.then(|| self.decode(state)).flatten();
        read.map_or(Err(Unread::OtherEncoding), |BoundedTree(tree)| tree)
    }

    /// None if the bytes are not, to the last one, one value of the encoding.
    fn decode(self, state: &[u8]) -> Option<BoundedTree> {
        let mut rest = state;
        let read = match self {
            Self::Json => {
                let mut json = serde_json::Deserializer::from_slice(state);
                let read = BoundedTree::deserialize(&mut json).ok()?;
                if json.end().is_ok() {
                    rest = &[];
                }
                read
            }
            Self::MessagePack => {
                BoundedTree::deserialize(&mut rmp_serde::Deserializer::new(&mut rest)).ok()?
            }
            Self::Cbor => ciborium::from_reader(&mut rest).ok()?,
        };
        (read.0.is_err() || rest.is_empty()).then_some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::state_tree::{DEPTH_MAX, NODES_MAX};
    use proptest::prelude::*;
    use serde::Serialize;
    use std::collections::BTreeMap;

    #[derive(Serialize)]
    enum Mode {
        Idle,
        Busy { since: u64 },
    }

    #[derive(Serialize)]
    struct Example {
        modes: Vec<Mode>,
        by_id: BTreeMap<u32, Option<String>>,
        ratio: f64,
        pair: (i32, bool),
    }

    fn encoded() -> [Vec<u8>; 3] {
        let example = Example {
            modes: vec![Mode::Idle, Mode::Busy { since: 1 << 40 }],
            by_id: BTreeMap::from([(7, Some("Grüße".to_owned())), (70_000, None)]),
            ratio: 0.1,
            pair: (-5, true),
        };
        let mut cbor = Vec::new();
        ciborium::into_writer(&example, &mut cbor).expect("memory takes it");
        let message_pack = rmp_serde::to_vec_named(&example).expect("memory takes it");
        [
            serde_json::to_vec_pretty(&example).expect("memory takes it"),
            message_pack,
            cbor,
        ]
    }

    #[test]
    fn a_state_is_the_same_tree_in_all_encodings() {
        let [json, message_pack, cbor] = encoded();
        let tree = StateTree::read(&json).expect("it is JSON");
        assert_eq!(StateTree::read(&message_pack).as_ref(), Ok(&tree));
        assert_eq!(StateTree::read(&cbor).as_ref(), Ok(&tree));
        let described = [CBOR_SELF_DESCRIBED, &cbor].concat();
        assert_eq!(StateTree::read(&described).as_ref(), Ok(&tree));
        let spaced = [b" \n", &json[..], b"\n "].concat();
        assert_eq!(StateTree::read(&spaced).as_ref(), Ok(&tree));
    }

    #[test]
    fn all_bytes_count() {
        for state in encoded() {
            for length in 0..state.len() {
                let read = StateTree::read(&state[..length]);
                assert_eq!(read, Err(Unread::OtherEncoding), "{length} of {state:?}");
            }
            let longer = [&state[..], b"\x01"].concat();
            assert_eq!(StateTree::read(&longer), Err(Unread::OtherEncoding));
        }
    }

    #[test]
    fn a_scalar_is_no_state() {
        let scalars =
            b"||7|null|\"text\"|\x07|\xc0|\xa1a|\xf6|\x61a|\xd9\xd9\xf7\x07|\xc1\x80|\xd4\x01\x01";
        for state in scalars.split(|byte| *byte == b'|') {
            assert_eq!(
                StateTree::read(state),
                Err(Unread::OtherEncoding),
                "{state:?}"
            );
        }
        let empty = b"{}|[]|\x80|\x90|\xa0|\x9f\xff|\xd9\xd9\xf7\x80";
        for state in empty.split(|byte| *byte == b'|') {
            assert_eq!(StateTree::read(state), Ok(StateTree::Empty), "{state:?}");
        }
    }

    #[test]
    fn two_states_are_read_in_one_encoding() {
        // `[100]` in CBOR is `{24: 100}` in MessagePack; `[100, "Grüße"]` is nothing else.
        let before = b"\x81\x18\x64";
        let after = [&b"\x82\x18\x64\x67"[..], "Grüße".as_bytes()].concat();
        assert!(matches!(StateTree::read(before), Ok(StateTree::Map(_))));
        let both = StateTree::read_both(before, &after);
        let Ok((StateTree::List(before), StateTree::List(after))) = both else {
            panic!("{both:?}");
        };
        assert_eq!((before.len(), after.len()), (1, 2));
        assert_eq!(before[0], after[0]);
        // A guest may change its encoding.
        let [json, message_pack, _] = encoded();
        let (before, after) = StateTree::read_both(&json, &message_pack).expect("each is read");
        assert_eq!(before, after);
        let unread = StateTree::read_both(&json, b"\x07");
        assert_eq!(unread, Err(Unread::OtherEncoding));
    }

    #[test]
    fn depth_is_bounded() {
        let check = || {
            for (first, open, inside, close) in [
                (&b""[..], &b"["[..], &b"1"[..], &b"]"[..]),
                (b"", b"{\"a\":", b"1", b"}"),
                (b"", b"\x91", b"\x01", b""),
                (b"", b"\x81\xa1a", b"\x01", b""),
                (b"", b"\x81", b"\x01", b"\x01"),
                (b"", b"\xa1", b"\x01", b"\x01"),
                (b"", b"\xa1\x61a", b"\x01", b""),
                (b"\x81", b"\xc6", b"\x01", b""),
            ] {
                let nested = |depth: usize| {
                    let times = depth - first.len();
                    [first, &open.repeat(times), inside, &close.repeat(times)].concat()
                };
                let read = StateTree::read(&nested(DEPTH_MAX));
                assert!(read.is_ok(), "{open:?}: {read:?}");
                for depth in [DEPTH_MAX + 1, 127, 128, 256, 257, 1024, 1_000_000] {
                    let read = StateTree::read(&nested(depth));
                    assert_eq!(read, Err(Unread::TooDeep), "{open:?}, {depth}");
                }
            }
        };
        // It takes 370 KB in a debug build, 70 KB in a release.
        let thread = std::thread::Builder::new().stack_size(1 << 20);
        let checked = thread.spawn(check).expect("a thread").join();
        checked.expect("it has passed");
    }

    #[test]
    fn size_is_bounded() {
        let most = NODES_MAX - 1;
        let length = u32::try_from(most).expect("it is small").to_be_bytes();
        let repeated = |first: &[u8], item: &[u8], count: usize, last: &[u8]| {
            let state = [first, &item.repeat(count), last].concat();
            StateTree::read(&state)
        };
        let message_pack = [&b"\xdd"[..], &length].concat();
        let cbor = [&b"\x9a"[..], &length].concat();
        for read in [
            repeated(b"[1", b",1", most - 1, b"]"),
            repeated(&message_pack, b"\x01", most, b""),
            repeated(&cbor, b"\x01", most, b""),
        ] {
            let Ok(StateTree::List(items)) = read else {
                panic!("{:?}", read.err());
            };
            assert_eq!(items.len(), most);
        }
        for read in [
            repeated(b"[1", b",1", most, b"]"),
            repeated(b"\xdd\xff\xff\xff\xff", b"\x01", most + 1, b""),
            repeated(b"\x9f", b"\x01", most + 1, b"\xff"),
        ] {
            assert_eq!(read.err(), Some(Unread::TooLarge));
        }
    }

    #[test]
    fn declared_lengths_are_not_believed() {
        for state in [
            &b"\xdd\xff\xff\xff\xff"[..],
            b"\xdf\xff\xff\xff\xff\x01",
            b"\x91\xdb\xff\xff\xff\xffa",
            b"\x91\xc6\xff\xff\xff\xffa",
            b"\x91\xc9\xff\xff\xff\xff\x01a",
            b"\x9b\x10\0\0\0\0\0\0\0",
            b"\xbb\x10\0\0\0\0\0\0\0\x01",
            b"\xa1\x61a\x5b\x10\0\0\0\0\0\0\0",
            b"\xa1\x61a\x7b\xff\xff\xff\xff\xff\xff\xff\xffa",
            b"\xa1\x61a\xc2\x5b\x10\0\0\0\0\0\0\0",
        ] {
            assert_eq!(
                StateTree::read(state),
                Err(Unread::OtherEncoding),
                "{state:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_panic(
            which in 0..3usize,
            at in any::<prop::sample::Index>(),
            length in 0..4usize,
            new in prop::collection::vec(any::<u8>(), 0..12),
        ) {
            let mut state = encoded()[which].clone();
            let at = at.index(state.len());
            state.splice(at..state.len().min(at + length), new.iter().copied());
            let _ = StateTree::read_both(&state, &new);
        }
    }
}
