//! Checks the notices of a replaced state: the turn after a rewind, and the first one of a copy, gets
//! exactly one, and no other turn does.

use std::collections::BTreeMap;

use super::turns::{Turn, Turns};
use crate::Event;
use crate::checker::states::{own, replaces};
use crate::checker::{SessionFacts, Verdict, ViolationKind};

/// The causes of such notices.
const CAUSES: &[&str] = &["rewound", "forked", "imported"];

/// Returns whether a notice is about a replaced state. It may be about a restart as well.
pub(super) fn is_of_replaced(notice: &Event) -> bool {
    let cause = notice.cause.as_deref().unwrap_or_default();
    CAUSES.contains(&cause)
}

pub(super) fn check(session: &SessionFacts, turns: &Turns<'_>, verdict: &mut Verdict) {
    let by_end: BTreeMap<u64, &Turn<'_>> =
        turns.own().iter().map(|turn| (turn.end, turn)).collect();
    // The last event since the last commit by which the state was replaced.
    let mut owed: Option<&Event> = None;
    for event in own(&session.events) {
        if replaces(event) {
            owed = Some(event);
        } else if let Some(turn) = by_end.get(&event.cursor) {
            told(&session.id, turn, owed.take(), verdict);
        }
    }
}

fn told(id: &str, turn: &Turn<'_>, owed: Option<&Event>, verdict: &mut Verdict) {
    let number = turn.number;
    let notices: Vec<_> = turn
        .notices()
        .filter(|notice| is_of_replaced(notice))
        .collect();
    let wrong = match (owed, &notices[..]) {
        (None, []) => return,
        (Some(owed), [notice]) => {
            let cause = owed.how.as_deref().unwrap_or("rewound");
            // The last one may stand behind another.
            if notice.cause.as_deref() == Some(cause) && notice.said().contains(owed.said()) {
                return;
            }
            (ViolationKind::NoticeWrong, "is told otherwise")
        }
        (None, _) => (ViolationKind::NoticeWrong, "is told without a reason"),
        (Some(_), []) => (ViolationKind::NoticeMissing, "is not told"),
        (Some(_), _) => (ViolationKind::NoticeDoubled, "is told twice"),
    };
    let (kind, what) = wrong;
    let text = format!(
        "{id}: turn {number} {what} that its session's state was replaced: {owed:?}, {notices:?}"
    );
    verdict.wrong(kind, text);
}
