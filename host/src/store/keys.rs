//! The keys, whose bytes never change. A session id is followed by one zero byte, which no id
//! contains; numbers are big-endian, so that keys sort numerically. A position is its `cursor` and
//! its `seq`, 8 bytes each.
//!
//! ```text
//! family     key                                   value
//! log        id 0 position                         record: kind (u16 LE), MessagePack map
//! snapshots  id 0 position                         snapshot with its header, defined in `domain`
//! sessions   id 0 'i'                              identity
//!            id 0 'p'                              kept: progress, queue length, oldest position
//! index      'a' id                                (empty) has work (or had, until it is pruned)
//!            'd' id 0 n                            dead letter of message m<n>
//!            'f' id                                (empty) faulted
//!            'k' id 0 idempotency key              time (u64 BE, ms), its message and body digest
//!            'o' id 0 position                     restore point, of the snapshot at that position
//!            'p' id                                (empty) it waits for a human: an approval or a resume
//!            'q' id 0 n                            queued message m<n>, without its text
//!            'r' span (u64 BE) id                  (empty) committed a turn in that span of time
//!            't' due (u64 BE, ms) id 0 name        timer; the name \u{1}: when an approval expires
//! default    "counts"                              sessions created and closed
//!            'a' number (u64 BE)                   entry of the audit log
//!            "cut"                                 the order to cut all sessions, if it is pending
//!            'o' plugin 0 began (u64 BE, ms)       roll-out of a component
//!            'p' approval id                       standing approval
//!            'r' generation (u64 BE)               restart record
//!            's' generation (u64 BE)               sessions that were active when its drain began
//!            't' SHA-256 of the secret             access token
//! ```
//!
//! All other values are MessagePack maps by field name.
//!
//! Reserved in `host/docs/store-format-2.md`, and not written yet: the families `kv`, `outbox` and
//! `summaries`; in `sessions` the byte `h` before a position; in `index` the first byte `m`.

use crate::domain::{
    ApprovalId, AuditId, Digest, Generation, LogPos, MessageId, SessionId, UnixMillis,
};

use super::StoreError;

/// The byte that terminates an id in a key.
const END: u8 = 0;
/// An id followed by this byte sorts after every key that begins with the id and [`END`], and
/// before every longer id: bytes 0 and 1 are control characters, which no id contains.
const BEHIND: u8 = 1;

/// The kinds of keys in the family `index`, distinguished by their first byte.
pub(super) mod kind {
    pub(in crate::store) const ACTIVE: u8 = b'a';
    pub(in crate::store) const DEAD: u8 = b'd';
    pub(in crate::store) const FAULTED: u8 = b'f';
    pub(in crate::store) const KEY: u8 = b'k';
    pub(in crate::store) const POINT: u8 = b'o';
    pub(in crate::store) const PARKED: u8 = b'p';
    pub(in crate::store) const QUEUED: u8 = b'q';
    pub(in crate::store) const RECENT: u8 = b'r';
    pub(in crate::store) const TIMER: u8 = b't';

    pub(in crate::store) const ALL: [u8; 9] = [
        ACTIVE, DEAD, FAULTED, KEY, POINT, PARKED, QUEUED, RECENT, TIMER,
    ];
}

pub(super) const COUNTS: &[u8] = b"counts";
pub(super) const CUT_ORDER: &[u8] = b"cut";
/// The first byte of the key of a restart record.
pub(super) const RESTART: u8 = b'r';
/// The first byte of the key of a list of active sessions.
pub(super) const ACTIVE_LIST: u8 = b's';
/// The first byte of the key of an entry of the audit log.
pub(super) const AUDIT: u8 = b'a';
/// The first byte of the key of an access token.
pub(super) const TOKEN: u8 = b't';
/// The first byte of the key of a standing approval.
pub(super) const STANDING: u8 = b'p';
/// The first byte of the key of a roll-out.
pub(super) const ROLLOUT: u8 = b'o';

/// The kinds of keys in the family `default` of which there are many.
pub(super) const META_KINDS: [u8; 6] = [AUDIT, RESTART, ACTIVE_LIST, TOKEN, STANDING, ROLLOUT];

fn with_id(kind: Option<u8>, id: &SessionId, end: u8, room: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(id.as_str().len() + 2 + room);
    key.extend(kind);
    key.extend(id.as_str().as_bytes());
    key.push(end);
    key
}

