//! Checks events: cursors count from 1 without gaps, every reader saw the same, and nothing that
//! was read has changed.

use crate::Event;
use crate::checker::{SessionFacts, Verdict, ViolationKind};

pub(super) fn check(session: &SessionFacts, verdict: &mut Verdict) {
    let SessionFacts { id, events, .. } = session;
    verdict.count("events", events.len());
    in_order(id, "the pages", events, verdict);
    for trouble in &session.stream_troubles {
        verdict.wrong(
            ViolationKind::EventMissing,
            format!("{id}: a subscriber: {trouble}"),
        );
    }
    in_order(id, "a subscriber", &session.followed, verdict);
    same(id, "a subscriber", &session.followed, events, verdict);
    let seen = session.followed.last().map_or(0, |event| event.cursor);
    if seen < events.len() as u64 {
        verdict.wrong(
            ViolationKind::EventMissing,
            format!("{id}: a subscriber saw {seen} of {} events", events.len()),
        );
    }
    for page in &session.earlier {
        same(id, "an earlier page", page, events, verdict);
    }
    for message in &session.acknowledged {
        same(id, "who waited", &message.output, events, verdict);
    }
}

/// Checks that cursors count from 1.
fn in_order(id: &str, who: &str, events: &[Event], verdict: &mut Verdict) {
    let mut last = 0;
    for event in events {
        let found = event.cursor;
        if found > last + 1 {
            let text = format!("{id}: {who}: cursor {found} stands behind {last}");
            verdict.wrong(ViolationKind::EventMissing, text);
        } else if found <= last {
            let text = format!("{id}: {who}: cursor {found} comes again, behind {last}");
            verdict.wrong(ViolationKind::EventDoubled, text);
        }
        last = last.max(found);
    }
}

/// Checks that every event that a reader saw exists unchanged at the end.
fn same(id: &str, who: &str, seen: &[Event], events: &[Event], verdict: &mut Verdict) {
    for event in seen {
        let now = events.iter().find(|now| now.cursor == event.cursor);
        match now {
            Some(now) if now == event => {}
            Some(now) => verdict.wrong(
                ViolationKind::EventChanged,
                format!("{id}: {who} saw {event:?}, and now it is {now:?}"),
            ),
            None => verdict.wrong(
                ViolationKind::EventMissing,
                format!("{id}: {who} saw {event:?}, and now it is gone"),
            ),
        }
    }
}
