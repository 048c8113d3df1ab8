//! What a provider was found to refuse, and so is left out of later requests to it.
//!
//! ```text
//!   refused --> does the refusal name what it does not accept? -- no --> error
//!                  | yes (`Mend`)
//!                  v
//!               retry without it -- answered --> remembered for that provider and model
//!                  |
//!                  +-- refused: retry for each other mend; else error, and nothing is remembered
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::domain::{Digest, ModelDialect};

/// For how many models of a provider a dialect is remembered. A limit is needed because guests may
/// name any model.
const MODELS_MAX: usize = 64;
/// How many refused tools a dialect remembers.
const TOOLS_MAX: usize = 128;

/// One thing that a provider does not accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mend {
    StreamOptions,
    Stream,
    /// The name `max_tokens`: it knows only OpenAI's newer `max_completion_tokens`.
    CompletionTokens,
    /// Any bound on the answer's tokens.
    MaxTokens,
    /// A bound above this number of tokens.
    MaxTokensOver(u32),
    Temperature,
    /// The system role.
    System,
    /// The tool role, and tool calls in assistant messages.
    ToolLines,
    Images,
    /// An assistant message without text.
    NullContent,
    /// More than this number of tools.
    ToolsOver(usize),
    /// Tool descriptions of more than this number of characters.
    DescriptionsOver(usize),
    /// Several calls in one assistant message.
    ParallelCalls,
    /// Text beside calls in one assistant message.
    TextBesideCalls,
    /// One tool, as it is defined now.
    Tool(RefusedTool),
}

/// A tool that a server refuses, identified by its definition, since its tool server may fix it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RefusedTool {
    /// The digest of its definition as it is sent.
    pub(super) definition: Digest,
    /// The guest's name for it.
    pub(super) name: String,
}

impl RefusedTool {
    pub(super) fn of(definition: &Value, name: &str) -> Self {
        Self {
            definition: Digest::of(definition.to_string().as_bytes()),
            name: name.to_owned(),
        }
    }
}

/// Everything that a provider does not accept for one model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dialect {
    pub(super) no_stream_options: bool,
    pub(super) no_stream: bool,
    pub(super) completion_tokens: bool,
    pub(super) no_max_tokens: bool,
    pub(super) max_tokens: Option<u32>,
    pub(super) no_temperature: bool,
    pub(super) no_system: bool,
    pub(super) no_tool_lines: bool,
    pub(super) no_images: bool,
    pub(super) no_null_content: bool,
    pub(super) tools_max: Option<usize>,
    pub(super) description_max: Option<usize>,
    pub(super) no_parallel_calls: bool,
    pub(super) no_text_beside_calls: bool,
    pub(super) refused_tools: BTreeSet<RefusedTool>,
}

impl Dialect {
    /// Returns this dialect with one more mend, or `None` if the mend changes nothing and so cannot
    /// help.
    pub(super) fn without(&self, mend: Mend) -> Option<Self> {
        let mut next = self.clone();
        match mend {
            Mend::StreamOptions => next.no_stream_options = true,
            Mend::Stream => next.no_stream = true,
            Mend::CompletionTokens => next.completion_tokens = true,
            Mend::MaxTokens => next.no_max_tokens = true,
            Mend::MaxTokensOver(most) => {
                next.max_tokens = Some(most.min(self.max_tokens.unwrap_or(most)));
            }
            Mend::Temperature => next.no_temperature = true,
            Mend::System => next.no_system = true,
            Mend::ToolLines => next.no_tool_lines = true,
            Mend::Images => next.no_images = true,
            Mend::NullContent => next.no_null_content = true,
            Mend::ToolsOver(most) => {
                next.tools_max = Some(most.min(self.tools_max.unwrap_or(most)));
            }
            Mend::DescriptionsOver(most) => {
                next.description_max = Some(most.min(self.description_max.unwrap_or(most)));
            }
            Mend::ParallelCalls => next.no_parallel_calls = true,
            Mend::TextBesideCalls => next.no_text_beside_calls = true,
            Mend::Tool(tool) if self.refused_tools.len() < TOOLS_MAX => {
                next.refused_tools.insert(tool);
            }
            Mend::Tool(_) => {}
        }
        (next != *self).then_some(next)
    }

