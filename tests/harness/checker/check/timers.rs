//! Checks timers: each one that a committed turn has set is delivered once, and not before it is
//! due, unless a rewind drops it.

use std::collections::BTreeMap;

use super::messages::Scripts;
use super::turns::Turn;
use crate::Event;
use crate::checker::states::own;
use crate::checker::timer_ledger::TimerLedger;
use crate::checker::{SessionFacts, TimerReport, Verdict, ViolationKind};

pub(super) fn check(
    session: &SessionFacts,
    turns: &[Turn<'_>],
    scripts: &Scripts<'_>,
    verdict: &mut Verdict,
) {
    let id = &session.id;
    let ledger = TimerLedger::of(&session.events);
    verdict.count("timers", ledger.ever.len());
    for (kind, text) in &ledger.wrong {
        verdict.wrong(*kind, format!("{id}: {text}"));
    }
    for name in ledger.set() {
        let text = format!("{id}: timer {name} never came");
        verdict.wrong(ViolationKind::TimerLost, text);
    }
    let mut delivered: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    let events = own(&session.events).iter();
    for event in events.filter(|event| event.is_from("timer")) {
        let name = event.name.as_deref().unwrap_or_default();
        delivered.entry(name).or_default().push(event);
    }
    for (name, events) in delivered {
        let Some(set) = ledger.ever.get(name) else {
            let text = format!("{id}: timer {name} came, and no committed turn has set it");
            verdict.wrong(ViolationKind::TimerDoubled, text);
            continue;
        };
        if events.len() > 1 {
            let text = format!("{id}: timer {name} came {} times", events.len());
            verdict.wrong(ViolationKind::TimerDoubled, text);
        }
        let is_other = |event: &&&Event| {
            let message = event.message.as_deref().unwrap_or_default();
            scripts
                .get(message)
                .is_none_or(|brought| brought.id != set.script)
        };
        if let Some(event) = events.iter().find(is_other) {
            let text = format!(
                "{id}: timer {name} says {:?}, not {}",
                event.said(),
                set.script
            );
            verdict.wrong(ViolationKind::TimerDoubled, text);
        }
    }
    for turn in turns {
        for TimerReport {
            name,
            due_ms,
            at_ms,
        } in turn.told("timer")
        {
            let from_ms = ledger.ever.get(&name).map_or(0, |set| set.from_ms);
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
