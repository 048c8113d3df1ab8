//! The tools of a turn: how they are offered to the model, and how its calls are run.

use std::collections::BTreeMap;

use abide_plugin::llm::{ChatMessage, ToolCall, ToolDefinition};
use abide_plugin::tools::{self, Invocation, Tool};
use abide_plugin::{StepError, log};
use serde_json::{Map, Value};

use crate::results::{self, Room};
use crate::weight;

/// How much of a turn's record lists of tools may take up, in bytes: each list is stored there, and
/// they are mostly identical.
const LISTED_BYTES_MAX: usize = 1 << 20;

/// The tools that are granted in this turn, and the calls so far.
#[derive(Default)]
pub(crate) struct Toolbox {
    tools: Vec<Tool>,
    /// How often each tool was called.
    pub(crate) called: BTreeMap<String, u32>,
    /// Whether tools were called since the last listing, which may have changed the list.
    stale: bool,
    /// The size of all lists that this turn has requested, in bytes.
    listed_bytes: usize,
}

impl Toolbox {
    /// Lists the tools; also returns a note for the model if they are unavailable.
    pub(crate) fn open() -> (Self, Option<ChatMessage>) {
        let (tools, note) = match tools::list() {
            Ok(tools) => (tools, None),
            Err(StepError::Denied(_)) => (Vec::new(), None),
            Err(error) => {
                let note = format!(
                    "[Your tools cannot be reached now, so you have none in this turn. Say so if \
                     the task needs them. ({error})]"
                );
                (Vec::new(), Some(ChatMessage::user(note)))
            }
        };
        let mut toolbox = Self::default();
        toolbox.take(tools);
        (toolbox, note)
    }

    /// Lists the tools again if a call may have changed them: some servers add tools while they are
    /// used.
    pub(crate) fn refresh(&mut self) {
        if !std::mem::take(&mut self.stale) || self.listed_bytes > LISTED_BYTES_MAX {
            return;
        }
        match tools::list() {
            Ok(tools) => self.take(tools),
            Err(error) => log::warn(format!("the tools cannot be listed again: {error}")),
        }
    }

    fn take(&mut self, tools: Vec<Tool>) {
        self.tools = tools.into_iter().filter(is_sound).collect();
        let weights = self.definitions();
        self.listed_bytes += weights.iter().map(weight::of_tool).sum::<usize>();
    }

    /// Returns the definitions of the tools for the model.
    pub(crate) fn definitions(&self) -> Vec<ToolDefinition> {
        self.tools.iter().cloned().map(Into::into).collect()
    }

    /// Runs all calls that the model requests, at once. Returns the calls in the form in which they
    /// may stand in a conversation, and the messages that answer them, in the same order.
    /// `truncated` means that the answer with the calls was cut at the token limit.
    pub(crate) fn run(
        &mut self,
        asked: Vec<ToolCall>,
        truncated: bool,
        room: Room,
    ) -> (Vec<ToolCall>, Vec<ChatMessage>) {
        let mut calls = asked;
        distinguish(&mut calls);
        let verdicts = calls.iter_mut();
        let verdicts = verdicts.map(|call| self.invocation(call, truncated));
        let verdicts: Vec<_> = verdicts.collect();
        let invocations: Vec<_> = verdicts.iter().flatten().cloned().collect();
        self.stale |= !invocations.is_empty();
        let mut results = match invocations.as_slice() {
            [] => Vec::new(),
            invocations => tools::call_all(invocations),
        }
        .into_iter();
        let answers = calls.iter().zip(verdicts).map(|(call, verdict)| {
            let text = verdict.map(|invocation| {
                let result = results.next().unwrap_or_else(|| {
                    let reason = "the host gave no result";
                    Err(StepError::UnknownOutcome(reason.to_owned()))
                });
                if !matches!(result, Err(StepError::Denied(_) | StepError::Invalid(_))) {
                    *self.called.entry(invocation.name).or_default() += 1;
                }
                results::tell(&result, room)
            });
            ChatMessage::tool(&call.id, text.unwrap_or_else(|refusal| refusal))
        });
        let answers = answers.collect();
        (calls, answers)
    }

    /// Converts a call for the host; the error is the text for the model instead. Arguments that
    /// are not an object are removed from the model's own call: some providers reject a
    /// conversation that contains them.
    fn invocation(&self, call: &mut ToolCall, truncated: bool) -> Result<Invocation, String> {
        // An empty text means no arguments, unless they may have been cut off.
        if call.arguments.trim().is_empty() && !truncated {
            call.arguments = "{}".to_owned();
        }
        if let Err(error) = serde_json::from_str::<Map<String, Value>>(&call.arguments) {
            let wrong = std::mem::replace(&mut call.arguments, "{}".to_owned());
            if truncated {
                return Err(format!(
                    "The tool was not called, because your answer was cut at the token limit \
                     (max_tokens) before the arguments were complete. Call it again with shorter \
                     ones, or do it in parts. As far as they came, the arguments were: {}",
                    results::cut(&wrong, results::QUOTED_BYTES)
                ));
            }
            return Err(format!(
                "The tool was not called, because the arguments are not a JSON object ({error}). \
                 Call it again with one. The arguments were: {}",
                results::cut(&wrong, results::QUOTED_BYTES)
            ));
        }
        if !self.tools.iter().any(|tool| tool.name == call.name) {
            let names: Vec<_> = self.tools.iter().map(|tool| tool.name.as_str()).collect();
            return Err(match names.as_slice() {
                [] => "Nothing was called: you have no tools in this turn.".to_owned(),
                names => format!(
                    "Nothing was called: you have no tool of that name. You have: {}",
                    results::cut(&names.join(", "), results::QUOTED_BYTES)
                ),
            });
        }
        Ok(Invocation {
            name: call.name.clone(),
            arguments: call.arguments.clone(),
        })
    }
}

/// Returns whether a provider would accept the tool. A single invalid tool would make the provider
/// reject every request of the session.
fn is_sound(tool: &Tool) -> bool {
    let sound = serde_json::from_str::<Map<String, Value>>(&tool.parameters).is_ok();
    if !sound {
        let name = &tool.name;
        log::warn(format!(
            "tool {name} is left out: its parameters are not an object"
        ));
    }
    sound
}

/// Gives each call of a message a unique id, if the model has not.
fn distinguish(calls: &mut [ToolCall]) {
    for n in 0..calls.len() {
        let (before, rest) = calls.split_at_mut(n);
        let taken = |id: &str| before.iter().any(|call| call.id == id);
        let mut tries = 0;
        while rest[0].id.is_empty() || taken(&rest[0].id) {
            rest[0].id = format!("call_{}", n + tries);
            tries += 1;
        }
    }
}
