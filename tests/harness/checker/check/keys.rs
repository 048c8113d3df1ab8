//! The keys that the host sends with calls: `SESSION/TURN/STEP/PART/CALL`, on a later timeline than the
//! first `SESSION/TIMELINE.TURN/...`.

/// Returns a key without its step and its part: the turn and the call.
pub(super) fn placeless(key: &str) -> (&str, &str) {
    let mut parts = key.rsplitn(4, '/');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(call), Some(_), Some(_), Some(turn)) => (turn, call),
        _ => (key, ""),
    }
}

/// Returns the session and the number of the turn that made the call; none if the key has another form.
pub(super) fn turn_of(key: &str) -> Option<(&str, u64)> {
    let (session, turn) = placeless(key).0.rsplit_once('/')?;
    let number = turn.rsplit('.').next()?;
    Some((session, number.parse().ok()?))
}
