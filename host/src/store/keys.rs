//! The keys: bytes that never change. A session's id is followed by one zero byte, which no id
//! holds; numbers are big-endian, so that keys sort as they count. A position is its `cursor` and
//! its `seq`, 8 bytes each.
//!
//! ```text
//! family     key                                   value
//! log        id 0 position                         record: kind (u16 LE), MessagePack map
//! snapshots  id 0 position                         snapshot with its header, as `domain` draws it
//! sessions   id 0 'i'                              identity
//!            id 0 'p'                              kept: progress, count of queued, oldest position
//! index      'a' id                                (empty) has work (until it is pruned: had)
//!            'd' id 0 n                            dead letter of message m<n>
//!            'f' id                                (empty) faulted
//!            'k' id 0 idempotency key              moment (u64 BE, ms), what is known of the key
//!            'p' id                                (empty) its turn waits for a human
//!            'q' id 0 n                            queued message m<n>, without its text
//!            'r' span (u64 BE) id                  (empty) committed a turn in that span of time
//!            't' due (u64 BE, ms) id 0 name        timer; the name \u{1}: when an approval expires
//! default    "counts"                              sessions created and closed
//!            'r' generation (u64 BE)               restart record
//!            's' generation (u64 BE)               sessions that were active when its drain began
//! ```
//!
//! All values but those drawn otherwise are MessagePack maps by field name.

use crate::domain::{Generation, LogPos, MessageId, SessionId, UnixMillis};

use super::StoreError;

/// What ends an id.
const END: u8 = 0;
/// Sorts behind everything that begins with an id and [`END`], and before every other id: the
/// characters 0 and 1 are control characters, which no id holds.
const BEHIND: u8 = 1;

/// The kinds of the family `index`.
pub(super) mod kind {
    pub(in crate::store) const ACTIVE: u8 = b'a';
    pub(in crate::store) const DEAD: u8 = b'd';
    pub(in crate::store) const FAULTED: u8 = b'f';
    pub(in crate::store) const KEY: u8 = b'k';
    pub(in crate::store) const PARKED: u8 = b'p';
    pub(in crate::store) const QUEUED: u8 = b'q';
    pub(in crate::store) const RECENT: u8 = b'r';
    pub(in crate::store) const TIMER: u8 = b't';
}

/// The key of the counts.
pub(super) const COUNTS: &[u8] = b"counts";
/// What the key of a restart record begins with.
pub(super) const RESTART: u8 = b'r';
/// What the key of a list of active sessions begins with.
pub(super) const ACTIVE_LIST: u8 = b's';

fn with_id(kind: Option<u8>, id: &SessionId, end: u8, room: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(id.as_str().len() + 2 + room);
    key.extend(kind);
    key.extend(id.as_str().as_bytes());
    key.push(end);
    key
}

/// In `log` and `snapshots`.
pub(super) fn position(id: &SessionId, at: LogPos) -> Vec<u8> {
    let mut key = with_id(None, id, END, 16);
    key.extend(at.cursor.to_be_bytes());
    key.extend(at.seq.to_be_bytes());
    key
}

/// The position that ends a key of `log` or `snapshots`.
pub(super) fn position_of(key: &[u8]) -> Option<LogPos> {
    let (rest, seq) = key.split_last_chunk()?;
    let (_, cursor) = rest.split_last_chunk()?;
    Some(LogPos {
        cursor: u64::from_be_bytes(*cursor),
        seq: u64::from_be_bytes(*seq),
    })
}

/// The first and the bound of a session's keys in `log`, `snapshots` and `sessions`.
pub(super) fn all_of(id: &SessionId) -> (Vec<u8>, Vec<u8>) {
    (with_id(None, id, END, 0), with_id(None, id, BEHIND, 0))
}

/// A session's identity, in `sessions`.
pub(super) fn identity(id: &SessionId) -> Vec<u8> {
    let mut key = with_id(None, id, END, 1);
    key.push(b'i');
    key
}

/// What is kept of a session's progress, in `sessions`.
pub(super) fn kept(id: &SessionId) -> Vec<u8> {
    let mut key = with_id(None, id, END, 1);
    key.push(b'p');
    key
}

/// The id that a key of `sessions` begins with.
pub(super) fn session_of(key: &[u8]) -> Option<SessionId> {
    let end = key.iter().position(|byte| *byte == END)?;
    id_of(&key[..end])
}

/// A marker in `index`: active or faulted.
pub(super) fn marker(kind: u8, id: &SessionId) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + id.as_str().len());
    key.push(kind);
    key.extend(id.as_str().as_bytes());
    key
}

/// The id of a marker.
pub(super) fn marked(key: &[u8]) -> Option<SessionId> {
    id_of(key.get(1..)?)
}

