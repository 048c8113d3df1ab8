//! The state of a session of which only its log and its snapshots can be read. This code is pure.

use crate::domain::{LogPos, Record, Session};

use super::facts::{SessionFacts, behind};
use super::salvaged::{Salvaged, SoundFamilies, fall_back, identity_of, stand_in};

/// Folds the log into the state: exactly, if the log is whole from its beginning on, else as far as it
/// shows. None if not even the session's plugin is known, or nothing of it is left.
pub(super) fn rebuild(facts: &SessionFacts, sound: SoundFamilies) -> Option<Salvaged> {
    let newest = facts.newest_that_stands();
    let mut lost = Vec::new();
    let identity = identity_of(facts, sound, &mut lost)?;
    let begins = matches!(facts.log.first(), Some((_, Record::Created(_))));
    let mut session = match facts.log.first() {
        Some((_, first @ Record::Created(_))) => Session::create(first)?,
        _ => Session::create(&stand_in(&identity))?,
    };
    session.identity = identity;
    let mut is_whole = begins;
    for (at, record) in facts.log.iter().skip(usize::from(begins)) {
        if *at != session.progress.next {
            is_whole = false;
            session.progress.next = *at;
        }
        session.apply(record);
    }
    if facts.log.is_empty() {
        // The record of the snapshot is not there: what follows it begins behind it.
        let mut next = newest?.at;
        next.seq += 1;
        session.progress.next = next;
    }
    let oldest = match is_whole {
        true => facts.log.first().map(|(at, _)| *at).unwrap_or_default(),
        false => last_run(facts).unwrap_or(session.progress.next),
    };
    let has_state = facts.has_snapshot(session.progress.snapshot.at);
    let is_exact = is_whole && sound.log && has_state;
    if !has_state {
        match newest {
            Some(newest) => fall_back(&mut session.progress, newest),
            None => lost.push("all of its snapshots: it cannot go on".to_owned()),
        }
    }
    if !is_whole {
        session.progress.turns = session.progress.turns.max(session.progress.last_turn);
        session.progress.dead_letters = facts.dead_letters;
    }
    session.queue.retain(|queued| facts.has_message(queued.pos));
    Some(Salvaged {
        session,
        oldest,
        surplus: Vec::new(),
        cut: (!is_exact).then(|| "its state could not be read".to_owned()),
        lost,
    })
}

/// Returns the position from which on the log has no gap.
fn last_run(facts: &SessionFacts) -> Option<LogPos> {
    let mut from: Option<LogPos> = None;
    for (at, record) in facts.log.iter().rev() {
        if from.is_some_and(|from| behind(*at, record) != from) {
            break;
        }
        from = Some(*at);
    }
    from
}
