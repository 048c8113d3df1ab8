//! The scripted answers of a test, and the result of a turn.

use std::collections::{BTreeMap, VecDeque};

use crate::http::{Request, Response};
use crate::llm::{ChatRequest, Completion};
use crate::log::Level;
use crate::tools::{Invocation, Outcome, Tool};
use crate::{Message, StepError};

/// The effects of a committed turn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TurnResult {
    /// The texts that it emitted, in order.
    pub output: Vec<String>,
    /// The events that it emitted for programs, in order.
    pub events: Vec<Event>,
    /// The timers that are set after it, by name.
    pub timers: Vec<Timer>,
    /// The lines that it logged, in order.
    pub logs: Vec<(Level, String)>,
    /// The steps that it took, in order.
    pub steps: Vec<Step>,
}

/// An event for programs.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The event's name.
    pub name: String,
    /// The event's data.
    pub data: serde_json::Value,
}

/// A timer that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    /// The timer's name.
    pub name: String,
    /// Milliseconds from the turn's clock.
    pub after_ms: u64,
    /// The text of its message.
    pub text: String,
}

/// A call that reached outside the session, with its result.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// [`llm::chat`](crate::llm::chat).
    Chat(ChatRequest, Result<Completion, StepError>),
    /// [`tools::list`](crate::tools::list).
    ListTools(Result<Vec<Tool>, StepError>),
    /// [`tools::call`](crate::tools::call), or one part of
    /// [`tools::call_all`](crate::tools::call_all).
    Call(Invocation, Result<Outcome, StepError>),
    /// [`http::send`](crate::http::send).
    Send(Request, Result<Response, StepError>),
    /// [`inbox::receive`](crate::inbox::receive).
    Receive(Result<Vec<Message>, StepError>),
}

/// The function that answers calls of a tool.
pub(super) type ToolFn = Box<dyn FnMut(&str) -> Result<Outcome, StepError>>;

/// The function that answers requests to the model.
pub(super) type ModelFn = Box<dyn FnMut(&ChatRequest) -> Result<Completion, StepError>>;

/// The world outside the session, as the test scripts it. What the script does not mention is not
/// granted.
#[derive(Default)]
pub(super) struct Script {
    /// `None` until the test grants it.
    pub(super) completions: Option<VecDeque<Result<Completion, StepError>>>,
    /// Answers once no queued completions are left.
    pub(super) model: Option<ModelFn>,
    /// `None` until the test grants it.
    pub(super) responses: Option<VecDeque<Result<Response, StepError>>>,
    /// The error of the next [`tools::list`](crate::tools::list).
    pub(super) unlisted: Option<StepError>,
    pub(super) tools: BTreeMap<String, (Tool, ToolFn)>,
    /// The results of the next calls of [`inbox::receive`](crate::inbox::receive), one after
    /// another.
    pub(super) queued: VecDeque<Vec<Message>>,
    /// The recovery message that the next of those calls returns first.
    pub(super) interruption: Option<Message>,
}

impl Script {
    pub(super) fn chat(&mut self, request: &ChatRequest) -> Result<Completion, StepError> {
        let queued = self.completions.as_ref().is_some_and(|one| !one.is_empty());
        match &mut self.model {
            Some(answer) if !queued => answer(request),
            _ => next(&mut self.completions, "llm", "Harness::answer"),
        }
    }

    pub(super) fn send(&mut self) -> Result<Response, StepError> {
        next(&mut self.responses, "http", "Harness::respond")
    }

    pub(super) fn list(&mut self) -> Result<Vec<Tool>, StepError> {
        if let Some(error) = self.unlisted.take() {
            return Err(error);
        }
        Ok(self.tools.values().map(|(tool, _)| tool.clone()).collect())
    }

    pub(super) fn call(&mut self, invocation: &Invocation) -> Result<Outcome, StepError> {
        match self.tools.get_mut(&invocation.name) {
            Some((_, answer)) => answer(&invocation.arguments),
            None => Err(StepError::Denied(format!(
                "the test grants no tool {:?}: see Harness::tool",
                invocation.name
            ))),
        }
    }

    /// Queues a message for the receive call that comes after `later` others.
    pub(super) fn queue(&mut self, later: usize, message: Message) {
        while self.queued.len() <= later {
            self.queued.push_back(Vec::new());
        }
        self.queued[later].push(message);
    }

    pub(super) fn receive(&mut self) -> Result<Vec<Message>, StepError> {
        let queued = self.queued.pop_front().unwrap_or_default();
        Ok(self.interruption.take().into_iter().chain(queued).collect())
    }
}

fn next<T>(
    answers: &mut Option<VecDeque<Result<T, StepError>>>,
    what: &str,
    remedy: &str,
) -> Result<T, StepError> {
    match answers {
        None => Err(StepError::Denied(format!(
            "the test does not grant {what}: see {remedy}"
        ))),
        Some(answers) => answers.pop_front().unwrap_or_else(|| {
            Err(StepError::Unavailable(format!(
                "the test has no more answers for {what}: see {remedy}"
            )))
        }),
    }
}
