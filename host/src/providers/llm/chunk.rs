//! Parses one document of an answer: a chunk of a stream, or the whole answer in one piece. The
//! parts of the answer are read wherever servers put them. A field of an unexpected type counts as
//! absent.

use serde_json::Value;

use super::refusal;
use crate::domain::Usage;
use crate::providers::lossy::{self, Marked};

/// The content of one document.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Chunk {
    pub(super) model: Option<String>,
    pub(super) usage: Option<Usage>,
    /// The document, or the part of it, that reports an error.
    pub(super) error: Option<Value>,
    /// The finish reason, as the server sent it.
    pub(super) finish: Option<String>,
    pub(super) text: String,
    pub(super) calls: Vec<Fragment>,
    /// The call in `function_call`, OpenAI's older field for a single call.
    pub(super) old_call: Option<Fragment>,
    /// The index of the choice that it belongs to.
    pub(super) choice: Option<u64>,
    /// It holds the whole message, not a delta.
    pub(super) is_whole: bool,
    /// Its texts contain marks of lone surrogates.
    pub(super) has_marks: bool,
}

/// A tool call, or a part of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fragment {
    /// Which call of the answer it belongs to.
    pub(super) index: Option<u64>,
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) arguments: String,
    /// The arguments arrived as a JSON object, not as a piece of its text.
    pub(super) is_object: bool,
}

/// The longest model name that is kept, in bytes.
const MODEL_MAX_BYTES: usize = 256;

impl Chunk {
    pub(super) fn read(Marked { value, has_marks }: Marked) -> Self {
        if let Some(error) = refusal::in_answer(&value) {
            return Self {
                error: Some(error),
                ..Self::default()
            };
        }
        let mut chunk = Self {
            model: text(&value, "model").filter(|model| model.len() <= MODEL_MAX_BYTES),
            usage: value
                .get("usage")
                .and_then(usage)
                .or_else(|| further_usage(&value)),
            has_marks,
            ..Self::default()
        };
        // Only one choice was requested.
        let choice = match value.get("choices") {
            Some(Value::Array(choices)) => choices.iter().find(|choice| choice.is_object()),
            choice => choice,
        };
        if let Some(choice) = choice {
            chunk.choice = choice.get("index").and_then(whole_number);
            chunk.finish = text(choice, "finish_reason");
            let filled = |key| {
                let part = choice
                    .get(key)
                    .filter(|part| part.is_object() || part.is_string());
                part.filter(|part| !refusal::is_nothing(part))
            };
            let (delta, message) = (filled("delta"), filled("message"));
            if let Some(delta) = delta {
                chunk.take(delta);
            }
            match message.filter(|_| !chunk.says_something()) {
                Some(message) => {
                    chunk.take_whole(message);
                    if chunk.calls.is_empty() {
                        chunk.take_calls_beside(&value);
                    }
                }
                None if delta.is_none() => chunk.text = text(choice, "text").unwrap_or_default(),
                None => {}
            }
        }
        chunk
    }

    /// Returns whether it adds anything to the answer.
    pub(super) fn brings_something(&self) -> bool {
        self.says_something() || self.finish.is_some() || self.usage.is_some()
    }

    fn says_something(&self) -> bool {
        !self.calls.is_empty() || self.old_call.is_some() || !self.text.is_empty()
    }

    /// Reads the calls from another choice: some gateways put the text and the calls of one answer
    /// into two choices.
    fn take_calls_beside(&mut self, document: &Value) {
        let choices = document.get("choices").and_then(Value::as_array);
        let messages = choices
            .into_iter()
            .flatten()
            .filter_map(|choice| choice.get("message"));
        let with_calls = messages.map(|message| {
            let mut other = Self::default();
            other.take_whole(message);
            other
        });
        let mut with_calls = with_calls.filter(|other| !other.calls.is_empty());
        if let Some(other) = with_calls.next() {
            self.calls = other.calls;
        }
    }

