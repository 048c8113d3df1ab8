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
use super::think::{Said, Shown};
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
pub(super) struct Asked<'a> {
    /// The tools that were offered, as the server knows them.
    pub(super) tools: BTreeSet<&'a str>,
    /// The ids of the conversation's calls.
    ids: HashSet<String>,
    /// The same for the same request.
    seed: String,
}

impl<'a> Asked<'a> {
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
pub(super) struct Answer<'a> {
    asked: &'a Asked<'a>,
    said: Said,
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
    bytes: u64,
    limit_bytes: u64,
}

impl<'a> Answer<'a> {
    pub(super) fn new(asked: &'a Asked<'a>, limit_bytes: u64) -> Self {
        Self {
            asked,
            said: Said::new(),
            halves: Halves::default(),
            calls: Calls::default(),
            has_begun: false,
            came: String::new(),
            by_message: false,
            finish: None,
            is_done: false,
            usage: None,
            model: None,
            bytes: 0,
            limit_bytes,
        }
    }

    /// Adds a document; gives what it has for those who watch.
    pub(super) fn take(&mut self, mut chunk: Chunk) -> Result<Shown, NoAnswer> {
        if let Some(error) = chunk.error {
            return Err(NoAnswer::Refused(error));
        }
        self.model = chunk.model.take().or(self.model.take());
        self.usage = chunk.usage.or(self.usage);
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
        let chunk = self.news(chunk);
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
        self.finish.is_some()
    }

