//! What two conversations about the same plan must have in common: all but recovery messages,
//! unknown outcomes, and the calls by which the model finds out about those.

use std::collections::BTreeMap;

use abide_tests::message_text;
use serde_json::Value;

use crate::script::Verdict;

/// What a tool server leaves that was killed while it replaced a file.
pub(crate) const LEFTOVER: &str = ".tmp";

/// What a recovery message says of steps with an unknown outcome.
const NOBODY_KNOWS: &str = "Nobody knows whether these steps took effect";

/// A call of the plan, with all attempts at it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Deed {
    /// The tool and its arguments.
    pub(crate) call: (String, Value),
    /// The result; none if it is unknown, and it was found to have happened.
    pub(crate) result: Option<String>,
}

/// A conversation, in what matters.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    /// What was said, as `role: text`, in order.
    pub(crate) said: Vec<String>,
    /// What was done, by the id of its first attempt, which grow.
    pub(crate) deeds: BTreeMap<String, Deed>,
    /// How many recovery messages stood in it.
    pub(crate) recoveries: usize,
    /// How many of them said of steps that nobody knows what became of them, where the agent had
    /// been told before, and nothing has become unknown since.
    pub(crate) stale: usize,
    /// How many results were unknown, those of checks excepted.
    pub(crate) unknown: usize,
    /// How many of those calls were made again: they had been found not to have happened.
    pub(crate) repeated: usize,
    /// What cannot be explained.
    pub(crate) wrong: Vec<String>,
}

impl Transcript {
    /// Reads the messages of a model request. `folder` is where the files are, whose name differs
    /// from one run to the next.
    pub(crate) fn read(messages: &[Value], folder: &str) -> Self {
        let mut this = Self::default();
        let mut open: Vec<(String, (String, Value))> = Vec::new();
        // Whether an outcome was unknown since the last recovery message.
        let mut news = false;
        for message in messages {
            let text = message_text(message).replace(folder, "FOLDER");
            if let Some(id) = message["tool_call_id"].as_str() {
                news |= Verdict::of(&text) == Verdict::Unknown;
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
            // Whoever only finds out or tries again has said so at the first attempt.
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
        let result = match Verdict::of(&text) {
            Verdict::Done => Some(in_order(&call.0, text)),
            Verdict::Unknown => {
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

    /// How many calls with an unknown outcome were found to have happened.
    pub(crate) fn found_done(&self) -> usize {
        self.unknown - self.repeated
    }

    /// How it differs from that of a run in which nothing happened.
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

/// A result with its lines sorted, where a file system may give them in any order.
fn in_order(tool: &str, text: String) -> String {
    if !tool.ends_with("list_directory") {
        return text;
    }
    let lines = text.lines().filter(|line| !line.ends_with(LEFTOVER));
    let mut lines: Vec<_> = lines.collect();
    lines.sort_unstable();
    lines.join("\n")
}
