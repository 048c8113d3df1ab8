//! Assembles an answer from its documents, and decides whether it is complete or has failed. Pure.
//!
//! ```text
//!   complete: a finish reason, or [DONE] after a text or a call
//!   void:     an error, a tool call that the server could not parse, an invalid tool name
//!   broken:   an end without either; retried, like a void answer
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

/// Why there is no usable answer.
#[derive(Debug, PartialEq)]
pub(super) enum NoAnswer {
    /// The server reported an error, in this document.
    Refused(Value),
    /// The answer is void or incomplete, for this reason.
    Broken(String),
    /// The answer has more text and calls than this many bytes.
    TooLong(u64),
}

/// The facts about a request that are needed to read its answer.
#[derive(Debug, Default)]
pub(super) struct RequestFacts<'a> {
    /// The offered tools, by the names that were sent to the server.
    pub(super) tools: BTreeSet<&'a str>,
    /// The ids of the tool calls in the conversation.
    ids: HashSet<String>,
    /// The seed of the ids of new calls. It is a function of the request.
    seed: String,
}

impl<'a> RequestFacts<'a> {
    /// `tools` are the offered tools, by the names that were sent.
    pub(super) fn new(request: &ChatRequest, tools: impl IntoIterator<Item = &'a str>) -> Self {
        let mut ids = HashSet::new();
        let mut seed = String::new();
        for message in &request.messages {
            // Lengths and ids suffice to distinguish one turn of a conversation from the next.
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

/// The most calls in one answer. A limit is needed because each call is compared with each other.
const CALLS_MAX: usize = 256;

/// The part of an answer that has arrived so far.
pub(super) struct StreamedAnswer<'a> {
    asked: &'a RequestFacts<'a>,
    visible: VisibleText,
    halves: Halves,
    calls: Calls,
    /// Text or calls have arrived.
    has_begun: bool,
    /// All text so far, as it arrived.
    came: String,
    /// The server sends its pieces as whole messages (`message` in place of `delta`).
    by_message: bool,
    finish: Option<FinishReason>,
    /// The stream has announced its end.
    is_done: bool,
    usage: Option<Usage>,
    model: Option<String>,
    /// The index of the choice that is read, if the server sends several.
    choice: Option<u64>,
    bytes: u64,
    limit_bytes: u64,
}

impl<'a> StreamedAnswer<'a> {
    pub(super) fn new(asked: &'a RequestFacts<'a>, limit_bytes: u64) -> Self {
        Self {
            asked,
            visible: VisibleText::new(),
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

    /// Adds a document, and returns the text in it that can be shown.
    pub(super) fn take(&mut self, mut chunk: Chunk) -> Result<ThinkOutcome, NoAnswer> {
        if let Some(error) = chunk.error {
            return Err(NoAnswer::Refused(error));
        }
        self.model = chunk.model.take().or(self.model.take());
        self.usage = most(self.usage, chunk.usage);
        // Only one choice was requested. Of several, read the first.
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
            // The finish reason before was not the end: some servers send one with each thought.
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
        Ok(self.visible.push(&text))
    }

    /// Reduces a document to what is new in it. Some servers repeat the whole message after its
    /// pieces, some send each piece as a message, and some send the whole text so far in each.
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

    /// Records that the stream has announced its end.
    pub(super) fn done(&mut self) {
        self.is_done = true;
    }

    /// Returns whether the answer is complete, except for its token usage.
    pub(super) fn is_finished(&self) -> bool {
        // An unknown finish reason may not mean the end: wait for the end of the stream.
        let is_known = self
            .finish
            .is_some_and(|finish| finish != FinishReason::Other);
        is_known || (self.finish.is_some() && self.is_done)
    }

    /// Returns the whole answer, and the text of it that was not shown yet. To be called once
    /// nothing more will arrive. `model` is the requested model, for servers that do not name
    /// theirs.
    pub(super) fn complete(mut self, model: &str) -> Result<(Completion, String), NoAnswer> {
        let rest = self.halves.end();
        let shown = self.visible.push(rest).text;
        let (content, held) = self.visible.end();
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
            // Some servers send `stop` although they call tools, and some the other way round.
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

/// Combines two usage reports of one answer. Some servers count the input first and the output
/// last, and some end with zeros.
fn most(before: Option<Usage>, now: Option<Usage>) -> Option<Usage> {
    let (Some(before), Some(now)) = (before, now) else {
        return now.or(before);
    };
    Some(Usage {
        input_tokens: before.input_tokens.max(now.input_tokens),
        output_tokens: before.output_tokens.max(now.output_tokens),
    })
}

/// Returns whether an answer is complete but empty. Some servers occasionally send one.
pub(super) fn is_empty(completion: &Completion) -> bool {
    let is_usual = matches!(completion.finish, FinishReason::Stop | FinishReason::Other);
    is_usual && completion.tool_calls.is_empty() && completion.content.trim().is_empty()
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
