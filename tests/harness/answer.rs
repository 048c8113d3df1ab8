//! The answers of a scripted language model, in OpenAI's protocol.

use serde_json::{Value, json};

/// Length of the pieces in which a call's arguments stream, in characters.
const PIECE_CHARS: usize = 16;

/// A scripted model's answer to a conversation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub text: String,
    /// The tool calls that it requests.
    pub calls: Vec<AskedCall>,
}

/// A tool call that a scripted model requests.
#[derive(Clone, Debug, PartialEq)]
pub struct AskedCall {
    pub id: String,
    pub name: String,
    pub arguments: Value,
}

impl Answer {
    /// Returns the answer's `finish_reason`.
    pub(crate) fn finish(&self) -> Value {
        match self.calls.as_slice() {
            [] => json!("stop"),
            _ => json!("tool_calls"),
        }
    }

    /// Returns the answer as a stream: its words, then its calls, each with its arguments in
    /// pieces.
    pub(crate) fn deltas(&self) -> Vec<Value> {
        let words = self.text.split_inclusive(' ');
        let words = words.map(|word| json!({"role": "assistant", "content": word}));
        let calls = self.calls.iter().enumerate();
        let fragments = calls.flat_map(|(index, call)| {
            let mut begun = call.whole();
            begun["index"] = index.into();
            begun["function"]["arguments"] = "".into();
            let arguments: Vec<char> = call.arguments.to_string().chars().collect();
            let pieces = arguments.chunks(PIECE_CHARS).map(move |piece| {
                let piece: String = piece.iter().collect();
                json!({"index": index, "function": {"arguments": piece}})
            });
            let fragments: Vec<_> = [begun].into_iter().chain(pieces).collect();
            fragments
        });
        let fragments = fragments.map(|fragment| json!({"tool_calls": [fragment]}));
        words.chain(fragments).collect()
    }
}

impl AskedCall {
    /// Returns the call as it appears in a message.
    pub(crate) fn whole(&self) -> Value {
        let arguments = self.arguments.to_string();
        json!({
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": arguments},
        })
    }
}

/// Returns the text of a message, in either of the forms that the protocol allows.
pub fn message_text(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        parts => parts
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|part| part["text"].as_str())
            .collect(),
    }
}
