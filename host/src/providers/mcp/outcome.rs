//! Converts a server's answer to a call into the form that guests see. Text always arrives: a part
//! that cannot be read or is too large is replaced by a note, and affects no other part.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::media::{self, Media, Search};
use crate::domain::{ToolContent, ToolOutcome};

/// Why an answer is unusable. The tool has run all the same.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// Its texts have this many bytes, which is too many.
    TooLarge(u64),
    /// The tool continues in the background, in a way that cannot be followed.
    Unfinished,
}

/// The size limits of an answer, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// The limit on the whole answer.
    pub(super) all: u64,
    /// The limit on an image that is shown to a model.
    pub(super) image: u64,
}

/// A part of an answer.
#[derive(Debug)]
enum ResultPart {
    Content(ToolContent),
    Media(Media),
}

/// Converts an answer into parts that fit into `room`.
pub(super) fn outcome(answer: Value, room: Room) -> Result<ToolOutcome, Unusable> {
    let (pieces, is_error) = match answer {
        Value::Object(fields) => {
            if is_unfinished(&fields) {
                return Err(Unusable::Unfinished);
            }
            let is_error = ["isError", "is_error"]
                .iter()
                .any(|key| match fields.get(*key) {
                    Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
                    Some(Value::Number(number)) => number.as_f64() != Some(0.0),
                    other => other == Some(&Value::Bool(true)),
                });
            (answered(fields, room)?, is_error)
        }
        // Some servers answer with null if there is nothing to report, or with the bare text.
        other => (bare(other), false),
    };
    let content = fit(pieces, room)?;
    Ok(ToolOutcome { content, is_error })
}

/// Returns whether the answer is a task or a question to a human, and not a result yet.
fn is_unfinished(fields: &Map<String, Value>) -> bool {
    let kind = fields.get("resultType").and_then(Value::as_str);
    let has_task = fields
        .get("task")
        .is_some_and(|task| task.get("taskId").is_some());
    // Content that is present is a result, whatever `resultType` claims, and must not be lost.
    let mut places = ["content", "structuredContent", "toolResult"].iter();
    let says = places.any(|key| fields.get(*key).is_some_and(|value| !value.is_null()));
    !says && (has_task || kind.is_some_and(|kind| kind != "complete"))
}

fn answered(mut fields: Map<String, Value>, room: Room) -> Result<Vec<ResultPart>, Unusable> {
    let mut take = |key: &str| fields.remove(key).filter(|value| !value.is_null());
    let (content, structured) = (take("content"), take("structuredContent"));
    // The field of the protocol version of October 2024.
    let old = take("toolResult");
    let known = [
        "_meta",
        "isError",
        "is_error",
        "resultType",
        "content",
        "structuredContent",
        "toolResult",
    ];
    let present = content.as_ref().filter(|_| structured.is_some());
    let present: HashSet<String> = present.map(leaves).unwrap_or_default();
    let mut pieces = match content {
        Some(Value::Array(blocks)) => blocks.into_iter().map(piece).collect(),
        Some(Value::Object(block)) => vec![piece(Value::Object(block))],
        Some(other) => bare(other),
        None => old.map(bare).unwrap_or_default(),
    };
    let media = media_of(&pieces);
    let mut search = Search::new();
    let longest_first = media::longest_first(&media);
    let mut texts = 0;
    for piece in &mut pieces {
        if let ResultPart::Content(ToolContent::Text(text)) = piece {
            *text = media::cut_text(std::mem::take(text), &longest_first, &mut search);
            media::cut_json(text);
            texts += text.len() as u64;
        }
    }
    if texts > room.all {
        // Stop here: the answer will be rejected anyway.
        return Err(Unusable::TooLarge(texts));
    }
    if let Some(value) = structured {
        let left = room.all - texts;
        structure(&mut pieces, value, &present, &media, &mut search, left);
    }
    fields.retain(|key, _| !known.contains(&&**key));
    if pieces.is_empty() && !fields.is_empty() {
        // Not a valid tool result, but all that the server sent.
        return Ok(bare(Value::Object(fields)));
    }
    Ok(pieces)
}

/// Converts a value that takes the place of content.
fn bare(value: Value) -> Vec<ResultPart> {
    match value {
        Value::Null => Vec::new(),
        Value::String(text) => vec![ResultPart::Content(ToolContent::Text(text))],
        mut other => {
            media::cut(&mut other, &[]);
            vec![json(&other)]
        }
    }
}

