//! An answer, put together from its documents: what counts as complete, and what of it is a failure.
//! Pure.
//!
//! ```text
//!   complete: a finish reason, or [DONE] behind a text or a call
//!   void:     an error, a call that the server could not read, a tool's name that is none
//!   broken:   an end without either; asked again, like what is void
//! ```

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;

use serde_json::Value;

use super::calls::{BadName, Calls};
use super::chunk::Chunk;
use super::ending::{Ending, ending};
use super::refusal::brief;
use super::think::{ThinkOutcome, VisibleText};
use crate::domain::{ChatRequest, Completion, FinishReason, Usage};
use crate::providers::lossy::Halves;

/// Why an answer is none.
#[derive(Debug, PartialEq)]
pub(super) enum NoAnswer {
    /// The server tells of an error: its document.
    Refused(Value),
    /// It is void, or not complete: why.
    Broken(String),
    /// It has more text and calls than this many bytes.
    TooLong(u64),
}

/// What of a request its answer is read with.
#[derive(Debug, Default)]
pub(super) struct RequestFacts<'a> {
    /// The tools that were offered, as the server knows them.
    pub(super) tools: BTreeSet<&'a str>,
    /// The ids of the conversation's calls.
    ids: HashSet<String>,
    /// The same for the same request.
    seed: String,
}

impl<'a> RequestFacts<'a> {
    /// `tools` are the offered ones by the names that were sent.
    pub(super) fn new(request: &ChatRequest, tools: impl IntoIterator<Item = &'a str>) -> Self {
        let mut ids = HashSet::new();
        let mut seed = String::new();
        for message in &request.messages {
            // Lengths and ids tell one turn of a conversation from the next.
            let _ = write!(seed, "{};", message.content.len());
            for call in &message.tool_calls {
                let _ = write!(seed, "{},", call.id);
                ids.insert(call.id.clone());
            }
            ids.extend(message.tool_call_id.clone());
        }
        Self {
            tools: tools.into_iter().collect(),
            ids,
            seed,
        }
    }
}

/// The most calls of one answer: of more, each is compared with each other.
const CALLS_MAX: usize = 256;

/// What has arrived so far.
pub(super) struct StreamedAnswer<'a> {
    asked: &'a RequestFacts<'a>,
    said: VisibleText,
    halves: Halves,
    calls: Calls,
    /// Text or calls have come.
    has_begun: bool,
    /// All text so far, as it came.
    came: String,
    /// It came in what are messages by name.
    by_message: bool,
    finish: Option<FinishReason>,
    /// The stream said that it is over.
    is_done: bool,
    usage: Option<Usage>,
    model: Option<String>,
    /// The answer that is read, where there are several.
    choice: Option<u64>,
    bytes: u64,
    limit_bytes: u64,
}

impl<'a> StreamedAnswer<'a> {
    pub(super) fn new(asked: &'a RequestFacts<'a>, limit_bytes: u64) -> Self {
        Self {
            asked,
            said: VisibleText::new(),
            halves: Halves::default(),
            calls: Calls::default(),
            has_begun: false,
            came: String::new(),
            by_message: false,
            finish: None,
            is_done: false,
            usage: None,
            model: None,
            choice: None,
            bytes: 0,
            limit_bytes,
        }
    }

    /// Adds a document; gives what it has for those who watch.
    pub(super) fn take(&mut self, mut chunk: Chunk) -> Result<ThinkOutcome, NoAnswer> {
        if let Some(error) = chunk.error {
            return Err(NoAnswer::Refused(error));
        }
        self.model = chunk.model.take().or(self.model.take());
        self.usage = most(self.usage, chunk.usage);
        // One answer is asked for: of several, the first.
        let choice = chunk.choice.or(self.choice);
        if self.choice.is_some() && choice != self.choice {
            return Ok(ThinkOutcome::default());
        }
        self.choice = choice;
        if let Some(reason) = &chunk.finish {
            match ending(reason) {
                Ending::Failed => {
                    return Err(NoAnswer::Broken(format!(
                        "ended its answer with `{}`",
                        brief(reason)
                    )));
                }
                Ending::Finished(finish) => self.finish = Some(finish),
                Ending::None => {}
            }
        }
        let has_reason = chunk.finish.is_some();
        let chunk = self.news(chunk);
        let goes_on = !chunk.text.is_empty() || !chunk.calls.is_empty();
        if goes_on && !has_reason {
            // It was no end: some say so with each thought.
            self.finish = None;
        }
        let mut weight = chunk.text.len();
        self.has_begun |= weight > 0 || !chunk.calls.is_empty() || chunk.old_call.is_some();
        for part in chunk.calls {
            weight += self.calls.add(part, chunk.has_marks, &self.asked.tools);
        }
        if let Some(part) = chunk.old_call {
            weight += self.calls.add_old(part, chunk.has_marks);
        }
        if self.calls.len() > CALLS_MAX {
            return Err(NoAnswer::Broken(format!(
                "asked for more than {CALLS_MAX} tools at once"
            )));
        }
        self.bytes = self.bytes.saturating_add(weight as u64);
        if self.bytes > self.limit_bytes {
            return Err(NoAnswer::TooLong(self.limit_bytes));
        }
        let text = self.halves.push(&chunk.text, chunk.has_marks);
        Ok(self.said.push(&text))
    }

