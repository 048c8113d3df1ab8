//! What a server answers to a call, as guests see it.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use rmcp::model::{CallToolResult, ContentBlock, ResourceContents, ServerResult};
use serde_json::Value;

use crate::domain::{ToolContent, ToolOutcome};

/// Why an answer is of no use. The tool has run all the same.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It has this many bytes, or more.
    TooLarge(u64),
    /// The tool goes on in a way that cannot be followed.
    Unfinished,
    /// It is no tool's answer.
    Odd,
}

/// An answer's pieces, all together at most `limit_bytes`.
pub(super) fn outcome(answer: ServerResult, limit_bytes: u64) -> Result<ToolOutcome, Unusable> {
    let outcome = match answer {
        ServerResult::CallToolResult(result) => complete(result),
        // Some servers answer with nothing at all where there is nothing to say.
        ServerResult::EmptyResult(_) | ServerResult::TaskAckResult(_) => ToolOutcome {
            content: Vec::new(),
            is_error: false,
        },
        // A piece that the SDK does not know makes the whole answer unknown to it.
        ServerResult::CustomResult(result) => lenient(result.0)?,
        ServerResult::InputRequiredResult(_) | ServerResult::CreateTaskResult(_) => {
            return Err(Unusable::Unfinished);
        }
        _ => return Err(Unusable::Odd),
    };
    let bytes: u64 = outcome.content.iter().map(bytes).sum();
    if bytes > limit_bytes {
        return Err(Unusable::TooLarge(bytes));
    }
    Ok(outcome)
}

fn bytes(content: &ToolContent) -> u64 {
    let bytes = match content {
        ToolContent::Text(text) | ToolContent::Json(text) => text.len(),
        ToolContent::Blob { data, .. } => data.len(),
    };
    bytes as u64
}

fn complete(result: CallToolResult) -> ToolOutcome {
    let mut content: Vec<_> = result.content.into_iter().map(piece).collect();
    if let Some(value) = result.structured_content {
        structured(&mut content, &value);
    }
    ToolOutcome {
        content,
        is_error: result.is_error.unwrap_or(false),
    }
}

