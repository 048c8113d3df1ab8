//! Checks which state each turn began with: the guest counts its turns in its state, and a rewind brings
//! back the count of its point.

use std::collections::BTreeMap;

use super::turns::{Turn, Turns};
use crate::checker::facts::done;
use crate::checker::states::{States, own, replaces};
use crate::checker::{ListedPoint, SessionFacts, Verdict, ViolationKind};

/// A state of a session.
#[derive(Clone, Copy, Default)]
struct Counted {
    /// The turn after which the session was so.
    turn: u64,
    /// The turns that the guest has counted.
    count: u64,
}

pub(super) fn check(session: &SessionFacts, turns: &Turns<'_>, verdict: &mut Verdict) {
    let id = &session.id;
    let by_end: BTreeMap<u64, &Turn<'_>> = turns
        .completed
        .iter()
        .map(|turn| (turn.end, turn))
        .collect();
    let own_from = own(&session.events).first().map_or(0, |event| event.cursor);
    let mut states = States::new(Counted::default());
    // The turn of each state that the daemon may list.
    let mut listable = BTreeMap::from([(0, 0)]);
    for event in &session.events {
        let cursor = event.cursor;
        if let Some(turn) = by_end.get(&cursor) {
            let count = states.present().count + 1;
            if cursor >= own_from {
                counted(id, turn, count, verdict);
            }
            let turn = turn.number;
            states.commit(cursor, Counted { turn, count });
        } else if replaces(event) {
            let is_known = states.replace(event);
            let turn = states.present().turn;
            if !is_known || event.to_turn.is_some_and(|to| to != turn) {
                let text = format!(
                    "{id}: the {} at {cursor} leads to a state that never was (cursor {:?}, turn \
                     {:?})",
                    event.kind, event.to_cursor, event.to_turn
                );
                verdict.wrong(ViolationKind::Rewind, text);
            }
        } else {
            continue;
        }
        if cursor == own_from && event.kind == "origin" {
            listable.clear();
        }
        listable.insert(cursor, states.present().turn);
    }
    for ListedPoint { cursor, turn } in &session.points {
        if listable.get(cursor) != Some(turn) {
            let text = format!("{id}: point {cursor} after turn {turn} was listed, and never was");
            verdict.wrong(ViolationKind::Rewind, text);
        }
    }
}

fn counted(id: &str, turn: &Turn<'_>, count: u64, verdict: &mut Verdict) {
    let number = turn.number;
    for (_, counted) in turn.events.iter().filter_map(|event| done(event)) {
        if counted != count {
            let text = format!(
                "{id}: turn {number} is the {count}th of its state, and the guest counts {counted}"
            );
            verdict.wrong(ViolationKind::Counter, text);
        }
    }
}