    fn take_whole(&mut self, message: &Value) {
        self.is_whole = true;
        self.take(message);
        // In a complete list the position of a call serves as its index.
        for (place, call) in (0..).zip(&mut self.calls) {
            call.index = call.index.or(Some(place));
        }
    }

    fn take(&mut self, message: &Value) {
        self.text = match message {
            Value::String(text) => text.clone(),
            message => message.get("content").map(content).unwrap_or_default(),
        };
        if self.text.is_empty() {
            self.text = text(message, "refusal").unwrap_or_default();
        }
        let calls = match message.get("tool_calls") {
            Some(Value::Array(calls)) => calls.as_slice(),
            Some(call) => std::slice::from_ref(call),
            None => &[],
        };
        let calls = calls.iter().filter(|call| call.is_object());
        self.calls = calls.map(fragment).collect();
        let old = message.get("function_call").filter(|call| call.is_object());
        self.old_call = old.map(fragment);
    }
}

/// Returns the string in a field, if it is not empty.
fn text(of: &Value, key: &str) -> Option<String> {
    let text = of.get(key)?.as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// Returns the text of a message's content: a string, or the texts among its parts. Other parts are
/// thoughts and media.
fn content(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(part).collect(),
        content => part(content),
    }
}

fn part(part: &Value) -> String {
    match part {
        Value::String(text) => text.clone(),
        part => {
            let kind = part.get("type").and_then(Value::as_str).unwrap_or("text");
            let is_text = matches!(kind, "text" | "output_text" | "refusal" | "text_delta");
            let text = ["text", "refusal"].iter().find_map(|key| {
                let value = part.get(key)?;
                value.as_str().or_else(|| value.get("value")?.as_str())
            });
            text.filter(|_| is_text).unwrap_or_default().to_owned()
        }
    }
}

fn fragment(call: &Value) -> Fragment {
    // Some servers leave out the `function` level.
    let function = call.get("function").filter(|function| function.is_object());
    let function = function.unwrap_or(call);
    // `parameters` is Llama's, `input` Anthropic's.
    let keys = ["arguments", "parameters", "input"];
    let arguments = keys
        .iter()
        .find_map(|key| function.get(key).filter(|given| !given.is_null()));
    Fragment {
        index: call.get("index").and_then(whole_number),
        id: call.get("id").and_then(id),
        name: text(function, "name"),
        arguments: match arguments {
            Some(Value::String(arguments)) => arguments.clone(),
            // If it is not an object, the guest's model gets to see what it wrote.
            Some(whole) => whole.to_string(),
            None => String::new(),
        },
        is_object: arguments.is_some_and(Value::is_object),
    }
}