/// How long the spans are by which commits are remembered, in milliseconds.
const SPAN_MS: u64 = 10 * 60 * 1000;

/// The number of the span that a moment falls into.
pub(super) fn span(at: UnixMillis) -> u64 {
    at.0 / SPAN_MS
}

/// That a session committed a turn in a span, in `index`.
pub(super) fn recent(span: u64, id: &SessionId) -> Vec<u8> {
    let mut key = Vec::with_capacity(9 + id.as_str().len());
    key.push(kind::RECENT);
    key.extend(span.to_be_bytes());
    key.extend(id.as_str().as_bytes());
    key
}

/// The bound below which all commits stand that were made before a span, in `index`.
pub(super) fn recent_bound(span: u64) -> Vec<u8> {
    let mut key = vec![kind::RECENT];
    key.extend(span.to_be_bytes());
    key
}

/// Whose commit such a key remembers.
pub(super) fn recent_of(key: &[u8]) -> Option<SessionId> {
    id_of(key.get(9..)?)
}

/// The first and the bound of all keys of a kind in `index`.
pub(super) fn all_of_kind(kind: u8) -> (Vec<u8>, Vec<u8>) {
    (vec![kind], vec![kind + 1])
}

/// The first and the bound of a session's keys of a kind in `index`.
pub(super) fn all_of_in(kind: u8, id: &SessionId) -> (Vec<u8>, Vec<u8>) {
    (
        with_id(Some(kind), id, END, 0),
        with_id(Some(kind), id, BEHIND, 0),
    )
}

/// A queued message or a dead letter, in `index`.
pub(super) fn message(
    kind: u8,
    id: &SessionId,
    message: &MessageId,
) -> Result<Vec<u8>, StoreError> {
    let number = message
        .cursor()
        .ok_or_else(|| StoreError::BadMessageId(message.to_string()))?;
    let mut key = with_id(Some(kind), id, END, 8);
    key.extend(number.to_be_bytes());
    Ok(key)
}

/// An idempotency key, in `index`.
pub(super) fn idempotency(id: &SessionId, name: &str) -> Vec<u8> {
    let mut key = with_id(Some(kind::KEY), id, END, name.len());
    key.extend(name.as_bytes());
    key
}

/// A timer, in `index`.
pub(super) fn timer(due: UnixMillis, id: &SessionId, name: &str) -> Vec<u8> {
    let mut key = vec![kind::TIMER];
    key.extend(due.0.to_be_bytes());
    key.extend(id.as_str().as_bytes());
    key.push(END);
    key.extend(name.as_bytes());
    key
}

/// When the timer of this key is due, and whose it is.
pub(super) fn timer_of(key: &[u8]) -> Option<(UnixMillis, SessionId)> {
    let (due, rest) = key.get(1..)?.split_first_chunk()?;
    Some((UnixMillis(u64::from_be_bytes(*due)), session_of(rest)?))
}

/// A restart record or a list of active sessions, in `default`.
pub(super) fn generation(kind: u8, generation: Generation) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend(generation.0.to_be_bytes());
    key
}

fn id_of(bytes: &[u8]) -> Option<SessionId> {
    SessionId::new(std::str::from_utf8(bytes).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_never_change() {
        let id = SessionId::new("a/b").unwrap();
        let at = LogPos {
            cursor: 258,
            seq: 3,
        };
        let log = b"a/b\0\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\0\x03";
        assert_eq!(position(&id, at), log);
        assert_eq!(position_of(log), Some(at));
        assert_eq!(identity(&id), b"a/b\0i");
        assert_eq!(kept(&id), b"a/b\0p");
        assert_eq!(session_of(b"a/b\0p"), Some(id.clone()));
        assert_eq!(marker(kind::ACTIVE, &id), b"aa/b");
        assert_eq!(
            message(kind::QUEUED, &id, &MessageId::at(7)).unwrap(),
            b"qa/b\0\0\0\0\0\0\0\0\x07"
        );
        assert_eq!(idempotency(&id, "k\0"), b"ka/b\0k\0");
        let timer = timer(UnixMillis(1), &id, "tick");
        assert_eq!(timer, b"t\0\0\0\0\0\0\0\x01a/b\0tick");
        assert_eq!(timer_of(&timer), Some((UnixMillis(1), id)));
        assert_eq!(generation(RESTART, Generation(2)), b"r\0\0\0\0\0\0\0\x02");
    }

    #[test]
    fn an_id_that_another_begins_with_keeps_its_keys_apart() {
        let (short, long) = (SessionId::new("a").unwrap(), SessionId::new("a ").unwrap());
        let (first, bound) = all_of(&short);
        let key = kept(&long);
        assert!(key > bound && bound > kept(&short) && kept(&short) > first);
    }
}
