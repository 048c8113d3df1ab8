//! Checks timers: each one that a committed turn has set is delivered once, and not before it is
//! due.

use std::collections::BTreeMap;

use super::messages::Scripts;
use super::turns::Turn;
use crate::Event;
use crate::checker::{SessionFacts, TimerReport, Verdict, ViolationKind};

/// Maximum difference between the turn's clock and the time of its first event, in milliseconds.
const CLOCK_SLACK_MS: u64 = 50;

struct Set {
    /// The earliest time at which it may be due.
    from_ms: u64,
    script: String,
}

pub(super) fn check(
    session: &SessionFacts,
    turns: &[Turn<'_>],
    scripts: &Scripts<'_>,
    verdict: &mut Verdict,
) {
    let id = &session.id;
    let mut set = BTreeMap::new();
    for turn in turns {
        let consumed = turn.consumed.iter().filter_map(|it| scripts.get(it));
        for script in consumed {
            for (name, after_ms, script) in script.timers() {
                let from_ms = (turn.started_ms + after_ms).saturating_sub(CLOCK_SLACK_MS);
                let script = script.id.clone();
                set.insert(name.to_owned(), Set { from_ms, script });
            }
        }
    }
    verdict.count("timers", set.len());
    let mut delivered: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in session.events.iter().filter(|event| event.is_from("timer")) {
        let name = event.name.as_deref().unwrap_or_default();
        delivered.entry(name).or_default().push(event);
    }
    for (name, Set { script, .. }) in &set {
        match delivered.get(name.as_str()).map_or(0, Vec::len) {
            0 => verdict.wrong(
                ViolationKind::TimerLost,
                format!("{id}: timer {name} never came"),
            ),
            1 => {}
            times => verdict.wrong(
                ViolationKind::TimerDoubled,
                format!("{id}: timer {name} came {times} times"),
            ),
        }
        let other = |event: &&&Event| {
            let message = event.message.as_deref().unwrap_or_default();
            scripts
                .get(message)
                .is_none_or(|brought| brought.id != *script)
        };
        if let Some(event) = delivered
            .get(name.as_str())
            .and_then(|it| it.iter().find(other))
        {
            let text = format!("{id}: timer {name} says {:?}, not {script}", event.said());
            verdict.wrong(ViolationKind::TimerDoubled, text);
        }
    }
    for name in delivered.keys().filter(|name| !set.contains_key(**name)) {
        let text = format!("{id}: timer {name} came, and no committed turn has set it");
        verdict.wrong(ViolationKind::TimerDoubled, text);
    }
    for turn in turns {
        for TimerReport {
            name,
            due_ms,
            at_ms,
        } in turn.told("timer")
        {
            let from_ms = set.get(&name).map_or(0, |set| set.from_ms);
            if at_ms < due_ms || due_ms < from_ms {
                let text = format!(
                    "{id}: timer {name} came at {at_ms}, was due at {due_ms}, and by its turn's \
                     clock not before {from_ms}"
                );
                verdict.wrong(ViolationKind::TimerEarly, text);
            }
        }
    }
}
