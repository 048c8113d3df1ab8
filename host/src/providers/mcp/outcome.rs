//! What a server answers to a call, as guests see it. Text always arrives: what cannot be read or is
//! too large is noted in its place, and costs nothing else.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::media::{self, Media};
use crate::domain::{ToolContent, ToolOutcome};

/// Why an answer is of no use. The tool has run all the same.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// Its texts have this many bytes.
    TooLarge(u64),
    /// The tool goes on in a way that cannot be followed.
    Unfinished,
}

/// What may be taken of an answer, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// All of it together.
    pub(super) all: u64,
    /// The largest image that a model is shown.
    pub(super) image: u64,
}

/// A piece of an answer.
#[derive(Debug)]
enum Piece {
    Content(ToolContent),
    Media(Media),
}

/// An answer's pieces, which fit into the room.
pub(super) fn outcome(answer: Value, room: Room) -> Result<ToolOutcome, Unusable> {
    let (pieces, is_error) = match answer {
        Value::Object(fields) => {
            if is_unfinished(&fields) {
                return Err(Unusable::Unfinished);
            }
            let is_error = match fields.get("isError") {
                Some(Value::String(text)) => text == "true",
                other => other == Some(&Value::Bool(true)),
            };
            (answered(fields), is_error)
        }
        // Some servers answer with nothing where there is nothing to say, or with the bare text.
        other => (bare(other), false),
    };
    let content = fit(pieces, room)?;
    Ok(ToolOutcome { content, is_error })
}

/// Whether what comes is a task, or a question to a human, and not an answer yet.
fn is_unfinished(fields: &Map<String, Value>) -> bool {
    let kind = fields.get("resultType").and_then(Value::as_str);
    let has_task = fields
        .get("task")
        .is_some_and(|task| task.get("taskId").is_some());
    kind.is_some_and(|kind| kind != "complete") || (has_task && !fields.contains_key("content"))
}

fn answered(mut fields: Map<String, Value>) -> Vec<Piece> {
    let mut take = |key: &str| fields.remove(key).filter(|value| !value.is_null());
    let (content, structured) = (take("content"), take("structuredContent"));
    // As the protocol of October 2024 has it.
    let old = take("toolResult");
    let known = [
        "_meta",
        "isError",
        "resultType",
        "content",
        "structuredContent",
        "toolResult",
    ];
    let said: BTreeSet<String> = content.as_ref().map(leaves).unwrap_or_default();
    let mut pieces = match content {
        Some(Value::Array(blocks)) => blocks.into_iter().map(piece).collect(),
        Some(Value::Object(block)) => vec![piece(Value::Object(block))],
        Some(other) => bare(other),
        None => old.map(bare).unwrap_or_default(),
    };
    let media = media_of(&pieces);
    for piece in &mut pieces {
        if let Piece::Content(ToolContent::Text(text)) = piece {
            *text = media::cut_text(std::mem::take(text), &media);
        }
    }
    if let Some(value) = structured {
        structure(&mut pieces, value, &said, &media);
    }
    fields.retain(|key, _| !known.contains(&&**key));
    if pieces.is_empty() && !fields.is_empty() {
        // Not what a tool should answer, and all that it says.
        return bare(Value::Object(fields));
    }
    pieces
}

/// A value that stands where content should.
fn bare(value: Value) -> Vec<Piece> {
    match value {
        Value::Null => Vec::new(),
        Value::String(text) => vec![Piece::Content(ToolContent::Text(text))],
        mut other => {
            media::cut(&mut other, &[]);
            vec![json(&other)]
        }
    }
}

