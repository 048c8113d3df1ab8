//! What should not be so.

use std::collections::BTreeMap;

use crate::plan;
use crate::relay::Passed;
use crate::run::Outcome;
use crate::script::DONE;
use crate::transcript;

/// What is wrong with a run in which nothing happened.
pub(crate) fn alone(outcome: &Outcome) -> Vec<String> {
    let mut wrong = any(outcome);
    let transcript = &outcome.transcript;
    wrong.extend(transcript.wrong.iter().cloned());
    let calls = plan::plan().iter().flatten().count();
    for (what, found, expected) in [
        ("calls of tools", transcript.deeds.len(), calls),
        ("unknown outcomes", transcript.unknown, 0),
        ("recovery messages", transcript.recoveries, 0),
    ] {
        if found != expected {
            wrong.push(format!("{what}: {found} instead of {expected}"));
        }
    }
    wrong
}

/// What is wrong with a run that was disturbed, beside one that was not.
pub(crate) fn disturbed(alone: &Outcome, outcome: &Outcome) -> Vec<String> {
    let mut wrong = any(outcome);
    wrong.extend(outcome.transcript.differences(&alone.transcript));
    let paths = alone.files.keys().chain(outcome.files.keys());
    for path in paths.filter(|path| !path.ends_with(transcript::LEFTOVER)) {
        let (expected, found) = (alone.files.get(path), outcome.files.get(path));
        if expected != found {
            wrong.push(format!("{path} is {found:?} instead of {expected:?}"));
        }
    }
    wrong.sort();
    wrong.dedup();
    wrong
}

/// What is wrong with any run.
fn any(outcome: &Outcome) -> Vec<String> {
    let mut wrong = outcome.wrong_events.clone();
    if outcome.status != "completed" || outcome.said != [DONE] {
        let (status, said) = (&outcome.status, &outcome.said);
        wrong.push(format!("the turn {status} and says {said:?}"));
    }
    if outcome.replay["verdict"] != "deterministic" {
        wrong.push(format!("run again offline: {}", outcome.replay));
    }
    let mut came: BTreeMap<_, usize> = BTreeMap::new();
    for line in &outcome.relayed {
        if line.passed == Passed::Came && line.once() {
            *came.entry((&line.key, &line.tool)).or_default() += 1;
        }
    }
    for ((key, tool), times) in came.iter().filter(|(_, times)| **times > 1) {
        wrong.push(format!("{tool} was called {times} times as {key}"));
    }
    wrong
}
