//! Decides what becomes of one session whose store was damaged. This code is pure.
//!
//! Whether anything of a session is missing is seen from whether its parts agree: its state says where
//! its log ends and which snapshot it has, the log has no gap, the queue is what the log yields. That
//! holds whatever was damaged, also where an older value has come back in the place of one that cannot
//! be read.
//!
//! | missing | what becomes of it |
//! |---|---|
//! | old events, which no turn needs | it goes on; those events are gone, as if they had been trimmed |
//! | its state, if the log yields it | it goes on |
//! | its snapshot, if it was rewound and that of the point is there | it goes on |
//! | its snapshot, if the one before it and its turn's journal are there | it goes on: the snapshot is made again |
//! | its snapshot, otherwise | its history is cut, and it goes on from the snapshot before |
//! | its newest records, its open turn's journal, a queued message | its history is cut |
//! | its state, if the log does not yield it | its history is cut; the state is what snapshot and log show |
//! | all of these | nothing is left: its id is not used again |

use std::collections::VecDeque;

use crate::domain::{LogPos, Queued, Record, Session, SessionProgress};

use super::facts::{SessionFacts, behind};
use super::rebuild::rebuild;
use super::salvaged::{Salvaged, SessionVerdict, SoundFamilies, fall_back, identity_of};

/// Decides, from what can be read of a session. `dead_letters_kept` is how many of them are kept.
pub(super) fn judge(
    facts: &SessionFacts,
    sound: SoundFamilies,
    dead_letters_kept: u64,
) -> SessionVerdict {
    let Some(kept) = &facts.kept else {
        return rebuild(facts, sound).map_or(SessionVerdict::Gone, |salvaged| {
            SessionVerdict::GoesOn(Box::new(salvaged))
        });
    };
    if kept.progress.closed.is_some() {
        return SessionVerdict::Closed;
    }
    let mut cut = None;
    let mut lost = Vec::new();
    let Some(identity) = identity_of(facts, sound, &mut lost) else {
        return SessionVerdict::Gone;
    };
    let mut session = Session {
        identity,
        progress: kept.progress.clone(),
        queue: VecDeque::new(),
    };
    let oldest = whole_from(facts, kept.oldest, kept.progress.next);
    let yielded = queue_of(facts, &session, oldest);
    session.queue = match sound.index {
        true => facts.queue.iter().cloned().collect(),
        false => yielded.clone(),
    };
    // The newest state could not be read, and an older one stands in its place.
    let newer = facts.log.iter().filter(|(at, _)| *at >= kept.progress.next);
    let newer: Vec<_> = newer.collect();
    let mut surplus = Vec::new();
    if !newer.is_empty() {
        session.queue = yielded;
        let applied = newer.iter().take_while(|(at, record)| {
            let follows = *at == session.progress.next;
            if follows {
                session.apply(record);
            }
            follows
        });
        let applied = applied.count();
        if applied < newer.len() || !sound.log {
            surplus.extend(newer[applied..].iter().map(|(at, _)| *at));
            cut = Some("its newest state".to_owned());
        }
    } else if session.queue.len() as u64 != kept.queued {
        cut = Some("a part of its queue".to_owned());
    }
    if session.progress.closed.is_some() {
        return SessionVerdict::Closed;
    }
    if oldest > kept.oldest {
        let events = oldest.cursor;
        lost.push(format!("events up to {events}, which cannot be read"));
    }
    if let Some(missing) = missing(facts, &session, oldest) {
        cut.get_or_insert(missing);
    }
    mend_snapshot(facts, &mut session.progress, &mut cut, &mut lost);
    drop_lost_messages(facts, &mut session, &mut lost);
    let dead_letters = session.progress.dead_letters.min(dead_letters_kept);
    if !sound.index && facts.dead_letters < dead_letters {
        let count = dead_letters - facts.dead_letters;
        lost.push(format!("{count} of its dead letters"));
        session.progress.dead_letters = facts.dead_letters;
    }
    let points = facts.readable_points(session.progress.snapshot.at).len();
    if points < facts.point_entries {
        let count = facts.point_entries - points;
        lost.push(format!("{count} of its restore points"));
    }
    SessionVerdict::GoesOn(Box::new(Salvaged {
        session,
        oldest,
        surplus,
        cut: cut.map(|missing| format!("{missing} could not be read")),
        lost,
    }))
}

