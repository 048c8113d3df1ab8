//! The scripted model: a pure function of the conversation. It follows the plan; when the outcome
//! of a call is reported as unknown, it first checks whether the call took effect, and repeats it
//! only if not.
//!
//! The id of a call states its purpose: `s07_0` is the first call of step 7, `s07_0_check1` checks
//! whether it took effect, `s07_0_try1` repeats it. The ids may come back changed, because the
//! daemon assigns ids of its own; which call is which follows from the order.

use std::collections::BTreeMap;

use abide_tests::{Answer, AskedCall, message_text, notices_apart};
use serde_json::{Value, json};

use crate::plan::{AgentPlan, PlannedCall};

/// The model's final text.
pub(crate) const DONE: &str = "All steps are done.";
/// Number of attempts at one call before the model gives up.
const PATIENCE: usize = 100;

/// The outcome of a call as the assistant reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallVerdict {
    /// The call took effect and returned this result.
    Done,
    /// The tool executed and reported an error.
    Error,
    /// The call was not made.
    Refused,
    /// The call was interrupted and its outcome is unknown.
    Unknown,
    /// Any other failure that leaves open whether the call took effect.
    Trouble,
}

impl CallVerdict {
    /// Classifies a result by the phrases that the assistant uses.
    pub(crate) fn of(result: &str) -> Self {
        const WORDS: [(&str, CallVerdict); 9] = [
            ("unknown-outcome", CallVerdict::Unknown),
            ("The tool reports an error", CallVerdict::Error),
            ("The tool was not called", CallVerdict::Refused),
            ("Nothing was called", CallVerdict::Refused),
            ("Nothing was done", CallVerdict::Refused),
            ("The tool cannot be reached", CallVerdict::Trouble),
            ("The tool took too long", CallVerdict::Trouble),
            ("The call or its result is over", CallVerdict::Trouble),
            ("The tool's server answered", CallVerdict::Trouble),
        ];
        let known = WORDS.iter().find(|(words, _)| result.starts_with(words));
        known.map_or(Self::Done, |(_, verdict)| *verdict)
    }
}

/// The progress of a call.
enum Progress {
    Done,
    Asks(AskedCall),
    Stuck(String),
}

/// The results in a conversation, by the script's ids of their calls.
#[derive(Default)]
struct Results(BTreeMap<String, String>);

impl Results {
    fn verdict(&self, id: &str) -> Option<(CallVerdict, &str)> {
        let text = self.0.get(id)?;
        Some((CallVerdict::of(text), text))
    }

    fn progress(&self, id: &str, call: &PlannedCall) -> Progress {
        for attempt in 0..PATIENCE {
            let this = match attempt {
                0 => id.to_owned(),
                attempt => format!("{id}_try{attempt}"),
            };
            match self.verdict(&this) {
                None => {
                    return Progress::Asks(AskedCall {
                        id: this,
                        name: call.tool.to_owned(),
                        arguments: call.arguments.clone(),
                    });
                }
                Some((CallVerdict::Done, _)) => return Progress::Done,
                Some((CallVerdict::Error | CallVerdict::Refused, text)) => {
                    return Progress::Stuck(format!("{this}: {text}"));
                }
                Some((CallVerdict::Unknown | CallVerdict::Trouble, _)) => {}
            }
            match self.happened(&this, call) {
                Happened::Yes => return Progress::Done,
                Happened::No => {}
                Happened::Asks(check) => return Progress::Asks(check),
            }
        }
        Progress::Stuck(format!("{id}: {PATIENCE} attempts"))
    }

    fn happened(&self, id: &str, call: &PlannedCall) -> Happened {
        let Some(check) = &call.check else {
            // The call has no side effects, so it can be repeated.
            return Happened::No;
        };
        for n in 1.. {
            let this = format!("{id}_check{n}");
            match self.verdict(&this) {
                None => {
                    return Happened::Asks(AskedCall {
                        id: this,
                        name: check.tool.to_owned(),
                        arguments: check.arguments.clone(),
                    });
                }
                Some((CallVerdict::Done, text)) if text.contains(&check.shows) => {
                    return Happened::Yes;
                }
                // An error is conclusive too: the file does not exist yet.
                Some((CallVerdict::Done | CallVerdict::Error | CallVerdict::Refused, _)) => break,
                Some((CallVerdict::Unknown | CallVerdict::Trouble, _)) => {}
            }
        }
        Happened::No
    }
}

enum Happened {
    Yes,
    No,
    Asks(AskedCall),
}

/// Returns a conversation as the script would write it: with the script's own call ids, and with
/// the host's notices as separate messages.
pub(crate) fn own(plan: &AgentPlan, messages: &[Value]) -> Vec<Value> {
    read(plan, messages).0
}

fn read(plan: &AgentPlan, messages: &[Value]) -> (Vec<Value>, Results) {
    let mut results = Results::default();
    // For each call of the last answer, the id that came back and the script's id.
    let mut open: Vec<(Value, String)> = Vec::new();
    let mut own = notices_apart(messages);
    for message in &mut own {
        if let Some(calls) = message.get_mut("tool_calls").and_then(Value::as_array_mut) {
            let asked = next(plan, &results).1.calls.into_iter();
            open = calls
                .iter_mut()
                .zip(asked)
                .map(|(call, asked)| {
                    (
                        std::mem::replace(&mut call["id"], json!(asked.id)),
                        asked.id,
                    )
                })
                .collect();
        }
        let Some(id) = message["tool_call_id"].as_str().map(str::to_owned) else {
            continue;
        };
        let meant = open.iter().find(|(came, _)| *came == id);
        let id = meant.map_or(id, |(_, own)| own.clone());
        message["tool_call_id"] = json!(id);
        results.0.insert(id, message_text(message));
    }
    (own, results)
}

/// Returns the step that a conversation has reached, from 0, and the model's next answer.
pub(crate) fn follow(plan: &AgentPlan, messages: &[Value]) -> (usize, Answer) {
    next(plan, &read(plan, messages).1)
}

fn next(plan: &AgentPlan, results: &Results) -> (usize, Answer) {
    for (step, calls) in plan.iter().enumerate() {
        let mut answer = Answer::default();
        for (n, call) in calls.iter().enumerate() {
            match results.progress(&format!("s{step:02}_{n}"), call) {
                Progress::Done => {}
                Progress::Asks(call) => answer.calls.push(call),
                Progress::Stuck(why) => {
                    answer.text = format!("I give up at {why}");
                    answer.calls.clear();
                    return (step, answer);
                }
            }
        }
        if !answer.calls.is_empty() {
            answer.text = format!("Step {step}.");
            return (step, answer);
        }
    }
    let text = DONE.to_owned();
    let calls = Vec::new();
    (plan.len(), Answer { text, calls })
}
