//! What the model is told of a tool call, in words that it can act on.

use abide_guest_sdk::StepError;
use abide_guest_sdk::tools::{Content, Outcome};

use crate::images;

/// What a result begins with of which nobody knows.
pub(crate) const UNKNOWN: &str = "unknown-outcome";
/// What stands for a result without content.
const SILENT: &str = "[The tool is done and says nothing.]";
/// How much of its own words the model is shown again, in bytes.
pub(crate) const QUOTED_BYTES: usize = 1024;

/// A tool call's result as text, at most about `bytes` long.
pub(crate) fn tell(result: &Result<Outcome, StepError>, bytes: usize) -> String {
    let error = match result {
        Ok(outcome) => {
            let text = match text(&outcome.content, bytes) {
                // There are providers that refuse an empty one.
                empty if empty.is_empty() => SILENT.to_owned(),
                text => cut(&text, bytes),
            };
            return match outcome.is_error {
                true => format!("The tool reports an error: {text}"),
                false => text,
            };
        }
        Err(error) => error,
    };
    let cut = |reason: &str| cut(reason, bytes.max(QUOTED_BYTES));
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

/// The beginning of a text, with a mark where it was cut. Half an image is nothing that a model
/// can see, and so an image is not cut.
pub(crate) fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes);
    let split = images::across(text, end);
    let (shown, note) = split.unwrap_or_else(|| (end, String::new()));
    let all = text.len();
    format!("{}{note}\n[cut: {shown} of {all} bytes]", &text[..shown])
}

/// All parts. An image is there as a whole, if the parts up to it and itself have `bytes` at most,
/// or else in words.
fn text(content: &[Content], bytes: usize) -> String {
    let mut text = String::new();
    for (n, part) in content.iter().enumerate() {
        if n > 0 {
            text.push('\n');
        }
        match part {
            Content::Text(part) => match images::note_of(part) {
                Some(note) if text.len() + part.len() > bytes => text.push_str(&note),
                _ => text.push_str(part),
            },
            Content::Json(json) => text.push_str(json),
            Content::Blob(blob) => {
                let (size, kind) = (blob.data.len(), &blob.mime_type);
                text.push_str(&format!("[{size} bytes of {kind}]"));
            }
        }
    }
    text
}