    /// The whole answer once nothing more comes, and what of its text was not shown yet. `model` is
    /// the one that was asked for.
    pub(super) fn complete(mut self, model: &str) -> Result<(Completion, String), NoAnswer> {
        let rest = self.halves.end();
        let shown = self.said.push(rest).text;
        let (content, held) = self.said.end();
        let has_calls = !self.calls.is_empty();
        let implied =
            (self.is_done && (has_calls || !content.is_empty())).then_some(FinishReason::Stop);
        let finish = self.finish.or(implied).ok_or_else(|| {
            let reason = "ended its answer before it was complete (no finish reason)";
            NoAnswer::Broken(reason.to_owned())
        })?;
        let mut taken = self.asked.ids.clone();
        let calls = self
            .calls
            .complete(&self.asked.tools, &self.asked.seed, &mut taken);
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

/// Whether an answer says nothing although it is complete. Some servers do so once in a while.
pub(super) fn is_empty(completion: &Completion) -> bool {
    let is_usual = matches!(completion.finish, FinishReason::Stop | FinishReason::Other);
    is_usual && completion.tool_calls.is_empty() && completion.content.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::providers::lossy::Marked;

    fn take(answer: &mut Answer<'_>, value: Value) -> Result<Shown, NoAnswer> {
        answer.take(Chunk::read(Marked {
            value,
            has_marks: false,
        }))
    }

    /// The answer of these chunks.
    fn read(chunks: &[Value], is_done: bool) -> Result<Completion, NoAnswer> {
        let asked = Asked::default();
        let mut answer = Answer::new(&asked, 1000);
        for chunk in chunks {
            take(&mut answer, chunk.clone())?;
        }
        if is_done {
            answer.done();
        }
        answer.complete("m").map(|(completion, _)| completion)
    }

    fn text(text: &str) -> Value {
        json!({"choices": [{"delta": {"content": text}, "finish_reason": ""}]})
    }

    fn finish(reason: &str) -> Value {
        json!({"choices": [{"delta": {}, "finish_reason": reason}]})
    }

    fn call() -> Value {
        let call = json!({"index": 0, "function": {"name": "f", "arguments": "{}"}});
        json!({"choices": [{"delta": {"tool_calls": [call]}}]})
    }

    fn message(content: &str) -> Value {
        json!({"choices": [{"message": {"content": content}}]})
    }

    #[test]
    fn messages_in_a_stream_bring_what_is_new() {
        let content = |chunks: &[Value]| read(chunks, true).map(|answer| answer.content);
        let pieces = [message("hel"), message("lo")];
        assert_eq!(content(&pieces), Ok("hello".to_owned()));
        let growing = [message("hel"), message("hello"), message("hello")];
        assert_eq!(content(&growing), Ok("hello".to_owned()));
        let repeated = [text("hel"), text("lo"), message("hello")];
        assert_eq!(content(&repeated), Ok("hello".to_owned()));
        let beside =
            json!({"choices": [{"delta": {"role": "assistant"}, "message": {"content": "ok"}}]});
        assert_eq!(content(&[beside]), Ok("ok".to_owned()));
        // The calls of such a message count, where none came before.
        let calls = json!([{"id": "x", "function": {"name": "f", "arguments": "{}"}}]);
        let whole = json!({"choices": [{"message": {"content": "Well", "tool_calls": calls},
            "finish_reason": "tool_calls"}]});
        let answer = read(&[text("Well"), whole.clone()], false).expect("an answer");
        assert_eq!(
            (answer.content.as_str(), answer.tool_calls.len()),
            ("Well", 1)
        );
        let answer = read(&[text("Well"), call(), whole], false).expect("an answer");
        assert_eq!(answer.tool_calls.len(), 1);
    }

    #[test]
    fn calls_without_end_are_no_answer() {
        let asked = Asked::default();
        let mut answer = Answer::new(&asked, 1 << 20);
        let many = (0..1000).find_map(|n| {
            let call = json!({"index": n, "function": {"name": "f", "arguments": "{}"}});
            take(
                &mut answer,
                json!({"choices": [{"delta": {"tool_calls": [call]}}]}),
            )
            .err()
        });
        assert!(matches!(many, Some(NoAnswer::Broken(_))));
    }

    #[test]
    fn a_reason_or_the_end_of_the_stream_makes_it_complete() {
        let finish_of =
            |chunks: &[Value], is_done| read(chunks, is_done).map(|answer| answer.finish);
        assert_eq!(
            finish_of(&[text("a"), finish("stop")], false),
            Ok(FinishReason::Stop)
        );
        assert_eq!(finish_of(&[text("a")], true), Ok(FinishReason::Stop));
        assert_eq!(finish_of(&[call()], true), Ok(FinishReason::ToolCalls));
        assert_eq!(
            finish_of(&[call(), finish("stop")], false),
            Ok(FinishReason::ToolCalls)
        );
        assert_eq!(
            finish_of(&[finish("tool_calls")], false),
            Ok(FinishReason::Stop)
        );
        assert_eq!(
            finish_of(&[text("a"), finish("MAX_TOKENS")], false),
            Ok(FinishReason::Length)
        );
        assert_eq!(
            finish_of(&[finish("SAFETY")], false),
            Ok(FinishReason::ContentFilter)
        );
        assert_eq!(
            finish_of(&[text("a"), finish("whatever")], false),
            Ok(FinishReason::Other)
        );
        for (chunks, is_done) in [
            (vec![text("a")], false),
            (vec![text("a"), finish("")], false),
            (vec![call()], false),
            (vec![], true),
            (vec![json!({"choices": []})], true),
        ] {
            let error = finish_of(&chunks, is_done).expect_err("it is not complete");
            assert!(
                matches!(&error, NoAnswer::Broken(text) if text.contains("before it was complete")),
                "{error:?}"
            );
        }
    }

    #[test]
    fn what_a_server_calls_a_failure_is_void() {
        for reason in [
            "error",
            "malformed_function_call",
            "MALFORMED_FUNCTION_CALL",
            "malformed_tool_call",
            "UNEXPECTED_TOOL_CALL",
            "network_error",
            "insufficient_system_resource",
            "abort",
        ] {
            let answer = read(&[text("half"), finish(reason)], true);
            assert!(
                matches!(&answer, Err(NoAnswer::Broken(text)) if text.contains(reason)),
                "{answer:?}"
            );
        }
        let error = json!({"error": {"code": 400, "message": "m"}, "choices": []});
        assert_eq!(
            read(&[text("half"), error.clone()], true),
            Err(NoAnswer::Refused(error))
        );
        let bad = json!({"choices": [{"delta": {"tool_calls": [{"function": {"name": "a b"}}]}}]});
        assert!(matches!(
            read(&[bad, finish("tool_calls")], true),
            Err(NoAnswer::Broken(_))
        ));
    }

    #[test]
    fn a_message_that_is_repeated_as_a_whole_counts_once() {
        let whole = json!({"choices": [{"message": {"content": "ab", "tool_calls": [
            {"function": {"name": "f", "arguments": "{}"}},
        ]}, "finish_reason": "stop"}]});
        let answer = read(&[text("a"), text("b"), call(), whole.clone()], true).expect("an answer");
        assert_eq!(
            (answer.content.as_str(), answer.tool_calls.len()),
            ("ab", 1)
        );
        let answer = read(&[whole], false).expect("an answer");
        assert_eq!(
            (answer.content.as_str(), answer.tool_calls.len()),
            ("ab", 1)
        );
    }

    #[test]
    fn text_and_calls_are_bounded() {
        assert_eq!(
            read(&[text(&"x".repeat(1001))], true),
            Err(NoAnswer::TooLong(1000))
        );
        let empty: Vec<Value> = (0..17)
            .map(|index| json!({"choices": [{"delta": {"tool_calls": [{"index": index, "id": format!("x{index}")}]}}]}))
            .collect();
        assert_eq!(read(&empty, true), Err(NoAnswer::TooLong(1000)));
    }

    #[test]
    fn ids_are_not_those_of_the_conversation() {
        let ids = |asked: &Asked<'_>| {
            let mut answer = Answer::new(asked, 1000);
            take(&mut answer, call()).expect("a part");
            answer.done();
            let (completion, _) = answer.complete("m").expect("an answer");
            completion.tool_calls[0].id.clone()
        };
        let mut asked = Asked::default();
        let first = ids(&asked);
        assert_eq!(first, ids(&asked));
        asked.ids.insert(first.clone());
        assert_ne!(first, ids(&asked));
    }
}
