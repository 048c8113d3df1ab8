//! Derives from a refusal what the provider does not accept. Pure.
//!
//! Servers name it in a `param`, in the `loc` of a validator's entries, or in prose that names the
//! field. A mend costs one more request: a wrong guess is refused again, and is not remembered.

use std::collections::BTreeSet;

use http::StatusCode;
use serde_json::Value;

use super::classify::MODEL_FAILED;
use super::dialect::{Dialect, Mend, RefusedTool};
use super::render::Sent;
use super::words::{Words, collect};

/// The names of the bound on an answer's tokens, across all APIs.
const ANSWER_KEYS: [&str; 6] = [
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "maxoutputtokens",
    "max_new_tokens",
    "maxtokens",
];
/// The smallest number that is taken for a bound on the number of tools, if the refusal has no
/// known phrase for it.
const TOOLS_LEAST: usize = 8;
/// OpenAI's bound on a tool's description, used if a server says only that one is too long.
const DESCRIPTION_CHARS: usize = 1024;
/// Phrases about a name that a server does not know.
const UNSUPPORTED: [&str; 13] = [
    "not support",
    "n't support",
    "unsupported",
    "unknown",
    "unrecognized",
    "unrecognised",
    "unexpected",
    "not permitted",
    "not allowed",
    "not available",
    "not implemented",
    "extra",
    "no longer",
];
/// Phrases with status 500 if a chat template, and not the server, refuses the request.
const OF_TEMPLATES: [&str; 9] = [
    "jinja",
    "template",
    "roles must",
    "role must",
    "system role",
    "nonetype",
    "not support",
    "only support",
    "schema",
];
/// Those of them that no failure of the server itself has.
const SURELY_OF_TEMPLATES: [&str; 4] =
    ["jinja", "chat template", "roles must", "schema conversion"];
/// Returns the mend for a bound on the answer's tokens that the refusal names. Such a refusal reads
/// like one of a request that is too large, but is not.
pub(super) fn answer_bound(status: StatusCode, document: &Value, sent: &Sent) -> Option<Mend> {
    if !is_about_request(status) {
        return None;
    }
    let words = Words::of(document);
    let asked = ["max_tokens", "max_completion_tokens"]
        .iter()
        .find_map(|key| sent.body.get(*key)?.as_u64())?;
    // Identified by its name in one of the APIs, or by its number along with what it counts.
    let is_named = words.has(&ANSWER_KEYS)
        || words.says(&["maximum tokens you requested"])
        || (words.numbers().any(|number| number == asked) && words.has(&["completion", "output"]));
    if !is_named {
        return None;
    }
    // `context_window` is a different word.
    if words.has(&[
        "context",
        "prompt",
        "input",
        "inputs",
        "messages",
        "max_model_len",
    ]) {
        let window = words.number_behind(&[
            "context length is ",
            "context length is only ",
            "context length of ",
            "context window of ",
            "context size of ",
            "max_model_len=",
            "max_model_len (",
            "must be <= ",
        ])?;
        let most = match asked >= window {
            // It exceeds the window, however short the conversation is.
            true => window / 2,
            // Conversation and answer share the window. Shortening the answer is better than
            // cutting the conversation, as long as a quarter of the window is left for the answer.
            false => {
                let left = window.checked_sub(words.beside(asked)?)?;
                Some(window / 4).filter(|quarter| left >= *quarter)?
            }
        };
        let most = u32::try_from(most).ok()?;
        return (u64::from(most) < asked).then_some(Mend::MaxTokensOver(most));
    }
    let most = words.most().filter(|most| *most < asked)?;
    Some(Mend::MaxTokensOver(u32::try_from(most).ok()?))
}

/// Returns the mends to try after this refusal, the likeliest first: what its words name and the
/// dialect does not leave out already.
pub(super) fn mends(
    status: StatusCode,
    document: &Value,
    sent: &Sent,
    dialect: &Dialect,
) -> Vec<Mend> {
    if !is_about_request(status) {
        return Vec::new();
    }
    let words = Words::of(document);
    // If the model is at fault, the refusal names what the model tried to do. If the server itself
    // fails, it names its own internals.
    if words.says(&MODEL_FAILED) || (status.as_u16() == 500 && !words.says(&OF_TEMPLATES)) {
        return Vec::new();
    }
    let found = [
        text_beside_calls,
        stream_options,
        max_tokens,
        temperature,
        description,
        tool_count,
        images,
        null_content,
        parallel_calls,
        tool_lines,
        system,
        stream,
    ];
    let found = found.into_iter().filter_map(|find| find(&words, sent));
    // A server that fails and names a tool may have failed on its model's call of that tool.
    let tool = match status.as_u16() {
        500 if !words.says(&SURELY_OF_TEMPLATES) => None,
        _ => one_tool(document, &words, sent),
    };
    let found = found.chain(tool);
    let news = found.filter(|mend| dialect.without(mend.clone()).is_some());
    news.collect()
}

