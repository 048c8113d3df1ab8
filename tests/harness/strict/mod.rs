//! What strict servers of chat completions refuse, each as a rule of its own with the text that a
//! real server answers. Checking is pure: a function of the request that returns its violations.

mod calls;
mod content;
mod fields;
mod gate;
mod prefix;
mod roles;
mod schema;
mod tools;

use std::collections::BTreeSet;

use serde_json::{Value, json};

pub(crate) use gate::Gate;
pub use prefix::kept as prefix_kept;

/// A rule that a server may enforce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// There is at most one system message, and it is the first message: vLLM with Qwen's template.
    SystemFirst,
    /// The same with llama.cpp's text, as a server error.
    SystemFirstJinja,
    /// No system message follows another role: Mistral.
    SystemNotBehind,
    /// There is no system message at all: Gemma's template.
    NoSystem,
    /// User and assistant alternate; calls and results are not counted: Mistral's template.
    Alternation,
    /// User and assistant alternate; the results of a message's calls count as the user's:
    /// Anthropic, and gateways to it.
    AlternationWithResults,
    /// The first message after the system's is the user's.
    UserFirst,
    /// The last message is the user's or a tool's.
    UserOrToolLast,
    /// No user message directly follows a tool's: Mistral.
    NoUserBehindTool,
    /// No content is empty or blank.
    NoBlankContent,
    /// Content is absent or null only beside tool calls.
    ContentBesideCalls,
    /// Each call is answered by exactly one tool message directly after it, and no tool message has
    /// no call.
    CallsAnswered,
    /// Call ids are unique in the conversation.
    UniqueIds,
    /// Call ids are nine letters and digits: Mistral.
    IdsOfNine,
    /// Names of called functions consist of letters, digits, `_` and `-`, at most 64.
    CalledNames,
    /// Names of defined functions follow the same rule, and are unique.
    ToolNames,
    /// Arguments are a JSON object in a string.
    ObjectArguments,
    /// Tools are defined if the conversation has calls: Bedrock through `LiteLLM`.
    ToolsWithCalls,
    /// Each called function is defined.
    CalledAreDefined,
    /// Parameters are a schema that OpenAI accepts.
    Schemas,
    /// There are at most 128 tools: OpenAI.
    ToolsMax,
    /// There is no field that OpenAI does not know, in the body, its messages or its calls.
    KnownFields,
    /// `stream_options` is refused.
    NoStreamOptions,
    /// `max_tokens` is refused, in favour of `max_completion_tokens`.
    NoMaxTokens,
    /// `max_completion_tokens` is refused: servers that are older than the name.
    NoMaxCompletionTokens,
    /// `temperature` is refused unless it is 1: OpenAI's reasoning models.
    NoTemperature,
    /// Streaming is refused.
    NoStream,
    /// Images are refused.
    NoImages,
}

/// Rules that no server has together with the others.
const APART: [Rule; 8] = [
    Rule::SystemFirstJinja,
    Rule::NoSystem,
    Rule::NoStreamOptions,
    Rule::NoMaxTokens,
    Rule::NoMaxCompletionTokens,
    Rule::NoTemperature,
    Rule::NoStream,
    Rule::NoImages,
];

/// All rules, in the order in which they are checked.
pub const RULES: [Rule; 28] = [
    Rule::KnownFields,
    Rule::NoStream,
    Rule::NoStreamOptions,
    Rule::NoMaxTokens,
    Rule::NoMaxCompletionTokens,
    Rule::NoTemperature,
    Rule::NoImages,
    Rule::ToolsMax,
    Rule::ToolNames,
    Rule::Schemas,
    Rule::NoSystem,
    Rule::SystemFirst,
    Rule::SystemFirstJinja,
    Rule::SystemNotBehind,
    Rule::UserFirst,
    Rule::UserOrToolLast,
    Rule::NoUserBehindTool,
    Rule::Alternation,
    Rule::AlternationWithResults,
    Rule::NoBlankContent,
    Rule::ContentBesideCalls,
    Rule::CallsAnswered,
    Rule::UniqueIds,
    Rule::IdsOfNine,
    Rule::CalledNames,
    Rule::ObjectArguments,
    Rule::ToolsWithCalls,
    Rule::CalledAreDefined,
];

/// The rules of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    on: BTreeSet<Rule>,
    window_tokens: Option<usize>,
    keeps_prefix: bool,
}

/// The approximate number of bytes per token.
const BYTES_PER_TOKEN: usize = 4;

/// A request that breaks a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokenRule {
    /// The rule; `None` if the request exceeds the context window, or rewrites what was sent
    /// before.
    pub rule: Option<Rule>,
    /// The status of the reply; 200 if the request is answered nevertheless.
    pub status: u16,
    /// The body of the reply, or a description of the violation.
    pub body: Value,
}

impl BrokenRule {
    /// Returns a violation in OpenAI's form.
    fn new(rule: Rule, status: u16, message: impl Into<String>) -> Self {
        Self::with(rule, status, json!({"message": message.into()}))
    }