/// Returns the position from which on the log has every record up to `next`, at least `oldest`.
fn whole_from(facts: &SessionFacts, oldest: LogPos, next: LogPos) -> LogPos {
    let mut from = next;
    let within = |at: &LogPos| *at >= oldest && *at < next;
    for (at, record) in facts.log.iter().rev().filter(|(at, _)| within(at)) {
        if behind(*at, record) != from {
            break;
        }
        from = *at;
    }
    from
}

/// Returns the queue as the records from `from` on yield it.
fn queue_of(facts: &SessionFacts, session: &Session, from: LogPos) -> VecDeque<Queued> {
    let next = session.progress.next;
    let mut folded = session.clone();
    folded.progress.next = from;
    folded.progress.open = None;
    folded.queue.clear();
    for (at, record) in &facts.log {
        if *at >= from && *at < next {
            folded.apply(record);
        }
    }
    // The open turn's message was taken off before the log's first record.
    let open = session.progress.open.as_ref();
    let open = open.map(|open| &open.queued.id);
    folded.queue.retain(|queued| Some(&queued.id) != open);
    folded.queue
}

/// Returns what the session needs and does not have, its snapshot aside.
fn missing(facts: &SessionFacts, session: &Session, oldest: LogPos) -> Option<String> {
    let open = session.progress.open.as_ref();
    if open.is_some_and(|open| !facts.has_message(open.queued.pos)) {
        return Some("the message of its open turn".to_owned());
    }
    if open.is_some_and(|open| open.from < oldest && open.resumes()) {
        return Some("the journal of its open turn".to_owned());
    }
    let lost = |queued: &&Queued| !facts.has_message(queued.pos);
    let queued = session.queue.iter().filter(lost).count();
    (queued > 0).then(|| format!("{queued} of its queued messages"))
}

/// Takes queued messages whose texts are not there off the queue, and ends the open turn if it is about
/// such a one: without it the turn can neither go on nor become a dead letter.
fn drop_lost_messages(facts: &SessionFacts, session: &mut Session, lost: &mut Vec<String>) {
    let open = session.progress.open.as_ref();
    if let Some(open) = open.filter(|open| !facts.has_message(open.queued.pos)) {
        let (turn, message) = (open.begun.turn, &open.queued.id);
        lost.push(format!("message {message}, whose turn {turn} was open"));
        session.progress.open = None;
    }
    session.queue.retain(|queued| {
        let is_there = facts.has_message(queued.pos);
        if !is_there {
            lost.push(format!("message {}", queued.id));
        }
        is_there
    });
}

/// Falls back to the snapshot before the present one, if that cannot be made again.
fn mend_snapshot(
    facts: &SessionFacts,
    progress: &mut SessionProgress,
    cut: &mut Option<String>,
    lost: &mut Vec<String>,
) {
    if facts.has_snapshot(progress.snapshot.at) {
        return;
    }
    // That of a rewind is the point's, once more.
    if rewound_to(facts, progress.snapshot.at).is_some_and(|to| facts.has_snapshot(to)) {
        return;
    }
    let previous = progress
        .previous
        .filter(|previous| facts.has_snapshot(previous.at));
    let Some(previous) = previous else {
        cut.get_or_insert("its last two snapshots".to_owned());
        if let Some(newest) = facts.newest_that_stands() {
            fall_back(progress, newest);
        } else {
            lost.push("all of its snapshots: it cannot go on".to_owned());
        }
        return;
    };
    let from = progress.last.as_ref().map(|last| last.from);
    let is_whole = from.is_some_and(|from| {
        let upto = progress.snapshot.at;
        whole_from(facts, from, upto) == from && has_record(facts, upto)
    });
    let message = progress.last.as_ref().map(|last| last.message);
    if is_whole && message.is_some_and(|at| facts.has_message(at)) {
        return;
    }
    cut.get_or_insert("its last snapshot".to_owned());
    fall_back(progress, previous);
}

/// Returns the position of the point that the session was rewound to by the record at `at`, if it was.
fn rewound_to(facts: &SessionFacts, at: LogPos) -> Option<LogPos> {
    let found = facts.log.binary_search_by_key(&at, |(at, _)| *at).ok()?;
    match &facts.log[found].1 {
        Record::Rewound(rewound) => Some(rewound.to),
        _ => None,
    }
}

fn has_record(facts: &SessionFacts, at: LogPos) -> bool {
    facts.log.binary_search_by_key(&at, |(at, _)| *at).is_ok()
}