/// Returns whether the same request would be refused again. With status 500 this is unknown, unless
/// a template clearly refused it.
pub(super) fn is_lasting(status: StatusCode, document: &Value) -> bool {
    status.as_u16() != 500 || Words::of(document).says(&SURELY_OF_TEMPLATES)
}

/// Returns whether the server refuses one image, rather than images in general.
pub(super) fn is_about_one_image(document: &Value) -> bool {
    Words::of(document).says(&[
        "valid image",
        "process image",
        "process the image",
        "your image",
        "exceed",
        "too large",
        "too big",
        "decode",
        "corrupt",
        "dimension",
        "truncated",
    ])
}

/// Returns whether servers use this status to complain about the request. Exceptions that templates
/// raise arrive as 500.
fn is_about_request(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 404 | 405 | 415 | 422 | 500 | 501)
}

fn text_beside_calls(words: &Words, sent: &Sent) -> Option<Mend> {
    let named = words.has(&["content"]) && words.has(&["tool_calls"]);
    let refused = words.says(&["not both", "cannot have both", "mutually exclusive"]);
    (sent.text_beside_calls && named && refused).then_some(Mend::TextBesideCalls)
}

fn stream_options(words: &Words, sent: &Sent) -> Option<Mend> {
    let sends = sent.body.contains_key("stream_options");
    (sends && words.has(&["stream_options", "include_usage"])).then_some(Mend::StreamOptions)
}

fn stream(words: &Words, sent: &Sent) -> Option<Mend> {
    let streams = sent.body.get("stream").is_some_and(|stream| stream == true);
    let named = words.has(&["stream", "streaming", "streamed"]);
    let refused = words.says(&UNSUPPORTED) || words.says(&["must be false", "disabled"]);
    (streams && named && refused).then_some(Mend::Stream)
}

fn max_tokens(words: &Words, sent: &Sent) -> Option<Mend> {
    let sends = |key: &str| sent.body.contains_key(key) && words.has(&[key]);
    if sends("max_completion_tokens") && words.negative {
        return Some(Mend::MaxTokens);
    }
    let refused = words.says(&UNSUPPORTED) || words.has(&["max_completion_tokens"]);
    (sends("max_tokens") && refused).then_some(Mend::CompletionTokens)
}

fn temperature(words: &Words, sent: &Sent) -> Option<Mend> {
    let sends = sent.body.contains_key("temperature");
    (sends && words.has(&["temperature"])).then_some(Mend::Temperature)
}

fn description(words: &Words, sent: &Sent) -> Option<Mend> {
    let named = words.has(&["description", "descriptions"]) && sent.body.contains_key("tools");
    let long = words.says(&[
        "too long",
        "maximum length",
        "at most",
        "too large",
        "exceed",
    ]);
    (named && long).then(|| {
        let most = words.most().and_then(|most| usize::try_from(most).ok());
        Mend::DescriptionsOver(most.unwrap_or(DESCRIPTION_CHARS).min(DESCRIPTION_CHARS))
    })
}

fn tool_count(words: &Words, sent: &Sent) -> Option<Mend> {
    let tools = sent.body.get("tools")?.as_array()?.len();
    let many = words.says(&[
        "too many",
        "too long",
        "at most",
        "maximum",
        "no more than",
        "limit",
        "up to",
        "more than",
        "exceed",
        "less than or equal",
    ]);
    if !words.has(&["tools", "functions", "function_declarations"]) || !many {
        return None;
    }
    let most = words.most().and_then(|most| usize::try_from(most).ok());
    // In whatever words, the refusal names both the number of tools sent and the bound.
    let counted = || {
        let numbers = words.numbers();
        let numbers = numbers.filter_map(|number| usize::try_from(number).ok());
        let numbers: Vec<usize> = numbers.collect();
        let bounds = numbers.iter().copied();
        let bound = bounds.filter(|number| (TOOLS_LEAST..tools).contains(number));
        bound.max().filter(|_| numbers.contains(&tools))
    };
    match most.filter(|most| *most < tools).or_else(counted) {
        Some(most) => Some(Mend::ToolsOver(most)),
        None if words.says(&["too many"]) && tools > 1 => Some(Mend::ToolsOver(tools / 2)),
        None => None,
    }
}