/// The key of a record in `log`, or of its snapshot in `snapshots`.
pub(super) fn position(id: &SessionId, at: LogPos) -> Vec<u8> {
    let mut key = with_id(None, id, END, 16);
    key.extend(at.cursor.to_be_bytes());
    key.extend(at.seq.to_be_bytes());
    key
}

/// Parses the position at the end of a key of `log` or `snapshots`.
pub(super) fn position_of(key: &[u8]) -> Option<LogPos> {
    let (rest, seq) = key.split_last_chunk()?;
    let (_, cursor) = rest.split_last_chunk()?;
    Some(LogPos {
        cursor: u64::from_be_bytes(*cursor),
        seq: u64::from_be_bytes(*seq),
    })
}

/// The lower bound (inclusive) and the upper bound (exclusive) of a session's keys in `log`,
/// `snapshots` and `sessions`.
pub(super) fn all_of(id: &SessionId) -> (Vec<u8>, Vec<u8>) {
    (with_id(None, id, END, 0), with_id(None, id, BEHIND, 0))
}

/// The key of a session's identity, in `sessions`.
pub(super) fn identity(id: &SessionId) -> Vec<u8> {
    let mut key = with_id(None, id, END, 1);
    key.push(b'i');
    key
}

/// The key of a session's progress, in `sessions`.
pub(super) fn kept(id: &SessionId) -> Vec<u8> {
    let mut key = with_id(None, id, END, 1);
    key.push(b'p');
    key
}

/// Parses the session id at the beginning of a key of `sessions`.
pub(super) fn session_of(key: &[u8]) -> Option<SessionId> {
    let end = key.iter().position(|byte| *byte == END)?;
    id_of(&key[..end])
}

/// The key of a marker in `index`: active, faulted or parked.
pub(super) fn marker(kind: u8, id: &SessionId) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + id.as_str().len());
    key.push(kind);
    key.extend(id.as_str().as_bytes());
    key
}

/// Parses the session id of a marker.
pub(super) fn marked(key: &[u8]) -> Option<SessionId> {
    id_of(key.get(1..)?)
}

/// The length of the spans of time in which commits are recorded, in milliseconds.
const SPAN_MS: u64 = 10 * 60 * 1000;

/// The number of the span that contains a moment.
pub(super) fn span(at: UnixMillis) -> u64 {
    at.0 / SPAN_MS
}

/// The key, in `index`, of the marker that a session committed a turn in a span.
pub(super) fn recent(span: u64, id: &SessionId) -> Vec<u8> {
    let mut key = Vec::with_capacity(9 + id.as_str().len());
    key.push(kind::RECENT);
    key.extend(span.to_be_bytes());
    key.extend(id.as_str().as_bytes());
    key
}

/// The lower bound, in `index`, of the commit markers of a span and of all later ones.
pub(super) fn recent_bound(span: u64) -> Vec<u8> {
    let mut key = vec![kind::RECENT];
    key.extend(span.to_be_bytes());
    key
}

/// Parses the session id of a commit marker.
pub(super) fn recent_of(key: &[u8]) -> Option<SessionId> {
    id_of(key.get(9..)?)
}

/// The lower bound (inclusive) and the upper bound (exclusive) of all keys of a kind, in `index` or
/// `default`.
pub(super) fn all_of_kind(kind: u8) -> (Vec<u8>, Vec<u8>) {
    (vec![kind], vec![kind + 1])
}

/// The lower bound (inclusive) and the upper bound (exclusive) of a session's keys of a kind in
/// `index`.
pub(super) fn all_of_in(kind: u8, id: &SessionId) -> (Vec<u8>, Vec<u8>) {
    (
        with_id(Some(kind), id, END, 0),
        with_id(Some(kind), id, BEHIND, 0),
    )
}

/// The key of a queued message or of a dead letter, in `index`.
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

/// The key of a restore point, in `index`.
pub(super) fn point(id: &SessionId, at: LogPos) -> Vec<u8> {
    let mut key = vec![kind::POINT];
    key.extend(position(id, at));
    key
}

/// The key of an idempotency key, in `index`.
pub(super) fn idempotency(id: &SessionId, name: &str) -> Vec<u8> {
    let mut key = with_id(Some(kind::KEY), id, END, name.len());
    key.extend(name.as_bytes());
    key
}

