//! Checks rewinds: one that was acknowledged left exactly one event, one whose answer was lost at most one,
//! and nothing else did.

use std::collections::BTreeMap;

use crate::checker::states::own;
use crate::checker::{RewindAnswer, SessionFacts, Verdict, ViolationKind};

pub(super) fn check(session: &SessionFacts, verdict: &mut Verdict) {
    let id = &session.id;
    let rewound = own(&session.events)
        .iter()
        .filter(|event| event.kind == "rewound");
    let mut unclaimed: BTreeMap<u64, _> = rewound.map(|event| (event.cursor, event)).collect();
    verdict.count("rewinds", unclaimed.len());
    let mut lost = Vec::new();
    for asked in &session.rewinds {
        let Some(RewindAnswer { cursor, turn }) = asked.answer else {
            lost.push(asked.to);
            continue;
        };
        let fits = unclaimed
            .remove(&cursor)
            .is_some_and(|event| (event.to_cursor, event.to_turn) == (Some(asked.to), Some(turn)));
        if !fits {
            let text = format!("{id}: {asked:?} was acknowledged, and its event is not there");
            verdict.wrong(ViolationKind::Rewind, text);
        }
    }
    for (cursor, event) in unclaimed {
        let of = lost.iter().position(|to| Some(*to) == event.to_cursor);
        match of {
            Some(at) => drop(lost.swap_remove(at)),
            None => {
                let text = format!(
                    "{id}: nobody asked for the rewind at {cursor}, or it was done twice: {event:?}"
                );
                verdict.wrong(ViolationKind::Rewind, text);
            }
        }
    }
}