fn images(words: &Words, sent: &Sent) -> Option<Mend> {
    let named = words.has(&[
        "image",
        "images",
        "image_url",
        "multimodal",
        "multi",
        "vision",
        "mmproj",
        "modality",
        "modalities",
    ]);
    let wants_text = words.has(&["content", "contents"]) && words.has(&["string", "str", "text"]);
    (sent.images && (named || wants_text)).then_some(Mend::Images)
}

fn null_content(words: &Words, sent: &Sent) -> Option<Mend> {
    let messages = sent.body.get("messages")?.as_array()?;
    let sends = messages.iter().any(|message| message["content"].is_null());
    let refused = words.has(&[
        "null", "none", "nil", "required", "missing", "string", "str", "empty", "nonempty",
    ]);
    // Errors of templates and servers that fail on it.
    let tripped = words.says(&[
        "nonetype",
        "not iterable",
        "null and string",
        "string and null",
        "of null",
        "is undefined",
    ]);
    let named = words.has(&["content", "contents"]) && refused;
    (sends && (tripped || named)).then_some(Mend::NullContent)
}

fn parallel_calls(words: &Words, sent: &Sent) -> Option<Mend> {
    let refused = words.says(&[
        "single tool",
        "one tool call",
        "one tool-call",
        "one function call",
        "parallel tool",
        "multiple tool",
        "several tool",
    ]);
    (sent.parallel_calls && refused).then_some(Mend::ParallelCalls)
}

fn tool_lines(words: &Words, sent: &Sent) -> Option<Mend> {
    let roles = words.has(&["role", "roles"]);
    let named = roles && words.has(&["tool", "tool_calls", "tools"]) && words.negative;
    let only = roles
        && words.says(&[
            "only user",
            "only 'user'",
            "user and assistant",
            "user, assistant",
        ]);
    // Calls that another model made lack the fields that this provider adds to its own calls.
    let lacks = words.says(&["thought_signature", "reasoning_content", "thinking block"]);
    let refused = words.has(&["alternate", "alternating"]) || named || only || lacks;
    (sent.tool_lines && refused).then_some(Mend::ToolLines)
}

fn system(words: &Words, sent: &Sent) -> Option<Mend> {
    let messages = sent.body.get("messages")?.as_array()?;
    let sends = messages.iter().any(|message| message["role"] == "system");
    let about = words.has(&[
        "role",
        "roles",
        "message",
        "messages",
        "prompt",
        "instruction",
        "instructions",
    ]);
    let named = words.has(&["system", "developer"]) && about && words.negative;
    let roles = words.has(&["role", "roles"]);
    // Templates without a system role complain that the roles do not alternate.
    let refused = named || (roles && words.has(&["alternate", "alternating", "user"]));
    (sends && refused).then_some(Mend::System)
}

/// Returns the mend for a tool that the refusal names, by its position or by its name.
fn one_tool(document: &Value, words: &Words, sent: &Sent) -> Option<Mend> {
    let tools = sent.body.get("tools")?.as_array()?;
    let about = words.has(&[
        "schema",
        "schemas",
        "parameters",
        "input_schema",
        "function",
        "function_declarations",
        "properties",
        "tools",
        "tool",
    ]);
    if !about {
        return None;
    }
    let mut text = String::new();
    collect(document, &mut text);
    let name = |tool: &Value| tool["function"]["name"].as_str().map(str::to_owned);
    let by_place = place(&text).and_then(|place| name(tools.get(place)?));
    let by_name = || {
        let words = text.split(|char: char| !(char.is_ascii_alphanumeric() || "_-".contains(char)));
        let words: BTreeSet<&str> = words.collect();
        let named = tools.iter().filter_map(name);
        // Take the longest: a short name may be an ordinary word of the refusal.
        let named = named.filter(|name| words.contains(name.as_str()));
        named.max_by_key(String::len)
    };
    let sent_as = by_place.or_else(by_name)?;
    let definition = tools
        .iter()
        .find(|tool| tool["function"]["name"] == *sent_as)?;
    let own = sent.names.back();
    let own = own.get(sent_as.as_str())?;
    Some(Mend::Tool(RefusedTool::of(definition, own)))
}

/// Returns the number in `function_declarations[3]`, `tools.3` and the like. Of several, the
/// innermost wins: the marks are ordered from the inside out.
fn place(text: &str) -> Option<usize> {
    let mut places = ["function_declarations", "functions", "tools"]
        .iter()
        .flat_map(|mark| {
            text.split(mark).skip(1).filter_map(|behind| {
                let digits = behind.strip_prefix(['[', '.', '/'])?;
                let end = digits.find(|char: char| !char.is_ascii_digit());
                digits[..end.unwrap_or(digits.len())].parse().ok()
            })
        });
    places.next()
}