/// Servers are asked to say structured content once more as text, for older clients, and some say
/// the whole content once more as structured content: a model shall not read everything twice. What
/// the content holds already, as it is or piece by piece, is not added.
fn structure(pieces: &mut Vec<Piece>, mut value: Value, said: &BTreeSet<String>, media: &[Media]) {
    let texts: Vec<&str> = pieces
        .iter()
        .filter_map(|piece| match piece {
            Piece::Content(ToolContent::Text(text)) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    let holds = |leaf: &str| said.contains(leaf) || texts.iter().any(|text| text.contains(leaf));
    let piecewise = !said.is_empty() && only_texts(&value, &holds);
    media::cut(&mut value, media);
    let as_json = |text: &&str| serde_json::from_str::<Value>(text).is_ok_and(|t| t == value);
    if !piecewise && !texts.iter().any(as_json) {
        pieces.push(json(&value));
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

/// All texts in a value, names of fields aside.
fn leaves(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut left = vec![value];
    while let Some(value) = left.pop() {
        match value {
            Value::Array(items) => left.extend(items),
            Value::Object(fields) => left.extend(fields.values()),
            Value::String(text) => {
                found.insert(text.clone());
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    found
}

fn media_of(pieces: &[Piece]) -> Vec<Media> {
    let media = pieces.iter().filter_map(|piece| match piece {
        Piece::Media(media) => Some(media.clone()),
        Piece::Content(_) => None,
    });
    media.collect()
}

fn piece(block: Value) -> Piece {
    let Value::Object(block) = block else {
        return bare(block).pop().unwrap_or_else(|| json(&Value::Null));
    };
    let text =
        |of: &Map<String, Value>, key: &str| of.get(key).and_then(Value::as_str).map(str::to_owned);
    // Whatever its type says: a resource is one level down.
    let inner = block.get("resource").and_then(Value::as_object);
    let inner = inner.unwrap_or(&block);
    if let Some(said) = text(inner, "text") {
        return Piece::Content(ToolContent::Text(said));
    }
    let kind = text(inner, "mimeType").or_else(|| text(inner, "mime_type"));
    let named = matches!(text(&block, "type").as_deref(), Some("image" | "audio"));
    for key in ["data", "blob"] {
        let Some(sent) = text(inner, key) else {
            continue;
        };
        if named || kind.is_some() || key == "blob" {
            return match Media::read(kind.as_deref(), &sent) {
                Ok(media) => Piece::Media(media),
                Err(note) => Piece::Content(ToolContent::Text(note)),
            };
        }
        // Nothing says that it is data, and it may be anything.
        if let Some(media) = Media::guess(&sent) {
            return Piece::Media(media);
        }
    }
    let mut block = Value::Object(block);
    media::cut(&mut block, &[]);
    json(&block)
}

fn json(value: &Value) -> Piece {
    Piece::Content(ToolContent::Json(value.to_string()))
}

/// Texts first: what they leave of the room the rest may have, piece by piece.
fn fit(pieces: Vec<Piece>, room: Room) -> Result<Vec<ToolContent>, Unusable> {
    let weigh = |piece: &Piece| match piece {
        Piece::Content(ToolContent::Text(text) | ToolContent::Json(text)) => text.len(),
        Piece::Content(ToolContent::Blob { data, .. }) => data.len(),
        // In any case what stands in its place.
        Piece::Media(media) => media.note_over(room.all).len(),
    };
    let texts: u64 = pieces.iter().map(|piece| weigh(piece) as u64).sum();
    let Some(mut left) = room.all.checked_sub(texts) else {
        return Err(Unusable::TooLarge(texts));
    };
    let content = pieces.into_iter().map(|piece| {
        let media = match piece {
            Piece::Content(content) => return content,
            Piece::Media(media) => media,
        };
        let bytes = media.data.len() as u64;
        let image = (bytes <= room.image).then(|| media.image()).flatten();
        if let Some(image) = image
            && let Some(rest) = left.checked_sub(image.len() as u64)
        {
            left = rest;
            return ToolContent::Text(image);
        }
        match left.checked_sub(bytes) {
            Some(rest) => {
                left = rest;
                ToolContent::Blob {
                    mime_type: media.mime_type,
                    data: media.data,
                }
            }
            None => ToolContent::Text(media.note_over(left)),
        }
    });
    Ok(content.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ROOM: Room = Room {
        all: 1000,
        image: 0,
    };

    fn of(answer: Value) -> Result<ToolOutcome, Unusable> {
        outcome(answer, ROOM)
    }

    fn pieces(answer: Value) -> Vec<ToolContent> {
        of(answer).expect("an outcome").content
    }

    fn text(text: &str) -> ToolContent {
        ToolContent::Text(text.to_owned())
    }

    fn blob(mime_type: &str, data: &[u8]) -> ToolContent {
        ToolContent::Blob {
            mime_type: mime_type.to_owned(),
            data: data.to_vec(),
        }
    }

    #[test]
    fn every_kind_of_piece_comes_through() {
        let found = pieces(json!({"content": [
            {"type": "text", "text": "a"},
            {"type": "image", "mimeType": "image/png", "data": "AQI="},
            {"type": "audio", "mimeType": "audio/wav", "data": "AQI"},
            {"type": "resource", "resource": {"uri": "u", "text": "b"}},
            {"type": "resource", "resource": {"uri": "u", "blob": "Aw=="}},
            {"type": "image", "mimeType": "image/png", "data": "?"},
            {"type": "image", "data": "data:image/png;base64,AQI="},
            {"type": "video", "mimeType": "video/mp4", "data": "AQI="},
            "c", {"text": "d"},
        ]}));
        assert_eq!(
            found,
            [
                text("a"),
                blob("image/png", &[1, 2]),
                blob("audio/wav", &[1, 2]),
                text("b"),
                blob("application/octet-stream", &[3]),
                text("[image/png, sent in a form that is no base64]"),
                blob("image/png", &[1, 2]),
                blob("video/mp4", &[1, 2]),
                text("c"),
                text("d"),
            ]
        );
        for strange in [
            json!({"type": "resource_link", "uri": "file:///x", "name": "x"}),
            json!({"type": "hologram", "data": 1}),
            json!({"type": "resource", "resource": {"uri": "u"}}),
            json!({"type": "resource"}),
            json!({"type": "text", "text": 7}),
            json!({"type": "image"}),
            json!({}),
            json!(null),
            json!(7),
            json!([1]),
        ] {
            let found = pieces(json!({"content": [strange, {"type": "text", "text": "a"}]}));
            let [ToolContent::Json(found), after] = &found[..] else {
                panic!("{strange}: {found:?}");
            };
            assert_eq!(serde_json::from_str::<Value>(found).expect("JSON"), strange);
            assert_eq!(after, &text("a"));
        }
    }

    #[test]
    fn structured_content_is_not_said_twice() {
        let texts = |text: &str| json!([{"type": "text", "text": text}]);
        let value = json!({"a": [1]});
        let twice = json!({"content": texts("{ \"a\": [1] }"), "structuredContent": value});
        assert_eq!(pieces(twice), [text("{ \"a\": [1] }")]);
        let piecewise =
            json!({"content": texts("a note"), "structuredContent": {"content": "a note"}});
        assert_eq!(pieces(piecewise), [text("a note")]);
        let apart = json!({"content": texts("done"), "structuredContent": value});
        let json = ToolContent::Json("{\"a\":[1]}".to_owned());
        assert_eq!(pieces(apart), [text("done"), json.clone()]);
        assert_eq!(pieces(json!({"structuredContent": value})), [json]);
    }

    #[test]
    fn media_arrive_once_and_never_as_text() {
        let data = "QUJD".repeat(100);
        let image = json!({"type": "image", "mimeType": "image/png", "data": data});
        let bytes = "ABC".repeat(100).into_bytes();
        // Structured content that is the content once more.
        let answer = json!({"content": [image], "structuredContent": {"content": [image]}});
        assert_eq!(pieces(answer), [blob("image/png", &bytes)]);
        // The same as text, and a value of its own beside it.
        let said = json!({"width": 3, "image": data});
        let answer = json!({
            "content": [image, {"type": "text", "text": said.to_string()}],
            "structuredContent": said,
        });
        let cut = "{\"image\":\"[300 bytes of image/png]\",\"width\":3}";
        assert_eq!(pieces(answer), [blob("image/png", &bytes), text(cut)]);
        let answer = json!({"content": [image], "structuredContent": said});
        assert_eq!(
            pieces(answer),
            [blob("image/png", &bytes), ToolContent::Json(cut.to_owned())]
        );
        let url = format!("data:image/png;base64,{data}");
        let answer = json!({"content": [], "structuredContent": {"url": url}});
        let cut = "{\"url\":\"[300 bytes of image/png]\"}";
        assert_eq!(pieces(answer), [ToolContent::Json(cut.to_owned())]);
    }

    #[test]
    fn what_has_no_room_is_dropped_alone() {
        let data = "QUJD".repeat(200);
        let image = json!({"type": "image", "mimeType": "image/png", "data": data});
        let small = json!({"type": "image", "mimeType": "image/png", "data": "AQI="});
        let say = |length: usize| json!({"type": "text", "text": "x".repeat(length)});
        let found = pieces(json!({"content": [image, say(500), small]}));
        let ToolContent::Text(note) = &found[0] else {
            panic!("{found:?}");
        };
        assert!(
            note.starts_with("[600 bytes of image/png, over ")
                && note.ends_with("(`limits.event`)]"),
            "{note}"
        );
        assert_eq!(
            found[1..],
            [text(&"x".repeat(500)), blob("image/png", &[1, 2])]
        );
        assert_eq!(
            of(json!({"content": [say(600), say(600)]})),
            Err(Unusable::TooLarge(1200))
        );
    }

    #[test]
    fn images_are_shown_up_to_their_bound() {
        let png = json!({"type": "image", "mimeType": "image/png", "data": "iVBORw0KGgo="});
        let shown = "![image/png](data:image/png;base64,iVBORw0KGgo=)";
        for (all, image, expected) in [
            (1000, 0, blob("image/png", b"\x89PNG\r\n\x1a\n")),
            (1000, 7, blob("image/png", b"\x89PNG\r\n\x1a\n")),
            (1000, 8, text(shown)),
            (70, 8, blob("image/png", b"\x89PNG\r\n\x1a\n")),
        ] {
            let room = Room { all, image };
            let found = outcome(json!({"content": [png]}), room).expect("an outcome");
            assert_eq!(found.content, [expected], "{room:?}");
        }
    }

    #[test]
    fn whatever_an_answer_is_it_is_told() {
        for nothing in [
            json!({}),
            json!(null),
            json!({"content": null}),
            json!({"content": []}),
            json!({"content": [], "structuredContent": null}),
            json!({"toolResult": null}),
            json!({"_meta": {"a": 1}}),
            json!({"resultType": "complete"}),
        ] {
            assert_eq!(pieces(nothing.clone()), [], "{nothing}");
        }
        for (answer, expected) in [
            (json!("text"), text("text")),
            (json!({"content": "text"}), text("text")),
            (
                json!({"content": {"type": "text", "text": "text"}}),
                text("text"),
            ),
            (json!({"toolResult": "text"}), text("text")),
            (
                json!({"toolResult": {"a": 1}}),
                ToolContent::Json("{\"a\":1}".to_owned()),
            ),
            (
                json!({"what": 1}),
                ToolContent::Json("{\"what\":1}".to_owned()),
            ),
            (json!([1]), ToolContent::Json("[1]".to_owned())),
        ] {
            assert_eq!(pieces(answer.clone()), [expected], "{answer}");
        }
        for (is_error, expected) in [
            (json!(true), true),
            (json!("true"), true),
            (json!(false), false),
            (json!(null), false),
        ] {
            let outcome = of(json!({"content": [], "isError": is_error})).expect("an outcome");
            assert_eq!(outcome.is_error, expected);
        }
        for unfinished in [
            json!({"task": {"taskId": "1", "status": "working"}}),
            json!({"resultType": "input_required", "inputRequests": {}}),
        ] {
            assert_eq!(of(unfinished), Err(Unusable::Unfinished));
        }
    }
}
