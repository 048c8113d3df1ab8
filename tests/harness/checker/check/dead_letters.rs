//! Checks dead letters: the message of each turn that a rewind has cancelled is one, and no other message.

use serde_json::Value;

use super::turns::Turns;
use crate::checker::{SessionFacts, Verdict, ViolationKind};

pub(super) fn check(session: &SessionFacts, turns: &Turns<'_>, verdict: &mut Verdict) {
    let id = &session.id;
    let mut expected: Vec<&str> = turns
        .own_cancelled()
        .iter()
        .map(|turn| turn.message)
        .collect();
    for letter in &session.dead_letters {
        let read: Value = serde_json::from_str(letter).unwrap_or_default();
        let is_cancelled = read["reason"]["code"] == "cancelled";
        let place = expected
            .iter()
            .position(|message| read["message"]["id"] == **message && is_cancelled);
        match place {
            Some(at) => drop(expected.swap_remove(at)),
            None => verdict.wrong(
                ViolationKind::Failed,
                format!("{id}: a dead letter: {letter}"),
            ),
        }
    }
    for message in expected {
        let text = format!("{id}: the turn over {message} was cancelled, and it is no dead letter");
        verdict.wrong(ViolationKind::Lost, text);
    }
}