    /// Returns a violation with further fields of the error object.
    fn with(rule: Rule, status: u16, mut error: Value) -> Self {
        if error["type"].is_null() {
            error["type"] = "invalid_request_error".into();
        }
        if error["code"].is_null() {
            error["code"] = Value::Null;
        }
        Self {
            rule: Some(rule),
            status,
            body: json!({ "error": error }),
        }
    }

    /// Returns a violation in Mistral's form, which has no enclosing object.
    fn mistral(rule: Rule, code: &str, message: impl Into<String>) -> Self {
        let body = json!({
            "object": "error",
            "message": message.into(),
            "type": "invalid_request_error",
            "code": code,
        });
        Self {
            rule: Some(rule),
            status: 400,
            body,
        }
    }

    fn over_window(limit: usize, tokens: usize) -> Self {
        let message = format!(
            "This model's maximum context length is {limit} tokens. However, your messages \
             resulted in {tokens} tokens. Please reduce the length of the messages."
        );
        let error = json!({
            "message": message,
            "type": "invalid_request_error",
            "param": "messages",
            "code": "context_length_exceeded",
        });
        Self {
            rule: None,
            status: 400,
            body: json!({ "error": error }),
        }
    }

    /// Returns the violation of a request that rewrites what was sent before. It is recorded, and
    /// the request is answered nevertheless.
    pub(crate) fn rewritten(how: &str) -> Self {
        Self {
            rule: None,
            status: 200,
            body: json!({"error": {"message": format!("the prompt cache is missed: {how}")}}),
        }
    }
}

impl Rules {
    /// Returns rules that forbid nothing else than these.
    pub fn only(rules: impl IntoIterator<Item = Rule>) -> Self {
        Self {
            on: rules.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Returns all rules that do not contradict each other.
    pub fn all() -> Self {
        let on = RULES.into_iter().filter(|rule| !APART.contains(rule));
        Self {
            keeps_prefix: true,
            ..Self::only(on)
        }
    }

    /// Adds a rule.
    #[must_use]
    pub fn and(mut self, rule: Rule) -> Self {
        self.on.insert(rule);
        self
    }

    /// Removes a rule.
    #[must_use]
    pub fn but(mut self, rule: Rule) -> Self {
        self.on.remove(&rule);
        self
    }

    /// Limits requests to a context window of so many tokens.
    #[must_use]
    pub fn window(mut self, tokens: usize) -> Self {
        self.window_tokens = Some(tokens);
        self
    }

    /// Requires that successive requests of a conversation keep what was sent before, byte by byte.
    #[must_use]
    pub fn keep_prefix(mut self) -> Self {
        self.keeps_prefix = true;
        self
    }

    /// Returns whether what was sent before must be kept. The check is left to the caller, which
    /// knows the earlier requests.
    pub fn keeps_prefix(&self) -> bool {
        self.keeps_prefix
    }

    /// Returns all violations of a request, in the order of [`RULES`].
    pub fn violations(&self, request: &Value) -> Vec<BrokenRule> {
        let rules = RULES.iter().filter(|rule| self.on.contains(rule));
        let mut found: Vec<_> = rules.filter_map(|rule| rule.check(request)).collect();
        let tokens = request.to_string().len() / BYTES_PER_TOKEN;
        if let Some(limit) = self.window_tokens.filter(|limit| tokens > *limit) {
            found.push(BrokenRule::over_window(limit, tokens));
        }
        found
    }
}

impl Rule {
    /// Returns how a request breaks the rule, if it does.
    pub fn check(self, request: &Value) -> Option<BrokenRule> {
        let lines = request["messages"].as_array();
        let lines = lines.map_or(&[][..], Vec::as_slice);
        match self {
            Self::SystemFirst | Self::SystemFirstJinja | Self::SystemNotBehind | Self::NoSystem => {
                roles::system(self, lines)
            }
            Self::Alternation
            | Self::AlternationWithResults
            | Self::UserFirst
            | Self::UserOrToolLast
            | Self::NoUserBehindTool => roles::order(self, lines),
            Self::NoBlankContent | Self::ContentBesideCalls | Self::NoImages => {
                content::check(self, lines)
            }
            Self::CallsAnswered => calls::answered(lines),
            Self::UniqueIds
            | Self::IdsOfNine
            | Self::CalledNames
            | Self::ObjectArguments
            | Self::ToolsWithCalls
            | Self::CalledAreDefined => calls::check(self, lines, &request["tools"]),
            Self::ToolNames | Self::Schemas | Self::ToolsMax => {
                tools::check(self, &request["tools"])
            }
            Self::KnownFields
            | Self::NoStreamOptions
            | Self::NoMaxTokens
            | Self::NoMaxCompletionTokens
            | Self::NoTemperature
            | Self::NoStream => fields::check(self, request),
        }
    }
}

fn role(line: &Value) -> &str {
    line["role"].as_str().unwrap_or("null")
}

fn calls_of(line: &Value) -> impl Iterator<Item = &Value> {
    line["tool_calls"].as_array().into_iter().flatten()
}

/// Returns whether a message requests tools.
fn has_calls(line: &Value) -> bool {
    calls_of(line).next().is_some()
}

/// Returns whether a name is valid for a function: OpenAI's `^[a-zA-Z0-9_-]{1,64}$`.
fn is_function_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    (1..=64).contains(&name.len()) && name.chars().all(allowed)
}
