//! The host functions for steps: each step is sent to the task that runs the turn, and the guest
//! waits for the answer.

use std::time::Duration;

use tokio::sync::oneshot;

use super::bindings::abide::session::{http, inbox, llm, tools, types};
use super::convert;
use super::error::EngineError;
use super::failure::Stop;
use super::grants::Grants;
use super::step_gate::{StepAnswer, StepCall};
use super::store_data::StoreData;
use crate::domain::{
    FailureCode, StepCallName, StepError, StepRequest, StepResult, ToolCall, TurnFailure,
};

/// The return type of a host function: a trap, a typed error or a result.
type HostResult<T> = wasmtime::Result<Result<T, types::StepError>>;

impl StoreData {
    /// Takes one step. A refused step is a step too, whose outcome the journal records: a grant
    /// that changes while a turn is open must not change an outcome that the turn has already
    /// received.
    async fn step(
        &mut self,
        mut request: StepRequest,
        check: impl FnOnce(&Grants, &mut StepRequest) -> Vec<Option<StepError>>,
    ) -> wasmtime::Result<Result<StepResult, StepError>> {
        let steps = &mut self.steps;
        let to = match steps.running() {
            Ok(to) => to.clone(),
            Err(denied) => return Ok(Err(denied)),
        };
        let weight = match &request {
            StepRequest::ToolCallAll(calls) => u32::try_from(calls.len()).unwrap_or(u32::MAX),
            _ => 1,
        };
        steps.weight = steps.weight.saturating_add(weight.max(1));
        if steps.weight > steps.max {
            let (max, plugin) = (steps.max, &steps.grants.plugin);
            return Err(wasmtime::Error::new(Stop::Guest(TurnFailure {
                code: FailureCode::Limit,
                text: format!(
                    "the turn takes more than the {max} steps that `limits.steps` allows; raise \
                     plugins.{plugin}.limits.steps if it needs more"
                ),
            })));
        }
        steps.taken += 1;
        let call = StepCallName::of(&request);
        let refused = check(&steps.grants, &mut request);
        let (reply, answer) = oneshot::channel();
        let call = Box::new(StepCall {
            step: steps.taken,
            call,
            request,
            refused,
            reply,
        });
        // If the receiver or the reply channel is gone, the turn is being aborted. The guest must
        // not get any answer then, because that would be an outcome.
        if to.send(call).await.is_err() {
            std::future::pending::<()>().await;
        }
        let Ok(StepAnswer { result, took_ms }) = answer.await else {
            return std::future::pending().await;
        };
        self.clock.pass(Duration::from_millis(took_ms));
        Ok(result)
    }
}

impl llm::Host for StoreData {
    async fn chat(&mut self, request: llm::ChatRequest) -> HostResult<llm::Completion> {
        let request = StepRequest::Llm(request.into());
        let answer = self.step(request, |grants, request| {
            vec![match request {
                StepRequest::Llm(request) => grants.chat(request).err(),
                _ => None,
            }]
        });
        match answer.await? {
            Ok(StepResult::Llm(answer)) => Ok(Ok(answer.into())),
            Ok(_) => Err(wrong_reply("llm")),
            Err(error) => Ok(Err(error.into())),
        }
    }
}

impl tools::Host for StoreData {
    async fn list(&mut self) -> HostResult<Vec<tools::Tool>> {
        match self.step(StepRequest::ToolsList, |_, _| vec![None]).await? {
            Ok(StepResult::ToolsList(tools)) => Ok(Ok(tools.into_iter().map(Into::into).collect())),
            Ok(_) => Err(wrong_reply("tools.list")),
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn call(&mut self, invocation: tools::Invocation) -> HostResult<tools::Outcome> {
        let request = StepRequest::ToolCall(invocation.into());
        let answer = self.step(request, |grants, request| {
            vec![match request {
                StepRequest::ToolCall(call) => grants.tool(&call.name).err(),
                _ => None,
            }]
        });
        match answer.await? {
            Ok(StepResult::ToolCall(outcome)) => Ok(Ok(outcome.into())),
            Ok(_) => Err(wrong_reply("tools.call")),
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn call_all(
        &mut self,
        invocations: Vec<tools::Invocation>,
    ) -> wasmtime::Result<Vec<Result<tools::Outcome, types::StepError>>> {
        let parts = invocations.len();
        let calls = invocations.into_iter().map(ToolCall::from).collect();
        let answer = self.step(StepRequest::ToolCallAll(calls), |grants, request| {
            let calls = match request {
                StepRequest::ToolCallAll(calls) => calls.as_slice(),
                _ => &[],
            };
            calls
                .iter()
                .map(|call| grants.tool(&call.name).err())
                .collect()
        });
        match answer.await? {
            Ok(StepResult::ToolCallAll(outcomes)) if outcomes.len() == parts => {
                let outcomes = outcomes.into_iter();
                Ok(outcomes
                    .map(|outcome| outcome.map(Into::into).map_err(Into::into))
                    .collect())
            }
            Ok(_) => Err(wrong_reply("tools.call-all")),
            // No part was executed: each part gets the error of the whole step.
            Err(error) => Ok((0..parts).map(|_| Err(error.clone().into())).collect()),
        }
    }
}

fn wrong_reply(asked: &'static str) -> wasmtime::Error {
    wasmtime::Error::new(Stop::Host(EngineError::WrongReply { asked }))
}

impl http::Host for StoreData {
    async fn send(&mut self, request: http::Request) -> HostResult<http::Response> {
        let request = StepRequest::Http(request.into());
        let answer = self.step(request, |grants, request| {
            vec![match request {
                StepRequest::Http(request) => grants.http(request).err(),
                _ => None,
            }]
        });
        match answer.await? {
            Ok(StepResult::Http(response)) => Ok(Ok(response.into())),
            Ok(_) => Err(wrong_reply("http")),
            Err(error) => Ok(Err(error.into())),
        }
    }
}

impl inbox::Host for StoreData {
    async fn receive(&mut self) -> HostResult<Vec<inbox::Message>> {
        match self.step(StepRequest::Receive, |_, _| vec![None]).await? {
            Ok(StepResult::Receive(received)) => {
                Ok(Ok(convert::received(received, self.clock.millis())))
            }
            Ok(_) => Err(wrong_reply("inbox.receive")),
            Err(error) => Ok(Err(error.into())),
        }
    }
}