fn id(id: &Value) -> Option<String> {
    match id {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Parses a count, which may also be a string or have a decimal point.
fn whole_number(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => text.trim().parse().ok(),
        value => value.as_u64().or_else(|| {
            let number = value.as_f64()?;
            // Floats are exact for whole numbers of this size.
            (number >= 0.0 && number.fract() == 0.0 && number < 9e15).then_some(number as u64)
        }),
    }
}

fn usage(usage: &Value) -> Option<Usage> {
    let count = |keys: [&str; 2]| {
        let mut found = keys.iter().filter_map(|key| usage.get(key));
        found.find_map(whole_number)
    };
    let input = count(["prompt_tokens", "input_tokens"]);
    let output = count(["completion_tokens", "output_tokens"]);
    // One of the two is enough.
    (input.is_some() || output.is_some()).then(|| Usage {
        input_tokens: input.unwrap_or_default(),
        output_tokens: output.unwrap_or_default(),
    })
}

/// Returns the usage from the places where Kimi and Groq put it.
fn further_usage(document: &Value) -> Option<Usage> {
    let choice = document.get("choices").and_then(|choices| choices.get(0));
    let places = [choice, document.get("x_groq")];
    let mut places = places.into_iter().flatten();
    places.find_map(|place| place.get("usage").and_then(usage))
}

/// Parses the documents in an event's data. Data that is not part of an answer, like `ping`, has
/// none.
pub(super) fn documents(data: &[u8]) -> serde_json::Result<Vec<Marked>> {
    let data = data.trim_ascii();
    let bare = data.strip_prefix("\u{feff}".as_bytes());
    let data = bare.unwrap_or(data).trim_ascii_start();
    // `[PING]` and the like are not lists of chunks.
    let is_list = data.strip_prefix(b"[").is_some_and(|rest| {
        let next = rest.trim_ascii_start().first();
        next.is_none_or(|next| !next.is_ascii_alphabetic())
    });
    let is_document = data.starts_with(b"{") || is_list;
    // The rest of a torn chunk must fail to parse, rather than pass for a keep-alive.
    let is_torn = !is_document && data.windows(9).any(|part| part == b"\"choices\"");
    if !is_document && !is_torn {
        return Ok(Vec::new());
    }
    let whole = match lossy::parse_marked(data) {
        Ok(whole) => whole,
        Err(error) => {
            // Without an empty line between them, several events arrive as one.
            let lines = data.split(|byte| *byte == b'\n');
            let lines = lines
                .map(<[u8]>::trim_ascii)
                .filter(|line| !line.is_empty());
            let lines: Vec<&[u8]> = lines.collect();
            if lines.len() < 2 || !lines.iter().all(|line| line.starts_with(b"{")) {
                return Err(error);
            }
            return lines.into_iter().map(lossy::parse_marked).collect();
        }
    };
    match whole.value {
        Value::Array(items) if items.iter().all(Value::is_object) => {
            let has_marks = whole.has_marks;
            let items = items.into_iter();
            Ok(items.map(|value| Marked { value, has_marks }).collect())
        }
        Value::Object(_) => Ok(vec![whole]),
        _ => Err(serde::de::Error::custom("a list of what is no chunk")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Chunk {
        Chunk::read(Marked {
            value,
            has_marks: false,
        })
    }

    #[test]
    fn text_is_found_wherever_servers_put_it() {
        let parts = json!([
            {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
            {"type": "text", "text": "he"},
            {"type": "image_url", "image_url": {"url": "x"}},
            "l",
            {"text": {"value": "lo"}},
            7,
        ]);
        for choice in [
            json!({"delta": {"content": "hello"}}),
            json!({"delta": {"content": parts}}),
            json!({"message": {"content": parts, "role": "assistant"}}),
            json!({"delta": null, "message": {"content": "hello"}}),
            json!({"delta": {}, "message": {"content": {"type": "text", "text": "hello"}}}),
            json!({"text": "hello", "delta": 7}),
            json!({"delta": "hello"}),
            json!({"delta": {"content": "", "refusal": "hello"}}),
            json!({"delta": {"content": null, "reasoning_content": "x", "refusal": "hello"}}),
        ] {
            assert_eq!(read(json!({"choices": [choice]})).text, "hello", "{choice}");
            assert_eq!(read(json!({"choices": choice})).text, "hello", "{choice}");
        }
    }

    #[test]
    fn a_call_is_found_wherever_servers_put_it() {
        let expected = |index: Option<u64>, id: Option<&str>| Fragment {
            index,
            id: id.map(str::to_owned),
            name: Some("f".to_owned()),
            arguments: "{\"a\":1}".to_owned(),
            is_object: false,
        };
        let function = json!({"name": "f", "arguments": "{\"a\":1}"});
        for (call, expected) in [
            (
                json!({"index": 1, "id": "x", "function": function}),
                expected(Some(1), Some("x")),
            ),
            (
                json!({"index": "1", "id": 17, "function": function}),
                expected(Some(1), Some("17")),
            ),
            (
                json!({"index": -1, "id": "", "function": function}),
                expected(None, None),
            ),
            (
                json!({"index": null, "id": [], "name": "f", "arguments": {"a": 1}}),
                Fragment {
                    is_object: true,
                    ..expected(None, None)
                },
            ),
        ] {
            let delta = json!({"choices": [{"delta": {"tool_calls": [call, null, 3]}}]});
            assert_eq!(read(delta).calls, std::slice::from_ref(&expected));
            let delta = json!({"choices": [{"delta": {"tool_calls": call}}]});
            assert_eq!(read(delta).calls, [expected]);
        }
        let old = read(json!({"choices": [{"message": {"function_call": function}}]}));
        assert_eq!(old.old_call, Some(expected(None, None)));
        let whole = read(
            json!({"choices": [{"message": {"tool_calls": [{"function": function}, {"function": function}]}}]}),
        );
        let places: Vec<_> = whole.calls.iter().map(|call| call.index).collect();
        assert_eq!(places, [Some(0), Some(1)]);
    }

    #[test]
    fn what_is_no_document_of_an_answer_is_skipped_and_what_is_torn_is_not() {
        let read = |data: &str| {
            documents(data.as_bytes())
                .map(|documents| documents.len())
                .ok()
        };
        for data in [
            "ping",
            "",
            " ",
            "null",
            "7",
            "\"x\"",
            ": OPENROUTER PROCESSING",
            "[]",
            "[PING]",
        ] {
            assert_eq!(read(data), Some(0), "{data}");
        }
        assert_eq!(read("{}"), Some(1));
        assert_eq!(read("\u{feff} {}"), Some(1));
        assert_eq!(read("{\"a\":\n1}"), Some(1));
        assert_eq!(read("{}\n{\"a\": 1}"), Some(2));
        assert_eq!(read("[{}, {}]"), Some(2));
        for data in [
            "{\"choices\": [",
            "\"choices\": []}",
            "[1]",
            "{} x",
            "{}\n{",
        ] {
            assert_eq!(read(data), None, "{data}");
        }
    }

    /// Any JSON.
    fn anything() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-z0-9{}\"]{0,4}".prop_map(Value::from),
        ];
        let key = prop_oneof![
            Just("content".to_owned()),
            Just("text".to_owned()),
            Just("function".to_owned()),
            Just("name".to_owned()),
        ];
        leaf.prop_recursive(3, 12, 3, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::vec((key.clone(), inner), 0..3)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_field_that_is_not_needed_spoils_nothing(odd in anything(), at in 0..14_usize) {
            let mut chunk = json!({
                "id": "x", "object": "o", "created": 1, "model": "m", "usage": null,
                "choices": [{
                    "index": 0, "finish_reason": "stop", "logprobs": null,
                    "delta": {
                        "role": "assistant", "content": "hello", "reasoning_content": "hm",
                        "tool_calls": [{"index": 0, "id": "i", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                    },
                }],
            });
            let places = [
                "/id", "/object", "/created", "/model", "/usage", "/choices/0/index",
                "/choices/0/logprobs", "/choices/0/delta/role", "/choices/0/delta/reasoning_content",
                "/choices/0/delta/tool_calls/0/index", "/choices/0/delta/tool_calls/0/id",
                "/choices/0/delta/tool_calls/0/type", "/choices/0/delta/tool_calls/0/extra",
                "/choices/0/delta/refusal",
            ];
            let place = places[at];
            if let Some(field) = chunk.pointer_mut(place) {
                *field = odd;
            } else if let Some((parent, name)) = place.rsplit_once('/') {
                chunk.pointer_mut(parent).expect("it is there")[name] = odd;
            }
            let read = read(chunk);
            prop_assert_eq!(read.error, None);
            prop_assert_eq!(read.text, "hello");
            prop_assert_eq!(read.finish.as_deref(), Some("stop"));
            prop_assert_eq!(read.calls.len(), 1);
            prop_assert_eq!(read.calls[0].name.as_deref(), Some("f"));
            prop_assert_eq!(read.calls[0].arguments.as_str(), "{}");
        }

        #[test]
        fn nothing_makes_reading_fail(odd in anything()) {
            read(odd.clone());
            read(json!({"choices": odd}));
            read(json!({"choices": [odd]}));
            read(json!({"choices": [{"delta": odd, "finish_reason": odd}], "usage": odd}));
            read(json!({"choices": [{"delta": {"tool_calls": [odd], "content": odd, "function_call": odd}}]}));
        }
    }
}
