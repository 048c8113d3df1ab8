//! Checks effects: compares what the tools have executed with the results that the guests received.

use std::collections::{BTreeMap, BTreeSet};

use super::keys::{placeless, turn_of};
use super::messages::Scripts;
use super::turns::Turns;
use crate::checker::{
    ActReport, Execution, Facts, ScriptedCall, SessionFacts, Verdict, ViolationKind,
};

/// Maximum difference between the clocks of the runner and the daemon, in milliseconds.
const SLACK_MS: u64 = 1000;

/// A call that a committed turn has made.
struct Made {
    session: String,
    turn: u64,
    /// When the turn started and ended.
    ran_ms: (u64, u64),
    call: ScriptedCall,
    /// The result that the guest received; `None` if its turn does not report one.
    result: Option<String>,
}

/// All calls of a run.
#[derive(Default)]
pub(super) struct ToolCalls {
    made: BTreeMap<String, Made>,
    /// The calls of all scripts that were accepted.
    asked: BTreeMap<String, ScriptedCall>,
    /// The tokens of sessions of which nothing is promised.
    passed_over: BTreeSet<String>,
    /// Those sessions.
    sessions_passed_over: BTreeSet<String>,
    /// The turns that were cancelled: what they received from the inbox went back there, and calls that it
    /// asks for are made again. The guest is told of those, see `undone`.
    cancelled: BTreeSet<(String, u64)>,
}

/// How often a call was executed.
#[derive(Default)]
struct Executed {
    /// By turns that completed.
    kept: usize,
    /// By each turn that was cancelled.
    cancelled: BTreeMap<u64, usize>,
}

impl ToolCalls {
    pub(super) fn collect(
        &mut self,
        session: &SessionFacts,
        turns: &Turns<'_>,
        scripts: &Scripts<'_>,
    ) {
        let cancelled = turns.own_cancelled().iter();
        self.cancelled
            .extend(cancelled.map(|turn| (session.id.clone(), turn.number)));
        let sent = session.acknowledged.iter();
        for script in sent.flat_map(|sent| sent.script.family()) {
            let calls = script.acts.iter().flat_map(|act| act.calls());
            self.asked
                .extend(calls.map(|call| (call.token.clone(), call.clone())));
        }
        for turn in turns.own() {
            let acts: Vec<ActReport> = turn.told("act");
            let results: BTreeMap<_, _> = acts
                .iter()
                .filter_map(|act| Some((act.token.as_deref()?, act.result.as_str())))
                .collect();
            let consumed = turn.consumed.iter().filter_map(|it| scripts.get(it));
            let calls = consumed
                .flat_map(|script| &script.acts)
                .flat_map(|act| act.calls());
            for call in calls {
                let token = &call.token;
                let made = Made {
                    session: session.id.clone(),
                    turn: turn.number,
                    ran_ms: (turn.started_ms, turn.ended_ms),
                    call: call.clone(),
                    result: results.get(token.as_str()).map(|&result| result.to_owned()),
                };
                self.made.insert(token.clone(), made);
            }
        }
    }

    /// Notes the calls of a session that is not checked.
    pub(super) fn pass_over(&mut self, session: &SessionFacts) {
        let sent = session.acknowledged.iter();
        let scripts = sent.flat_map(|sent| sent.script.family());
        let calls = scripts
            .flat_map(|script| &script.acts)
            .flat_map(|act| act.calls());
        self.passed_over
            .extend(calls.map(|call| call.token.clone()));
        self.sessions_passed_over.insert(session.id.clone());
    }

    /// Whether a session made a call that is not checked. It may have made it for a message whose
    /// acknowledgement its client never received.
    fn is_passed_over(&self, execution: &Execution) -> bool {
        let session = execution.key.split('/').next().unwrap_or_default();
        self.passed_over.contains(&execution.token) || self.sessions_passed_over.contains(session)
    }

