//! Encoding and decoding of values: MessagePack maps by field name, records prefixed with their
//! kind.
//!
//! | kind | reserved, and not written yet |
//! |---|---|
//! | 16 | a gap in a session's events |
//! | 20 | a session's settings |
//! | 21, 22, 23 | messages to other sessions: sent, delivered, accepted |
//!
//! `host/docs/store-format-2.md` says more. A number is never used for anything else.

use serde::{Serialize, de::DeserializeOwned};

use crate::domain::Record;

use super::{
    StoreError,
    format::{CUT_FORMAT, FIRST_FORMAT, Part, StoreFormat},
};

/// What a [`Record::Moved`] is, for humans.
pub(super) const MOVE: &str = "that a session stays on an older component";

pub(super) fn encode<T: Serialize>(what: &'static str, value: &T) -> Result<Vec<u8>, StoreError> {
    rmp_serde::to_vec_named(value).map_err(|error| StoreError::Encode {
        what,
        reason: error.to_string(),
    })
}

/// Decodes a value; `what` names it in the error.
pub(super) fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, StoreError> {
    rmp_serde::from_slice(bytes).map_err(|error| corrupt(what, error))
}

/// The error for a stored value that cannot be decoded, or contradicts another one.
pub(super) fn corrupt(what: &str, reason: impl ToString) -> StoreError {
    StoreError::Corrupt {
        what: what.to_owned(),
        reason: reason.to_string(),
    }
}

/// Refuses a record of a kind that the store's format does not have yet.
pub(super) fn allow(format: &StoreFormat, record: &Record) -> Result<(), StoreError> {
    match record {
        Record::Created(_)
        | Record::Received(_)
        | Record::Begun(_)
        | Record::Planned(_)
        | Record::Done(_)
        | Record::Ended(_)
        | Record::Relabelled(_)
        | Record::Faulted(_)
        | Record::Resumed(_)
        | Record::Discarded(_)
        | Record::Requeued(_)
        | Record::Closed(_)
        | Record::Asked(_)
        | Record::Decided(_) => format.allow("a record", FIRST_FORMAT),
        Record::Cut(_) => format.allow("a cut of a session's history", CUT_FORMAT),
        Record::Moved(_) => format.allow_part(MOVE, Part::Components),
        Record::Rewound(_) => format.allow_part("a rewound session", Part::Points),
        Record::Origin(_) => format.allow_part("a copy of a session", Part::Points),
    }
}

/// Encodes a record as the number of its kind, followed by its map.
pub(super) fn encode_record(record: &Record) -> Result<Vec<u8>, StoreError> {
    let (kind, map) = match record {
        Record::Created(body) => (1_u16, to_map(body)),
        Record::Received(body) => (2, to_map(body)),
        Record::Begun(body) => (3, to_map(body)),
        Record::Planned(body) => (4, to_map(body)),
        Record::Done(body) => (5, to_map(body)),
        Record::Ended(body) => (6, to_map(body)),
        Record::Relabelled(body) => (7, to_map(body)),
        Record::Faulted(body) => (8, to_map(body)),
        Record::Resumed(body) => (9, to_map(body)),
        Record::Discarded(body) => (10, to_map(body)),
        Record::Requeued(body) => (11, to_map(body)),
        Record::Closed(body) => (12, to_map(body)),
        Record::Asked(body) => (13, to_map(body)),
        Record::Decided(body) => (14, to_map(body)),
        Record::Cut(body) => (15, to_map(body)),
        Record::Rewound(body) => (17, to_map(body)),
        Record::Origin(body) => (18, to_map(body)),
        Record::Moved(body) => (19, to_map(body)),
    };
    let mut bytes = map?;
    bytes[..2].copy_from_slice(&kind.to_le_bytes());
    Ok(bytes)
}

/// Encodes the map of a record, after two bytes that are reserved for the kind.
fn to_map<T: Serialize>(body: &T) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend([0; 2]);
    rmp_serde::encode::write_named(&mut bytes, body).map_err(|error| StoreError::Encode {
        what: "a record",
        reason: error.to_string(),
    })?;
    Ok(bytes)
}

/// Decodes a record; `what` names it in the error.
pub(super) fn decode_record(what: impl Fn() -> String, bytes: &[u8]) -> Result<Record, StoreError> {
    let Some((kind, map)) = bytes.split_first_chunk() else {
        return Err(corrupt(&what(), "it is shorter than its kind"));
    };
    let record = match u16::from_le_bytes(*kind) {
        1 => rmp_serde::from_slice(map).map(Record::Created),
        2 => rmp_serde::from_slice(map).map(Record::Received),
        3 => rmp_serde::from_slice(map).map(Record::Begun),
        4 => rmp_serde::from_slice(map).map(Record::Planned),
        5 => rmp_serde::from_slice(map).map(Record::Done),
        6 => rmp_serde::from_slice(map).map(Record::Ended),
        7 => rmp_serde::from_slice(map).map(Record::Relabelled),
        8 => rmp_serde::from_slice(map).map(Record::Faulted),
        9 => rmp_serde::from_slice(map).map(Record::Resumed),
        10 => rmp_serde::from_slice(map).map(Record::Discarded),
        11 => rmp_serde::from_slice(map).map(Record::Requeued),
        12 => rmp_serde::from_slice(map).map(Record::Closed),
        13 => rmp_serde::from_slice(map).map(Record::Asked),
        14 => rmp_serde::from_slice(map).map(Record::Decided),
        15 => rmp_serde::from_slice(map).map(Record::Cut),
        17 => rmp_serde::from_slice(map).map(Record::Rewound),
        18 => rmp_serde::from_slice(map).map(Record::Origin),
        19 => rmp_serde::from_slice(map).map(Record::Moved),
        kind => return Err(StoreError::NewerRecord { what: what(), kind }),
    };
    record.map_err(|error| corrupt(&what(), error))
}

