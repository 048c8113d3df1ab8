//! Checks copies: the history of each is that of its source up to the point, event by event, and what
//! follows cannot be taken for the source's. The source is not changed by it.

use serde_json::Value;

use crate::Event;
use crate::checker::states::own;
use crate::checker::{CopyFacts, CopyKind, Facts, SessionFacts, Verdict, ViolationKind};

pub(super) fn check(session: &SessionFacts, facts: &Facts, verdict: &mut Verdict) {
    let begins = session.events.len() - own(&session.events).len();
    let mine = &session.events[begins..];
    let Some(copy) = &session.copy_of else {
        // Only a copy has a beginning, and only one.
        if let Some(event) = mine.first().filter(|event| event.kind == "origin") {
            wrong(session, verdict, &format!("is none, and has {event:?}"));
        }
        return;
    };
    verdict.count("copies", 1);
    let Some(origin) = mine.first().filter(|event| event.kind == "origin") else {
        return wrong(session, verdict, "has no event of its beginning");
    };
    let history = &session.events[..begins];
    let point = origin.cursor - 1;
    let is_it = origin.how.as_deref() == Some(copy.how.as_str())
        && origin.session.as_ref() == Some(&copy.source)
        && copy.at.is_none_or(|at| at == point)
        && (copy.at.is_some() || point >= copy.present);
    if !is_it {
        wrong(
            session,
            verdict,
            &format!("of {copy:?} begins with {origin:?}"),
        );
    }
    timeline(session, copy, history, mine, verdict);
    let source = facts.sessions.iter().find(|other| other.id == copy.source);
    let Some(source) = source.filter(|source| source.touched.is_none()) else {
        return;
    };
    let (copied, original) = (session.json.get(..begins), source.json.get(..begins));
    if copied.is_none() || copied != original {
        let (copied, original) = (copied.unwrap_or_default(), original.unwrap_or_default());
        let mut pairs = copied.iter().zip(original);
        let first: Option<(&Value, &Value)> = pairs.find(|(copied, original)| copied != original);
        let what = format!(
            "has {} events of {} of its source; the first that differs: {first:?}",
            copied.len(),
            original.len()
        );
        wrong(session, verdict, &what);
    }
}

/// A fork goes on in its source's timeline; an import begins one of its own.
fn timeline(
    session: &SessionFacts,
    copy: &CopyFacts,
    history: &[Event],
    mine: &[Event],
    verdict: &mut Verdict,
) {
    let before = history.last().and_then(|event| event.timeline.as_ref());
    let begun = mine.first().and_then(|event| event.timeline.as_ref());
    let fits = match copy.how {
        CopyKind::Forked => begun == before,
        CopyKind::Imported => {
            let mut known = history.iter().map(|event| event.timeline.as_ref());
            let previous = mine.first().and_then(|event| event.previous.as_ref());
            let named = previous.map(|previous| previous["timeline"].as_str());
            let last = previous.and_then(|previous| previous["last"].as_u64());
            begun.is_some()
                && known.all(|known| known != begun)
                && named == Some(before.map(String::as_str))
                && last == Some(history.len() as u64)
        }
    };
    if !fits || mine.iter().any(|event| event.timeline.as_ref() != begun) {
        let timelines: Vec<_> = mine.iter().map(|event| &event.timeline).collect();
        let what = format!("goes on from timeline {before:?} in {timelines:?}");
        wrong(session, verdict, &what);
    }
}

fn wrong(session: &SessionFacts, verdict: &mut Verdict, what: &str) {
    let text = format!("{}: the copy {what}", session.id);
    verdict.wrong(ViolationKind::Copy, text);
}