    pub(super) fn check(&self, facts: &Facts, verdict: &mut Verdict) {
        verdict.count("calls", self.made.len());
        verdict.count("executions", facts.executions.len());
        let mut executed: BTreeMap<&str, Executed> = BTreeMap::new();
        for execution in &facts.executions {
            if !self.is_passed_over(execution) {
                let of = executed.entry(&execution.token).or_default();
                match self.cancelled_turn(&execution.key) {
                    Some(turn) => *of.cancelled.entry(turn).or_default() += 1,
                    None => of.kept += 1,
                }
            }
        }
        for (token, times) in &executed {
            let most = times.cancelled.values().copied().max().unwrap_or_default();
            match self.asked.get(*token) {
                None => verdict.wrong(
                    ViolationKind::Output,
                    format!("{token} was executed, and no script asks for it"),
                ),
                Some(call) if !call.is_repeatable() && most.max(times.kept) > 1 => verdict.wrong(
                    ViolationKind::ExecutedTwice,
                    format!(
                        "{} {token} was executed {} times, and by cancelled turns {:?} times",
                        call.tool, times.kept, times.cancelled
                    ),
                ),
                Some(_) => {}
            }
        }
        for (token, made) in &self.made {
            let times = executed.get(token.as_str()).map_or(0, |of| of.kept);
            self.call(facts, token, made, times, verdict);
        }
        self.keys(facts, verdict);
    }

    /// Returns the number of the turn that made a call with this key, if it was cancelled.
    fn cancelled_turn(&self, key: &str) -> Option<u64> {
        let (session, turn) = turn_of(key)?;
        let cancelled = self.cancelled.contains(&(session.to_owned(), turn));
        cancelled.then_some(turn)
    }

    fn call(&self, facts: &Facts, token: &str, made: &Made, times: usize, verdict: &mut Verdict) {
        let Made {
            session,
            turn,
            call,
            ran_ms,
            ..
        } = made;
        let what = format!("{session}: turn {turn}: {} {token}", call.tool);
        // A missing result is reported by the check of the output.
        let Some(result) = made.result.as_deref() else {
            return;
        };
        if result == "ok" {
            if times == 0 {
                let text = format!("{what} is ok, and was not executed");
                verdict.wrong(ViolationKind::NotExecuted, text);
            }
        } else if result == "unknown" {
            verdict.count("unknown told", 1);
            let (from, until) = *ran_ms;
            let interrupted = facts
                .disturbed
                .iter()
                .any(|(begin, end)| *begin <= until + SLACK_MS && from <= *end + SLACK_MS);
            if call.is_repeatable() {
                let text = format!("{what} can be repeated, and its outcome is unknown");
                verdict.wrong(ViolationKind::ToldUnknown, text);
            } else if !interrupted {
                let text = format!("{what} is unknown, and its turn was not interrupted");
                verdict.wrong(ViolationKind::ToldUnknown, text);
            }
        } else if times > 0 && !call.is_repeatable() {
            let text = format!("{what} gave {result}, and was executed");
            verdict.wrong(ViolationKind::ToldFailed, text);
        }
    }

    /// Checks that all executions of a call carry one key, and that no other call carries it. A turn
    /// that runs anew because nothing that binds it was executed may find more in its inbox, and so
    /// reach a call in a later step than before. A repeatable call is made before its plan, and the
    /// message that asks for it, are on disk: each power cut can have it made again by another turn.
    fn keys(&self, facts: &Facts, verdict: &mut Verdict) {
        let mut keys_of: BTreeMap<&str, BTreeSet<(&str, &str)>> = BTreeMap::new();
        let mut tokens_of: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for execution in &facts.executions {
            let (token, key) = (execution.token.as_str(), execution.key.as_str());
            // A call of a history that was cut is made again under another key, and so is one of a turn
            // that was cancelled. No other call has it, though.
            if !self.passed_over.contains(token) && self.cancelled_turn(key).is_none() {
                keys_of.entry(token).or_default().insert(placeless(key));
            }
            tokens_of.entry(key).or_default().insert(token);
            if key.is_empty() {
                verdict.wrong(
                    ViolationKind::Keys,
                    format!("{token} was executed without a key"),
                );
            }
        }
        let most = |token: &str| match self.asked.get(token) {
            Some(call) if call.is_repeatable() => 1 + facts.power_cuts,
            _ => 1,
        };
        for (token, keys) in keys_of
            .iter()
            .filter(|(token, keys)| keys.len() > most(token))
        {
            let text = format!("executions of {token} carry {} keys: {keys:?}", keys.len());
            verdict.wrong(ViolationKind::Keys, text);
        }
        let shared = |key: &str, tokens: &BTreeSet<&str>| !key.is_empty() && tokens.len() > 1;
        for (key, tokens) in tokens_of.iter().filter(|(key, tokens)| shared(key, tokens)) {
            verdict.wrong(
                ViolationKind::Keys,
                format!("{key} is the key of {tokens:?}"),
            );
        }
    }
}
