//! Steps: each goes to whoever drives the turn, and the guest waits for its answer.

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::bindings::abide::session::{http, inbox, llm, tools, types};
use super::convert;
use super::failure::Stop;
use super::grants::Grants;
use super::runtime::EngineError;
use super::state::State;
use crate::domain::{
    ChatRequest, Failure, FailureCode, HttpRequest, StepError, StepRequest, StepResult, ToolCall,
};

/// A step that a running turn asks for.
#[derive(Debug)]
pub struct StepCall {
    /// What it asks for; granted already.
    pub request: StepRequest,
    /// Its number in the turn, from 1.
    pub step: u32,
    /// Takes what the guest is told. A dropped one leaves the guest waiting: its turn is being cut.
    pub reply: oneshot::Sender<Result<StepResult, StepError>>,
}

/// What an instance may ask, and whom.
pub(super) struct Steps {
    pub(super) grants: Grants,
    max: u32,
    taken: u32,
    /// There while a turn runs.
    to: Option<mpsc::Sender<StepCall>>,
}

impl Steps {
    pub(super) fn new(grants: Grants, max: u32) -> Self {
        Self {
            grants,
            max,
            taken: 0,
            to: None,
        }
    }

    /// From now on steps go to `to`; with none they are denied.
    pub(super) fn connect(&mut self, to: Option<mpsc::Sender<StepCall>>) {
        self.to = to;
    }

    /// Whom to ask, if a turn runs.
    fn running(&self) -> Result<&mpsc::Sender<StepCall>, StepError> {
        self.to.as_ref().ok_or_else(|| {
            StepError::Denied(
                "steps are for `turn` alone: `open`, `snapshot` and `restore` may call none".into(),
            )
        })
    }
}

/// What a host function gives: a trap, or a typed error, or a result.
type Answer<T> = wasmtime::Result<Result<T, types::StepError>>;

impl State {
    /// Takes one step. The caller has checked that it is granted.
    async fn step(
        &mut self,
        request: StepRequest,
    ) -> wasmtime::Result<Result<StepResult, StepError>> {
        let steps = &mut self.steps;
        let to = match steps.running() {
            Ok(to) => to.clone(),
            Err(denied) => return Ok(Err(denied)),
        };
        if steps.taken >= steps.max {
            let (max, plugin) = (steps.max, &steps.grants.plugin);
            return Err(wasmtime::Error::new(Stop::Guest(Failure {
                code: FailureCode::Limit,
                text: format!(
                    "the turn has taken {max} steps, as many as `limits.steps` allows; \
                     raise plugins.{plugin}.limits.steps if it needs more"
                ),
            })));
        }
        steps.taken += 1;
        let (reply, answer) = oneshot::channel();
        let call = StepCall {
            request,
            step: steps.taken,
            reply,
        };
        let began = Instant::now();
        // With nobody there to ask or to answer, the turn is being cut: it must not be told
        // anything, for that would be an outcome.
        if to.send(call).await.is_err() {
            std::future::pending::<()>().await;
        }
        let Ok(result) = answer.await else {
            return std::future::pending().await;
        };
        // In whole milliseconds, as a journal can keep and give back.
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.clock.pass(Duration::from_millis(took_ms));
        Ok(result)
    }
}

impl llm::Host for State {
    async fn chat(&mut self, request: llm::ChatRequest) -> Answer<llm::Completion> {
        let mut request = ChatRequest::from(request);
        let running = self.steps.running();
        if let Err(error) = running.and_then(|_| self.steps.grants.chat(&mut request)) {
            return Ok(Err(error.into()));
        }
        match self.step(StepRequest::Llm(request)).await? {
            Ok(StepResult::Llm(answer)) => Ok(Ok(answer.into())),
            Ok(_) => Err(wrong_reply("llm")),
            Err(error) => Ok(Err(error.into())),
        }
    }
}