    /// What a document brings that has not come before. Some servers repeat the whole message behind
    /// its pieces, some call their pieces messages, and some send all there is so far in each.
    fn news(&mut self, mut chunk: Chunk) -> Chunk {
        if !chunk.is_whole {
            self.came.push_str(&chunk.text);
            return chunk;
        }
        let is_first = !self.has_begun;
        self.by_message |= is_first;
        let rest = chunk.text.strip_prefix(self.came.as_str());
        chunk.text = match rest {
            Some(rest) => rest.to_owned(),
            None if self.by_message => chunk.text,
            None => String::new(),
        };
        if !self.by_message && !self.calls.is_empty() {
            chunk.calls.clear();
            chunk.old_call = None;
        }
        self.came.push_str(&chunk.text);
        chunk
    }

    /// The stream said that it is over.
    pub(super) fn done(&mut self) {
        self.is_done = true;
    }

    /// Whether what has come is all of it, but for what it cost.
    pub(super) fn is_finished(&self) -> bool {
        // What nobody knows may be no end: then the stream has one.
        let is_known = self
            .finish
            .is_some_and(|finish| finish != FinishReason::Other);
        is_known || (self.finish.is_some() && self.is_done)
    }

    /// The whole answer once nothing more comes, and what of its text was not shown yet. `model` is
    /// the one that was asked for.
    pub(super) fn complete(mut self, model: &str) -> Result<(Completion, String), NoAnswer> {
        let rest = self.halves.end();
        let shown = self.said.push(rest).text;
        let (content, held) = self.said.end();
        let has_calls = !self.calls.is_empty();
        let is_whole = (has_calls || !content.is_empty()) && !self.calls.ends_before_arguments();
        let implied = (self.is_done && is_whole).then_some(FinishReason::Stop);
        let finish = self.finish.or(implied).ok_or_else(|| {
            let reason = "ended its answer before it was complete (no finish reason)";
            NoAnswer::Broken(reason.to_owned())
        })?;
        let mut taken = self.asked.ids.clone();
        let is_cut = matches!(finish, FinishReason::Length | FinishReason::ContentFilter);
        let RequestFacts { tools, seed, .. } = self.asked;
        let calls = self.calls.complete(tools, seed, &mut taken, is_cut);
        let tool_calls = calls.map_err(|BadName(name)| {
            let name: String = name.chars().take(80).collect();
            NoAnswer::Broken(format!("asked for a tool by a name that is none: {name:?}"))
        })?;
        let completion = Completion {
            content,
            // Some servers say `stop` although they ask for tools, and some the other way round.
            finish: match finish {
                FinishReason::Stop | FinishReason::Other if !tool_calls.is_empty() => {
                    FinishReason::ToolCalls
                }
                FinishReason::ToolCalls if tool_calls.is_empty() => FinishReason::Stop,
                finish => finish,
            },
            tool_calls,
            usage: self.usage,
            model: self.model.unwrap_or_else(|| model.to_owned()),
        };
        Ok((completion, shown + &held))
    }
}

/// What two counts of one answer come to: some servers count the question first and the answer last,
/// and some end with nothing.
fn most(before: Option<Usage>, now: Option<Usage>) -> Option<Usage> {
    let (Some(before), Some(now)) = (before, now) else {
        return now.or(before);
    };
    Some(Usage {
        input_tokens: before.input_tokens.max(now.input_tokens),
        output_tokens: before.output_tokens.max(now.output_tokens),
    })
}

/// Whether an answer says nothing although it is complete. Some servers do so once in a while.
pub(super) fn is_empty(completion: &Completion) -> bool {
    let is_usual = matches!(completion.finish, FinishReason::Stop | FinishReason::Other);
    is_usual && completion.tool_calls.is_empty() && completion.content.trim().is_empty()
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