#[cfg(test)]
mod tests {
    use crate::domain::{Closed, Cut, CutCause, Digest, Moved, TimelineName, UnixMillis};

    use super::*;

    #[test]
    fn records_are_a_kind_and_a_map() {
        let record = Record::Closed(Closed { at: UnixMillis(5) });
        let bytes = encode_record(&record).unwrap();
        assert_eq!(bytes, [12, 0, 0x81, 0xa2, b'a', b't', 5]);
        assert_eq!(decode_record(|| "it".into(), &bytes), Ok(record));
    }

    #[test]
    fn newer_kinds_wait_for_the_format_that_has_them() {
        let folder = tempfile::tempdir().unwrap();
        let format = StoreFormat::read(folder.path()).unwrap();
        let closed = Record::Closed(Closed { at: UnixMillis(5) });
        let cut = Record::Cut(Cut {
            timeline: TimelineName::draw(1),
            previous: None,
            cause: CutCause::Restore,
            detail: String::new(),
            at: UnixMillis(5),
        });
        let moved = Record::Moved(moved());
        assert_eq!(allow(&format, &closed), Ok(()));
        let refused = allow(&format, &cut).unwrap_err();
        assert!(matches!(
            refused,
            StoreError::OlderFormat {
                needs: CUT_FORMAT,
                ..
            }
        ));
        let refused = allow(&format, &moved).unwrap_err();
        assert!(matches!(
            refused,
            StoreError::LacksPart {
                part: "components",
                ..
            }
        ));
        assert!(format.raise().unwrap());
        for record in [closed, cut, moved] {
            assert_eq!(allow(&format, &record), Ok(()));
        }
    }

    fn moved() -> Moved {
        Moved {
            component: Digest::from_bytes([7; 32]),
            refused: Some(Digest::from_bytes([8; 32])),
            reason: "x".to_owned(),
            takes_over: None,
            at: UnixMillis(5),
        }
    }

    /// Bytes on disk are forever.
    #[test]
    fn the_bytes_of_a_move_never_change() {
        let digest = |byte: u8| [&b"\xc4\x20"[..], &[byte; 32]].concat();
        let bytes = [
            &b"\x13\0\x84\xa9component"[..],
            &digest(7),
            b"\xa7refused",
            &digest(8),
            b"\xa6reason\xa1x\xa2at\x05",
        ]
        .concat();
        let record = Record::Moved(moved());
        assert_eq!(encode_record(&record).unwrap(), bytes);
        assert_eq!(decode_record(|| "it".into(), &bytes), Ok(record));
        let adopted = [&b"\x13\0\x82\xa9component"[..], &digest(7), b"\xa2at\x05"].concat();
        let record = Record::Moved(Moved {
            refused: None,
            reason: String::new(),
            ..moved()
        });
        assert_eq!(encode_record(&record).unwrap(), adopted);
        assert_eq!(decode_record(|| "it".into(), &adopted), Ok(record));
        let takes_over = Record::Moved(Moved {
            takes_over: Some(3),
            ..moved()
        });
        let bytes = encode_record(&takes_over).unwrap();
        assert!(bytes.ends_with(b"\xaatakes_over\x03\xa2at\x05"));
        assert_eq!(decode_record(|| "it".into(), &bytes), Ok(takes_over));
    }

    /// Bytes on disk are forever.
    #[test]
    fn the_bytes_of_a_cut_never_change() {
        let name = |text| TimelineName::parse(text).unwrap();
        let mut cut = Cut {
            timeline: name("t4kq90xd"),
            previous: None,
            cause: CutCause::AcceptedLoss,
            detail: "x".to_owned(),
            at: UnixMillis(5),
        };
        let first = b"\x0f\0\x84\xa8timeline\xa8t4kq90xd\xa5cause\xadaccepted_loss\xa6detail\xa1x\
            \xa2at\x05";
        let bytes = encode_record(&Record::Cut(cut.clone())).unwrap();
        assert_eq!(bytes, first);
        assert_eq!(
            decode_record(|| "it".into(), first),
            Ok(Record::Cut(cut.clone()))
        );
        cut.previous = Some(name("abcdefgh"));
        cut.cause = CutCause::Restore;
        let later =
            b"\x0f\0\x85\xa8timeline\xa8t4kq90xd\xa8previous\xa8abcdefgh\xa5cause\xa7restore\
            \xa6detail\xa1x\xa2at\x05";
        let bytes = encode_record(&Record::Cut(cut.clone())).unwrap();
        assert_eq!(bytes, later);
        assert_eq!(decode_record(|| "it".into(), later), Ok(Record::Cut(cut)));
        // A name that is none.
        let bad = b"\x0f\0\x81\xa8timeline\xa811111111";
        assert!(decode_record(|| "it".into(), bad).is_err());
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let newer = decode_record(|| "record 3".into(), &[99, 0, 0x80]).unwrap_err();
        assert_eq!(
            newer,
            StoreError::NewerRecord {
                what: "record 3".into(),
                kind: 99
            }
        );
        assert!(newer.to_string().contains("newer version"));
        for bytes in [&[][..], &[1], &[12, 0], &[12, 0, 0x80], &[12, 0, 0xc1]] {
            let error = decode_record(|| "record 3".into(), bytes).unwrap_err();
            assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        }
    }
}