/// Servers are asked to say structured content once more as text, for older clients: a model shall
/// not read everything twice. What a text holds already, as it is or piece by piece, is not added.
fn structured(content: &mut Vec<ToolContent>, value: &Value) {
    let texts: Vec<&str> = content
        .iter()
        .filter_map(|piece| match piece {
            ToolContent::Text(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    let as_json = |text: &&str| serde_json::from_str::<Value>(text).is_ok_and(|t| t == *value);
    let said = texts.iter().any(as_json)
        || (!texts.is_empty() && only_texts(value, &|leaf| texts.iter().any(|t| t.contains(leaf))));
    if !said {
        content.push(ToolContent::Json(value.to_string()));
    }
}

/// Whether a value holds nothing but texts, names of fields aside, of which each is so. A number or
/// a truth stands in many a text by chance.
fn only_texts(value: &Value, is_so: &impl Fn(&str) -> bool) -> bool {
    match value {
        Value::Array(items) => items.iter().all(|item| only_texts(item, is_so)),
        Value::Object(fields) => fields.values().all(|field| only_texts(field, is_so)),
        Value::String(text) => is_so(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn lenient(mut result: Value) -> Result<ToolOutcome, Unusable> {
    let Some(Value::Array(blocks)) = result.get_mut("content").map(Value::take) else {
        return Err(Unusable::Odd);
    };
    let mut content: Vec<_> = blocks
        .into_iter()
        .map(|block| match serde_json::from_value(block.clone()) {
            Ok(known) => piece(known),
            Err(_) => ToolContent::Json(block.to_string()),
        })
        .collect();
    if let Some(value) = result.get("structuredContent") {
        structured(&mut content, value);
    }
    Ok(ToolOutcome {
        content,
        is_error: result["isError"] == true,
    })
}

fn piece(block: ContentBlock) -> ToolContent {
    match block {
        ContentBlock::Text(text) => ToolContent::Text(text.text),
        ContentBlock::Image(image) => blob(image.mime_type, &image.data),
        ContentBlock::Audio(audio) => blob(audio.mime_type, &audio.data),
        ContentBlock::Resource(embedded) => match embedded.resource {
            ResourceContents::TextResourceContents { text, .. } => ToolContent::Text(text),
            ResourceContents::BlobResourceContents {
                mime_type, blob: b, ..
            } => blob(
                mime_type.unwrap_or_else(|| "application/octet-stream".to_owned()),
                &b,
            ),
            other => json(&other),
        },
        other => json(&other),
    }
}

fn json(value: &impl serde::Serialize) -> ToolContent {
    let value = serde_json::to_value(value).unwrap_or_default();
    ToolContent::Json(value.to_string())
}

fn blob(mime_type: String, base64: &str) -> ToolContent {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    match GeneralPurpose::new(&STANDARD, config).decode(base64) {
        Ok(data) => ToolContent::Blob { mime_type, data },
        Err(_) => ToolContent::Text(format!("({mime_type}, sent in a form that is no base64)")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(answer: Value) -> Result<ToolOutcome, Unusable> {
        let answer = serde_json::from_value(answer).expect("an answer");
        outcome(answer, 1000)
    }

    fn pieces(answer: Value) -> Vec<ToolContent> {
        of(answer).expect("an outcome").content
    }

    #[test]
    fn every_kind_of_piece_comes_through() {
        let text = |text: &str| ToolContent::Text(text.to_owned());
        let blob = |mime: &str, data: &[u8]| ToolContent::Blob {
            mime_type: mime.to_owned(),
            data: data.to_vec(),
        };
        let found = pieces(json!({"content": [
            {"type": "text", "text": "a"},
            {"type": "image", "mimeType": "image/png", "data": "AQI="},
            {"type": "audio", "mimeType": "audio/wav", "data": "AQI"},
            {"type": "resource", "resource": {"uri": "u", "text": "b"}},
            {"type": "resource", "resource": {"uri": "u", "blob": "Aw=="}},
            {"type": "image", "mimeType": "image/png", "data": "?"},
        ]}));
        assert_eq!(
            found,
            [
                text("a"),
                blob("image/png", &[1, 2]),
                blob("audio/wav", &[1, 2]),
                text("b"),
                blob("application/octet-stream", &[3]),
                text("(image/png, sent in a form that is no base64)"),
            ]
        );
        let link = json!({"type": "resource_link", "uri": "file:///x", "name": "x"});
        let [ToolContent::Json(found)] = &pieces(json!({"content": [link]}))[..] else {
            panic!("one JSON value");
        };
        assert_eq!(serde_json::from_str::<Value>(found).expect("JSON"), link);
    }

    #[test]
    fn pieces_of_a_later_protocol_are_kept() {
        let found = of(json!({"isError": true, "content": [
            {"type": "text", "text": "a"},
            {"type": "hologram", "data": 1},
        ]}));
        let found = found.expect("an outcome");
        assert!(found.is_error);
        assert_eq!(found.content[0], ToolContent::Text("a".to_owned()));
        let ToolContent::Json(strange) = &found.content[1] else {
            panic!("{found:?}");
        };
        assert!(strange.contains("hologram"));
    }

    #[test]
    fn structured_content_is_not_said_twice() {
        let text = |text: &str| json!([{"type": "text", "text": text}]);
        let value = json!({"a": [1]});
        let twice = json!({"content": text("{ \"a\": [1] }"), "structuredContent": value});
        assert_eq!(
            pieces(twice),
            [ToolContent::Text("{ \"a\": [1] }".to_owned())]
        );
        let piecewise =
            json!({"content": text("a note"), "structuredContent": {"content": "a note"}});
        assert_eq!(pieces(piecewise), [ToolContent::Text("a note".to_owned())]);
        let apart = json!({"content": text("done"), "structuredContent": value});
        let json = ToolContent::Json("{\"a\":[1]}".to_owned());
        assert_eq!(
            pieces(apart),
            [ToolContent::Text("done".to_owned()), json.clone()]
        );
        assert_eq!(pieces(json!({"structuredContent": value})), [json]);
    }

    #[test]
    fn answers_that_are_none_are_told_apart() {
        assert_eq!(of(json!({})).map(|o| o.content.len()), Ok(0));
        assert_eq!(of(json!({"tools": []})), Err(Unusable::Odd));
        assert_eq!(of(json!({"what": 1})), Err(Unusable::Odd));
        assert_eq!(of(json!("text")), Err(Unusable::Odd));
        let long = "x".repeat(600);
        let block = json!({"type": "text", "text": long});
        assert_eq!(
            of(json!({"content": [block, block]})),
            Err(Unusable::TooLarge(1200))
        );
    }
}