/// The key of a timer, in `index`.
pub(super) fn timer(due: UnixMillis, id: &SessionId, name: &str) -> Vec<u8> {
    let mut key = timers_from(due);
    key.extend(id.as_str().as_bytes());
    key.push(END);
    key.extend(name.as_bytes());
    key
}

/// The lower bound, in `index`, of the timers that are due at a time or later.
pub(super) fn timers_from(due: UnixMillis) -> Vec<u8> {
    let mut key = vec![kind::TIMER];
    key.extend(due.0.to_be_bytes());
    key
}

/// Parses the due time and the session id of a timer's key.
pub(super) fn timer_of(key: &[u8]) -> Option<(UnixMillis, SessionId)> {
    let (due, rest) = key.get(1..)?.split_first_chunk()?;
    Some((UnixMillis(u64::from_be_bytes(*due)), session_of(rest)?))
}

/// The key of a restart record or of a list of active sessions, in `default`.
pub(super) fn generation(kind: u8, generation: Generation) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend(generation.0.to_be_bytes());
    key
}

/// The key of an entry of the audit log, in `default`.
pub(super) fn audit(id: AuditId) -> Vec<u8> {
    let mut key = vec![AUDIT];
    key.extend(id.0.to_be_bytes());
    key
}

/// Parses the number of an entry of the audit log.
pub(super) fn audit_of(key: &[u8]) -> Option<AuditId> {
    let number = key.get(1..)?.try_into().ok()?;
    Some(AuditId(u64::from_be_bytes(number)))
}

/// The key of an access token, in `default`, by the digest of its secret.
pub(super) fn token(secret: &Digest) -> Vec<u8> {
    let mut key = vec![TOKEN];
    key.extend(secret.as_bytes());
    key
}

/// Parses the digest of an access token's secret.
pub(super) fn token_of(key: &[u8]) -> Option<Digest> {
    let bytes = key.get(1..)?.try_into().ok()?;
    Some(Digest::from_bytes(bytes))
}

/// The key of a standing approval, in `default`.
pub(super) fn standing(id: &ApprovalId) -> Vec<u8> {
    let mut key = vec![STANDING];
    key.extend(id.as_str().as_bytes());
    key
}

/// The key of a roll-out, in `default`.
pub(super) fn rollout(plugin: &str, began: UnixMillis) -> Vec<u8> {
    let mut key = vec![ROLLOUT];
    key.extend(plugin.as_bytes());
    key.push(END);
    key.extend(began.0.to_be_bytes());
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
        assert_eq!(point(&id, at), [b"o", &log[..]].concat());
        assert_eq!(identity(&id), b"a/b\0i");
        assert_eq!(kept(&id), b"a/b\0p");
        assert_eq!(session_of(b"a/b\0p"), Some(id.clone()));
        assert_eq!(marker(kind::ACTIVE, &id), b"aa/b");
        assert_eq!(
            message(kind::QUEUED, &id, &MessageId::on(None, 7)).unwrap(),
            b"qa/b\0\0\0\0\0\0\0\0\x07"
        );
        assert_eq!(idempotency(&id, "k\0"), b"ka/b\0k\0");
        let timer = timer(UnixMillis(1), &id, "tick");
        assert_eq!(timer, b"t\0\0\0\0\0\0\0\x01a/b\0tick");
        assert_eq!(timer_of(&timer), Some((UnixMillis(1), id)));
        assert_eq!(generation(RESTART, Generation(2)), b"r\0\0\0\0\0\0\0\x02");
        assert_eq!(audit(AuditId(258)), b"a\0\0\0\0\0\0\x01\x02");
        assert_eq!(audit_of(b"a\0\0\0\0\0\0\x01\x02"), Some(AuditId(258)));
        let secret = Digest::from_bytes([7; 32]);
        assert_eq!(token(&secret), [&b"t"[..], &[7; 32]].concat());
        assert_eq!(token_of(&token(&secret)), Some(secret));
        let rollout = rollout("p", UnixMillis(258));
        assert_eq!(rollout, b"op\0\0\0\0\0\0\0\x01\x02");
    }

    #[test]
    fn an_id_that_another_begins_with_keeps_its_keys_apart() {
        let (short, long) = (SessionId::new("a").unwrap(), SessionId::new("a ").unwrap());
        let (first, bound) = all_of(&short);
        let key = kept(&long);
        assert!(key > bound && bound > kept(&short) && kept(&short) > first);
    }
}
