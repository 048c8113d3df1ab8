//! The parts that two conversations about the same plan must have in common: everything but
//! recovery messages, unknown outcomes, and the calls by which the model resolves those.

use std::collections::BTreeMap;

use abide_tests::message_text;
use serde_json::Value;

use crate::script::CallVerdict;

/// The suffix of the file that a tool server leaves behind when it is killed while it replaces a
/// file.
pub(crate) const LEFTOVER: &str = ".tmp";

/// The phrase of a recovery message about steps with an unknown outcome.
const NOBODY_KNOWS: &str = "Nobody knows whether these steps took effect";

/// A call of the plan, with all attempts at it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Deed {
    /// The tool and its arguments.
    pub(crate) call: (String, Value),
    /// The result; `None` if the outcome was unknown and a check found that the call took effect.
    pub(crate) result: Option<String>,
}

/// The relevant parts of a conversation.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    /// The texts, as `role: text`, in order.
    pub(crate) said: Vec<String>,
    /// The calls, by the id of their first attempt; ids sort in the order of the plan.
    pub(crate) deeds: BTreeMap<String, Deed>,
    /// Number of recovery messages.
    pub(crate) recoveries: usize,
    /// Number of recovery messages that list steps with an unknown outcome although the agent had
    /// already been notified of them and no further outcome has become unknown since.
    pub(crate) stale: usize,
    /// Number of unknown results, not counting those of checks.
    pub(crate) unknown: usize,
    /// Number of those calls that were repeated because a check found that they had not taken
    /// effect.
    pub(crate) repeated: usize,
    /// Descriptions of inconsistencies.
    pub(crate) wrong: Vec<String>,
}

impl Transcript {
    /// Reads the messages of a model request. `folder` is the directory of the files, whose name
    /// differs between runs.
    pub(crate) fn read(messages: &[Value], folder: &str) -> Self {
        let mut this = Self::default();
        let mut open: Vec<(String, (String, Value))> = Vec::new();
        // Whether an outcome has become unknown since the last recovery message.
        let mut news = false;
        for message in messages {
            let text = message_text(message).replace(folder, "FOLDER");
            if let Some(id) = message["tool_call_id"].as_str() {
                news |= CallVerdict::of(&text) == CallVerdict::Unknown;
                match open.first() {
                    Some((expected, _)) if expected == id => {
                        let (id, call) = open.remove(0);
                        this.deed(&id, call, text);
                    }
                    other => this
                        .wrong
                        .push(format!("{id} is answered where {other:?} should be")),
                }
                continue;
            }
            if !open.is_empty() {
                this.wrong.push(format!("no results: {open:?}"));
                open.clear();
            }
            let calls = message["tool_calls"].as_array().into_iter().flatten();
            open.extend(calls.map(|call| {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let arguments = text(&call["function"]["arguments"]);
                let arguments = serde_json::from_str(&arguments).unwrap_or(Value::Null);
                let name = text(&call["function"]["name"]);
                (text(&call["id"]), (name, arguments))
            }));
            let role = message["role"].as_str().unwrap_or("?");
            if role == "system" && text.starts_with("[system] The daemon restarted") {
                this.recoveries += 1;
                this.stale += usize::from(text.contains(NOBODY_KNOWS) && !news);
                news = false;
                continue;
            }
            // Skip the texts of answers that only check or repeat: the step's text came with the
            // first attempt.
            let plain = |(id, _): &(String, _)| id.matches('_').count() == 1;
            if open.is_empty() || open.iter().any(plain) {
                this.said.push(format!("{role}: {text}"));
            }
        }
        this
    }

    fn deed(&mut self, id: &str, call: (String, Value), text: String) {
        if id.contains("_check") {
            return;
        }
        let result = match CallVerdict::of(&text) {
            CallVerdict::Done => Some(in_order(&call.0, text)),
            CallVerdict::Unknown => {
                self.unknown += 1;
                None
            }
            other => {
                self.wrong.push(format!("{id} is {other:?}: {text}"));
                None
            }
        };
        let deed = Deed { call, result };
        let Some((first, _)) = id.split_once("_try") else {
            if self.deeds.insert(id.to_owned(), deed).is_some() {
                self.wrong.push(format!("{id} stands there twice"));
            }
            return;
        };
        self.repeated += 1;
        match self.deeds.get_mut(first) {
            Some(before) if before.call == deed.call && before.result.is_none() => *before = deed,
            before => self
                .wrong
                .push(format!("{id} was not to be repeated: {before:?}")),
        }
    }

    /// Returns the number of calls with an unknown outcome that a check found to have taken effect.
    pub(crate) fn found_done(&self) -> usize {
        self.unknown - self.repeated
    }

    /// Returns how this transcript differs from that of an undisturbed run.
    pub(crate) fn differences(&self, undisturbed: &Self) -> Vec<String> {
        let mut wrong = self.wrong.clone();
        if self.stale > 0 {
            let (stale, all) = (self.stale, self.recoveries);
            wrong.push(format!(
                "{stale} of {all} recovery messages tell again of unknown outcomes that an \
                 earlier one told of"
            ));
        }
        if self.said != undisturbed.said {
            wrong.push(format!(
                "what was said differs: {:?} instead of {:?}",
                self.said, undisturbed.said
            ));
        }
        let ids = |this: &Self| this.deeds.keys().cloned().collect::<Vec<_>>();
        if ids(self) != ids(undisturbed) {
            wrong.push(format!(
                "what was done differs: {:?} instead of {:?}",
                ids(self),
                ids(undisturbed)
            ));
        }
        for (id, expected) in &undisturbed.deeds {
            let Some(deed) = self.deeds.get(id) else {
                continue;
            };
            let same_result = deed.result.is_none() || deed.result == expected.result;
            if deed.call != expected.call || !same_result {
                wrong.push(format!("{id}: {deed:?} instead of {expected:?}"));
            }
        }
        wrong
    }
}

/// Returns a result with its lines sorted if a file system may return them in any order.
fn in_order(tool: &str, text: String) -> String {
    if !tool.ends_with("list_directory") {
        return text;
    }
    let lines = text.lines().filter(|line| !line.ends_with(LEFTOVER));
    let mut lines: Vec<_> = lines.collect();
    lines.sort_unstable();
    lines.join("\n")
}
