//! Checks of a run's outcome.

use std::collections::BTreeMap;

use crate::plan;
use crate::relay::Passed;
use crate::run::RunOutcome;
use crate::script::DONE;
use crate::transcript;

/// Returns what is wrong with an undisturbed run.
pub(crate) fn alone(outcome: &RunOutcome) -> Vec<String> {
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

/// Returns what is wrong with a disturbed run, compared with an undisturbed one.
pub(crate) fn disturbed(alone: &RunOutcome, outcome: &RunOutcome) -> Vec<String> {
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

/// Returns what is wrong with a run, whether disturbed or not.
fn any(outcome: &RunOutcome) -> Vec<String> {
    let mut wrong = outcome.wrong_events.clone();
    if outcome.status != "completed" || outcome.said != [DONE] {
        let (status, texts) = (&outcome.status, &outcome.said);
        wrong.push(format!("the turn {status} and says {texts:?}"));
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
