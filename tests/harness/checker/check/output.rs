//! Checks the output of turns: exactly what their scripts request, each script once.

use std::collections::BTreeMap;

use serde_json::Value;

use super::messages::Scripts;
use super::turns::Turn;
use crate::checker::facts::done_script;
use crate::checker::{Act, ActReport, Script, SessionFacts, Verdict, ViolationKind};

/// What identifies an act: number, kind, part, token.
type ActIdentity = (usize, String, Option<usize>, Option<String>);

pub(super) fn check(
    session: &SessionFacts,
    turns: &[Turn<'_>],
    scripts: &Scripts<'_>,
    verdict: &mut Verdict,
) {
    let id = &session.id;
    let mut performed: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for turn in turns {
        let number = turn.number;
        for script in turn.events.iter().filter_map(|event| done_script(event)) {
            performed.entry(script).or_default().push(number);
        }
        let mine: Vec<_> = turn
            .consumed
            .iter()
            .filter_map(|it| scripts.get(it))
            .collect();
        let reported: Vec<ActReport> = turn.told("act");
        for script in &mine {
            acts(id, number, script, &reported, verdict);
        }
        for act in &reported {
            result(id, number, act, verdict);
            if !mine.iter().any(|script| script.id == act.script) {
                let text = format!(
                    "{id}: turn {number} did act {} of {}, which it has not consumed",
                    act.n, act.script
                );
                verdict.wrong(ViolationKind::DoubledTurn, text);
            }
        }
        said(id, turn, &mine, verdict);
        received(id, turn, &reported, verdict);
    }
    for (script, turns) in performed {
        if turns.len() > 1 {
            let text = format!("{id}: {script} was done in turns {turns:?}");
            verdict.wrong(ViolationKind::DoubledTurn, text);
        }
    }
}

/// Checks that a turn reports all acts of one script, in order.
fn acts(id: &str, number: u64, script: &Script, reported: &[ActReport], verdict: &mut Verdict) {
    let expected: Vec<ActIdentity> = script
        .acts
        .iter()
        .enumerate()
        .flat_map(|(n, act)| shapes(n, act))
        .collect();
    let mine = reported.iter().filter(|act| act.script == script.id);
    let found: Vec<ActIdentity> = mine
        .clone()
        .map(|act| (act.n, act.kind.clone(), act.part, act.token.clone()))
        .collect();
    if found != expected {
        let text = format!(
            "{id}: turn {number} did {found:?} of {}, not {expected:?}",
            script.id
        );
        verdict.wrong(ViolationKind::Output, text);
    }
    for act in mine {
        if let Some(Act::Llm { text }) = script.acts.get(act.n)
            && act.result == "ok"
            && !act
                .value
                .as_str()
                .is_some_and(|answer| answer.starts_with(&format!("re: {text}")))
        {
            let text = format!("{id}: turn {number} was answered {} to {text:?}", act.value);
            verdict.wrong(ViolationKind::Output, text);
        }
    }
}

fn shapes(n: usize, act: &Act) -> Vec<ActIdentity> {
    let kind = act.kind().to_owned();
    match act {
        Act::Call(call) => vec![(n, kind, None, Some(call.token.clone()))],
        Act::CallAll { calls } => calls
            .iter()
            .enumerate()
            .map(|(part, call)| (n, kind.clone(), Some(part), Some(call.token.clone())))
            .collect(),
        Act::Timer { name, .. } => vec![(n, kind, None, Some(name.clone()))],
        _ => vec![(n, kind, None, None)],
    }
}

/// Nothing in the programs fails, so an error is the daemon's. Calls are checked further in
/// `effects`.
fn result(id: &str, number: u64, act: &ActReport, verdict: &mut Verdict) {
    let ActReport {
        script,
        n,
        kind,
        result,
        ..
    } = act;
    let is_call = matches!(kind.as_str(), "call" | "call_all");
    match result.as_str() {
        "ok" => {}
        "unknown" if is_call => {}
        "unknown" => {
            let text = format!("{id}: turn {number}: the outcome of {kind} is unknown");
            verdict.wrong(ViolationKind::ToldUnknown, text);
        }
        error => {
            let text = format!("{id}: turn {number}: {kind} (act {n} of {script}) gave {error}");
            verdict.wrong(ViolationKind::Output, text);
        }
    }
}

/// Checks the turn's assistant messages: one for each `say`, and an end per script.
fn said(id: &str, turn: &Turn<'_>, scripts: &[&Script], verdict: &mut Verdict) {
    let assistant = turn
        .events
        .iter()
        .filter(|event| event.is_from("assistant"));
    let ended: Vec<&str> = assistant
        .clone()
        .filter_map(|event| done_script(event))
        .collect();
    let mut found: Vec<&str> = assistant
        .filter(|event| done_script(event).is_none())
        .map(|event| event.said())
        .collect();
    let mut expected: Vec<&str> = scripts
        .iter()
        .flat_map(|script| &script.acts)
        .filter_map(|act| match act {
            Act::Say { text } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    found.sort_unstable();
    expected.sort_unstable();
    if found != expected {
        let text = format!(
            "{id}: turn {} says {found:?}, not {expected:?}",
            turn.number
        );
        verdict.wrong(ViolationKind::Output, text);
    }
    for script in scripts {
        let times = ended.iter().filter(|ended| **ended == script.id).count();
        if times != 1 {
            let text = format!(
                "{id}: turn {} consumed {} and ended it {times} times",
                turn.number, script.id
            );
            verdict.wrong(ViolationKind::Output, text);
        }
    }
}

/// Checks that the messages which the guest received are those that the turn has recorded as
/// consumed.
fn received(id: &str, turn: &Turn<'_>, reported: &[ActReport], verdict: &mut Verdict) {
    let receives = reported.iter().filter(|act| act.kind == "receive");
    let by_guest: Vec<&str> = receives
        .filter_map(|act| act.value.as_array())
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let by_host = turn.consumed.get(1..).unwrap_or_default();
    if by_guest != by_host {
        let text = format!(
            "{id}: turn {} consumed {by_host:?} beside its own message, and its guest received \
             {by_guest:?}",
            turn.number
        );
        verdict.wrong(ViolationKind::DoubledTurn, text);
    }
}