/// Adds the structured content, unless the content already holds it, as it is or part by part: the
/// protocol asks servers to repeat structured content as text, for older clients, and some repeat
/// the whole content as structured content. A model should not read everything twice.
fn structure(
    pieces: &mut Vec<ResultPart>,
    value: Value,
    present: &HashSet<String>,
    media: &[Media],
    search: &mut Search,
    left: u64,
) {
    let texts: Vec<&str> = pieces
        .iter()
        .filter_map(|piece| match piece {
            ResultPart::Content(ToolContent::Text(text)) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    let mut cut = value.clone();
    media::cut(&mut cut, media);
    if is_said(&cut, &texts) {
        return;
    }
    let mut holds =
        |leaf: &str| present.contains(leaf) || texts.iter().any(|text| search.finds(leaf, text));
    if present.is_empty() || !only_texts(&value, &mut holds) {
        let piece = json(&cut);
        let bytes = size_of(&piece, left) as u64;
        pieces.push(match bytes <= left {
            true => piece,
            // The text has priority.
            false => {
                let note = format!(
                    "[{bytes} bytes of structured content, for which there is no room beside the text \
                     (`limits.event`)]"
                );
                ResultPart::Content(ToolContent::Text(note))
            }
        });
    }
}

/// Returns whether the texts repeat a structured value: one text the whole value, or each text one
/// of its items. The Python SDK wraps a value that is not an object into `result`.
fn is_said(value: &Value, texts: &[&str]) -> bool {
    let fields = value.as_object().filter(|fields| fields.len() == 1);
    let wrapped = fields.and_then(|fields| fields.get("result"));
    let forms = [Some(value), wrapped];
    let is = |text: &str, value: &Value| {
        value.as_str() == Some(text)
            || serde_json::from_str(text).is_ok_and(|parsed: Value| parsed == *value)
    };
    forms.into_iter().flatten().any(|value| {
        let items = value.as_array().filter(|items| items.len() == texts.len());
        let by_item =
            items.is_some_and(|items| texts.iter().zip(items).all(|(text, item)| is(text, item)));
        by_item || texts.iter().any(|text| is(text, value))
    })
}

/// Returns whether a value holds only strings, apart from field names, and `is_so` is true of each.
/// A number or a boolean never counts, since it occurs in many a text by chance.
fn only_texts(value: &Value, is_so: &mut impl FnMut(&str) -> bool) -> bool {
    match value {
        Value::Array(items) => items.iter().all(|item| only_texts(item, is_so)),
        Value::Object(fields) => fields.values().all(|field| only_texts(field, is_so)),
        Value::String(text) => is_so(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Returns all strings in a value, except field names.
fn leaves(value: &Value) -> HashSet<String> {
    let mut found = HashSet::new();
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

fn media_of(pieces: &[ResultPart]) -> Vec<Media> {
    let media = pieces.iter().filter_map(|piece| match piece {
        ResultPart::Media(media) => Some(media.clone()),
        ResultPart::Content(_) => None,
    });
    media.collect()
}

fn piece(block: Value) -> ResultPart {
    let Value::Object(block) = block else {
        return bare(block).pop().unwrap_or_else(|| json(&Value::Null));
    };
    let text =
        |of: &Map<String, Value>, key: &str| of.get(key).and_then(Value::as_str).map(str::to_owned);
    // Regardless of its type, an embedded resource is nested one level down.
    let inner = block.get("resource").and_then(Value::as_object);
    let inner = inner.unwrap_or(&block);
    if let Some(content) = text(inner, "text") {
        return ResultPart::Content(ToolContent::Text(content));
    }
    // The form that the APIs of models use for images.
    let inner = inner
        .get("source")
        .and_then(Value::as_object)
        .unwrap_or(inner);
    let kinds = ["mimeType", "mime_type", "media_type"];
    let kind = kinds.iter().find_map(|key| text(inner, key));
    let named = matches!(text(&block, "type").as_deref(), Some("image" | "audio"));
    for key in ["data", "blob", "image", "audio", "base64"] {
        let Some(sent) = text(inner, key) else {
            continue;
        };
        let is_sure = key == "blob" || (key == "data" && (named || kind.is_some()));
        if is_sure {
            return match Media::read(kind.as_deref(), &sent) {
                Ok(media) => ResultPart::Media(media),
                Err(note) => ResultPart::Content(ToolContent::Text(note)),
            };
        }
        // Nothing declares this field to be data, so it may hold anything.
        if let Some(media) = Media::guess(&sent) {
            return ResultPart::Media(media);
        }
    }
    let mut block = Value::Object(block);
    media::cut(&mut block, &[]);
    json(&block)
}

fn json(value: &Value) -> ResultPart {
    ResultPart::Content(ToolContent::Json(value.to_string()))
}

/// Returns how much of the room a part takes at least, in bytes.
fn size_of(piece: &ResultPart, room: u64) -> usize {
    match piece {
        ResultPart::Content(ToolContent::Text(text) | ToolContent::Json(text)) => text.len(),
        ResultPart::Content(ToolContent::Blob { data, .. }) => data.len(),
        // At least the note that replaces it.
        ResultPart::Media(media) => media.note_over(room).len(),
    }
}

/// Reserves room for all texts first; media get what is left, part by part.
fn fit(pieces: Vec<ResultPart>, room: Room) -> Result<Vec<ToolContent>, Unusable> {
    let texts: u64 = pieces
        .iter()
        .map(|piece| size_of(piece, room.all) as u64)
        .sum();
    let Some(mut left) = room.all.checked_sub(texts) else {
        return Err(Unusable::TooLarge(texts));
    };
    let content = pieces.into_iter().map(|piece| {
        let media = match piece {
            ResultPart::Content(content) => return content,
            ResultPart::Media(media) => media,
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