    /// Combines two dialects: the union of what they leave out.
    pub(super) fn and(&self, other: &Self) -> Self {
        let least = |one: Option<usize>, other: Option<usize>| one.into_iter().chain(other).min();
        Self {
            no_stream_options: self.no_stream_options || other.no_stream_options,
            no_stream: self.no_stream || other.no_stream,
            completion_tokens: self.completion_tokens || other.completion_tokens,
            no_max_tokens: self.no_max_tokens || other.no_max_tokens,
            max_tokens: self.max_tokens.into_iter().chain(other.max_tokens).min(),
            no_temperature: self.no_temperature || other.no_temperature,
            no_system: self.no_system || other.no_system,
            no_tool_lines: self.no_tool_lines || other.no_tool_lines,
            no_images: self.no_images || other.no_images,
            no_null_content: self.no_null_content || other.no_null_content,
            tools_max: least(self.tools_max, other.tools_max),
            description_max: least(self.description_max, other.description_max),
            no_parallel_calls: self.no_parallel_calls || other.no_parallel_calls,
            no_text_beside_calls: self.no_text_beside_calls || other.no_text_beside_calls,
            refused_tools: self
                .refused_tools
                .union(&other.refused_tools)
                .cloned()
                .collect(),
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            no_stream_options,
            no_stream,
            completion_tokens,
            no_max_tokens,
            max_tokens,
            no_temperature,
            no_system,
            no_tool_lines,
            no_images,
            no_null_content,
            tools_max,
            description_max,
            no_parallel_calls,
            no_text_beside_calls,
            refused_tools,
        } = self;
        let flags = [
            (*no_stream_options, "without `stream_options`"),
            (*no_stream, "without streaming"),
            (
                *completion_tokens,
                "with `max_completion_tokens` for `max_tokens`",
            ),
            (*no_max_tokens, "without `max_tokens`"),
            (*no_temperature, "without `temperature`"),
            (
                *no_system,
                "with the system's text in the user's first message",
            ),
            (*no_tool_lines, "with tool calls and results as text"),
            (*no_images, "without images"),
            (*no_null_content, "with a text beside each tool call"),
            (*no_parallel_calls, "with one tool call a message"),
            (
                *no_text_beside_calls,
                "with what is said beside a tool call in front of its result",
            ),
        ];
        let flags = flags.into_iter().filter(|(is_set, _)| *is_set);
        let flags = flags.map(|(_, text)| text.to_owned());
        let bounds = [
            max_tokens.map(|most| format!("for {most} tokens at most")),
            tools_max.map(|most| format!("with {most} tools at most")),
            description_max
                .map(|most| format!("with {most} characters of each tool's description")),
        ];
        let tools = refused_tools
            .iter()
            .map(|tool| format!("without tool `{}`", tool.name));
        let bounds = bounds.into_iter().flatten().chain(tools);
        let all: Vec<String> = flags.chain(bounds).collect();
        f.write_str(&all.join(", "))
    }
}

/// The dialects of a provider, by model.
#[derive(Debug, Default)]
pub(super) struct Dialects(Mutex<BTreeMap<String, Dialect>>);

impl Dialects {
    pub(super) fn of(&self, model: &str) -> Dialect {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(model).cloned().unwrap_or_default()
    }

    /// Returns all dialects, for the status.
    pub(super) fn known(&self) -> Vec<ModelDialect> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.iter().map(|(model, dialect)| ModelDialect {
            model: model.clone(),
            asked: dialect.to_string(),
        });
        known.collect()
    }

    /// Records that a request in this dialect was answered. Returns whether that is new.
    pub(super) fn learn(&self, model: &str, dialect: &Dialect) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A concurrent question may have learned something else: keep both.
        let dialect = match known.get(model) {
            Some(before) => before.and(dialect),
            None => dialect.clone(),
        };
        if known.get(model) == Some(&dialect) {
            return false;
        }
        if known.len() >= MODELS_MAX && !known.contains_key(model) {
            // Whatever is forgotten is learned again, at the cost of one refused request.
            known.clear();
        }
        known.insert(model.to_owned(), dialect);
        true
    }
}