impl tools::Host for State {
    async fn list(&mut self) -> Answer<Vec<tools::Tool>> {
        if let Err(error) = self.steps.running() {
            return Ok(Err(error.into()));
        }
        if !self.steps.grants.any_tool() {
            return Ok(Ok(Vec::new()));
        }
        match self.step(StepRequest::ToolsList).await? {
            Ok(StepResult::ToolsList(all)) => {
                let visible = self.steps.grants.visible(all);
                Ok(Ok(visible.into_iter().map(Into::into).collect()))
            }
            Ok(_) => Err(wrong_reply("tools.list")),
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn call(&mut self, invocation: tools::Invocation) -> Answer<tools::Outcome> {
        let call = ToolCall::from(invocation);
        let running = self.steps.running();
        if let Err(error) = running.and_then(|_| self.steps.grants.tool(&call.name)) {
            return Ok(Err(error.into()));
        }
        match self.step(StepRequest::ToolCall(call)).await? {
            Ok(StepResult::ToolCall(outcome)) => Ok(Ok(outcome.into())),
            Ok(_) => Err(wrong_reply("tools.call")),
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn call_all(
        &mut self,
        invocations: Vec<tools::Invocation>,
    ) -> wasmtime::Result<Vec<Result<tools::Outcome, types::StepError>>> {
        let mut granted = Vec::new();
        let verdicts: Vec<_> = invocations
            .into_iter()
            .map(ToolCall::from)
            .map(|call| {
                self.steps.running()?;
                self.steps.grants.tool(&call.name)?;
                granted.push(call);
                Ok(())
            })
            .collect();
        let outcomes = if granted.is_empty() {
            Ok(Vec::new())
        } else {
            self.call_granted(granted).await?
        };
        let mut outcomes = match outcomes {
            Ok(outcomes) => outcomes.into_iter(),
            // No part was taken: each of them has the error of the whole.
            Err(error) => {
                let each = |verdict: Result<(), StepError>| {
                    Err(verdict.err().unwrap_or_else(|| error.clone()).into())
                };
                return Ok(verdicts.into_iter().map(each).collect());
            }
        };
        verdicts
            .into_iter()
            .map(|verdict| match verdict {
                Ok(()) => match outcomes.next() {
                    Some(outcome) => Ok(outcome.map(Into::into).map_err(Into::into)),
                    None => Err(wrong_reply("tools.call-all")),
                },
                Err(denied) => Ok(Err(denied.into())),
            })
            .collect()
    }
}

/// One result for each call, or the error of the step as a whole.
type Outcomes = Result<Vec<Result<crate::domain::ToolOutcome, StepError>>, StepError>;

impl State {
    async fn call_granted(&mut self, calls: Vec<ToolCall>) -> wasmtime::Result<Outcomes> {
        match self.step(StepRequest::ToolCallAll(calls)).await? {
            Ok(StepResult::ToolCallAll(outcomes)) => Ok(Ok(outcomes)),
            Ok(_) => Err(wrong_reply("tools.call-all")),
            Err(error) => Ok(Err(error)),
        }
    }
}

fn wrong_reply(asked: &'static str) -> wasmtime::Error {
    wasmtime::Error::new(Stop::Host(EngineError::WrongReply { asked }))
}

impl http::Host for State {
    async fn send(&mut self, request: http::Request) -> Answer<http::Response> {
        let request = HttpRequest::from(request);
        let running = self.steps.running();
        if let Err(error) = running.and_then(|_| self.steps.grants.http(&request)) {
            return Ok(Err(error.into()));
        }
        match self.step(StepRequest::Http(request)).await? {
            Ok(StepResult::Http(response)) => Ok(Ok(response.into())),
            Ok(_) => Err(wrong_reply("http")),
            Err(error) => Ok(Err(error.into())),
        }
    }
}

impl inbox::Host for State {
    async fn receive(&mut self) -> Answer<Vec<inbox::Message>> {
        match self.step(StepRequest::Receive).await? {
            Ok(StepResult::Receive(all)) => Ok(Ok(convert::received(all))),
            Ok(_) => Err(wrong_reply("inbox.receive")),
            Err(error) => Ok(Err(error.into())),
        }
    }
}
