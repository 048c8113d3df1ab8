//! Converts the result of a tool call into text that the model can act on.

use abide_plugin::StepError;
use abide_plugin::tools::{Content, Outcome};

use crate::images;

/// The beginning of a result whose outcome is unknown.
pub(crate) const UNKNOWN: &str = "unknown-outcome";
/// The text in place of an empty result.
const SILENT: &str = "[The tool is done and says nothing.]";
/// How much of its own text is quoted to the model, in bytes.
pub(crate) const QUOTED_BYTES: usize = 1024;

/// How much of a result is shown to a model, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// The limit on texts.
    pub(crate) text: usize,
    /// The limit on texts and images together.
    pub(crate) all: usize,
}

/// Converts a tool call's result into text, of about `room` at most.
pub(crate) fn tell(result: &Result<Outcome, StepError>, room: Room) -> String {
    let error = match result {
        Ok(outcome) => {
            let text = match text(&outcome.content, room) {
                // Some providers reject an empty result.
                empty if empty.is_empty() => SILENT.to_owned(),
                text => text,
            };
            return match outcome.is_error {
                true => format!("The tool reports an error: {text}"),
                false => text,
            };
        }
        Err(error) => error,
    };
    let cut = |reason: &str| cut(reason, room.text.max(QUOTED_BYTES));
    match error {
        StepError::Denied(reason) => format!(
            "Nothing was called: this is not allowed. Do not make the same call again; go on \
             without it, or tell the user what you lack. ({})",
            cut(reason)
        ),
        StepError::Invalid(reason) => format!(
            "Nothing was done: the call makes no sense as it is. Correct it before you call \
             again. ({})",
            cut(reason)
        ),
        StepError::Unavailable(reason) => format!(
            "The tool cannot be reached now. Call it again later, or go on without it. ({})",
            cut(reason)
        ),
        StepError::Timeout(reason) => format!(
            "The tool took too long and was given up. It may have done its work all the same: \
             check before you call it again with something that must not happen twice. ({})",
            cut(reason)
        ),
        StepError::TooLarge(reason) => format!(
            "The call or its result is over a limit. If the call changes something, it may have \
             done so: check before you call again, and ask for less. ({})",
            cut(reason)
        ),
        StepError::UnknownOutcome(reason) => format!(
            "{UNKNOWN}: the call was begun and then interrupted, and nobody knows whether it \
             happened. This is neither a success nor a failure. First find out, by a call \
             that only reads, whether it took effect; call again only if it did not. If there is \
             no way to find out, do not call again, and tell the user. ({})",
            cut(reason)
        ),
        StepError::Failed(reason) => {
            format!("The tool's server answered with an error: {}", cut(reason))
        }
    }
}

/// Cuts a text, and marks the cut. An image is never cut, since a model cannot see a part of one.
pub(crate) fn cut(text: &str, bytes: usize) -> String {
    match text.len() <= bytes {
        true => text.to_owned(),
        false => cut_of(text, bytes, 0, text.len()),
    }
}

/// Cuts a text that follows the first `before` of `all` bytes.
fn cut_of(text: &str, bytes: usize, before: usize, all: usize) -> String {
    let end = text.floor_char_boundary(bytes);
    let split = images::across(text, end);
    let (shown, note) = split.unwrap_or_else(|| (end, String::new()));
    let so_far = before + shown;
    format!("{}{note}\n[cut: {so_far} of {all} bytes]", &text[..shown])
}

/// Joins all parts in their order: the texts up to their limit, and the images that fit into what
/// is left. An image that does not fit is replaced by a note.
fn text(content: &[Content], room: Room) -> String {
    let parts: Vec<Part<'_>> = content.iter().map(Part::of).collect();
    let texts = parts.iter().map(|part| match part {
        Part::Text(text) => text.len() + "\n".len(),
        Part::Image { .. } => 0,
    });
    let all: usize = texts.sum::<usize>().saturating_sub("\n".len());
    // Each part but the first costs a line break as well.
    let mut images_left = room.all.saturating_sub(all.min(room.text));
    let mut text_left = Some(room.text);
    let mut shown: Vec<String> = Vec::new();
    for part in parts {
        match (part, text_left) {
            (Part::Image { text, note }, _) => {
                match images_left.checked_sub(text.len() + "\n".len()) {
                    Some(left) => {
                        images_left = left;
                        shown.push(text.to_owned());
                    }
                    None => shown.push(note),
                }
            }
            (Part::Text(text), Some(left)) if text.len() <= left || all <= room.text => {
                text_left = Some(left.saturating_sub(text.len() + "\n".len()));
                shown.push(text);
            }
            (Part::Text(text), Some(left)) => {
                shown.push(cut_of(&text, left, room.text - left, all));
                text_left = None;
            }
            // The mark of the cut already shows that there was more.
            (Part::Text(_), None) => {}
        }
    }
    shown.join("\n")
}

/// A part of a result, as it may be shown to a model.
enum Part<'a> {
    Text(String),
    Image { text: &'a str, note: String },
}

impl<'a> Part<'a> {
    fn of(content: &'a Content) -> Self {
        match content {
            Content::Text(text) => match images::note_of(text) {
                Some(note) => Self::Image { text, note },
                None => Self::Text(text.clone()),
            },
            Content::Json(json) => Self::Text(json.clone()),
            Content::Blob(blob) => {
                let (size, kind) = (blob.data.len(), &blob.mime_type);
                Self::Text(format!("[{size} bytes of {kind}]"))
            }
        }
    }
}
