//! A running turn: the guest on one side, the steps that it asks for on the other.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::domain::{
    Begun, Delta, Limits, Message, SessionId, Snapshot, StepError, StepRequest, StepResult,
};
use crate::engine::{GuestFailure, Job, Product, StepCall};

use super::hub::Live;
use super::mailbox::Command;
use super::shared::Shared;

/// All that a turn needs.
pub(super) struct Turn {
    pub(super) id: SessionId,
    pub(super) job: Job,
    pub(super) snapshot: Snapshot,
    pub(super) begun: Begun,
    pub(super) message: Message,
    pub(super) limits: Limits,
    /// The driver, for what only it knows. Weak: a turn does not keep its session in memory.
    pub(super) driver: Option<mpsc::WeakSender<Command>>,
}

impl Turn {
    /// Runs it to its end. Dropping the future cuts it: the guest, and the step in flight.
    pub(super) async fn run(self, shared: Arc<Shared>) -> Result<Product, GuestFailure> {
        let (calls, mut steps) = mpsc::channel::<StepCall>(1);
        let Self {
            id,
            job,
            snapshot,
            begun,
            message,
            limits,
            driver,
        } = self;
        let notice = begun.notice.as_ref();
        let guest = shared
            .engine
            .turn(&job, &snapshot, notice, vec![message], calls);
        tokio::pin!(guest);
        let outside = Outside {
            shared: &shared,
            id: &id,
            begun: &begun,
            limits: &limits,
            driver,
        };
        loop {
            tokio::select! {
                ended = &mut guest => return ended,
                Some(call) = steps.recv() => {
                    let StepCall { request, step, reply } = call;
                    // The guest is polled on: its turn's time runs while it waits.
                    tokio::select! {
                        ended = &mut guest => return ended,
                        result = outside.step(step, request) => {
                            // An error means that the guest has just been cut.
                            let _ = reply.send(result);
                        }
                    }
                }
            }
        }
    }
}

/// What steps reach.
struct Outside<'a> {
    shared: &'a Shared,
    id: &'a SessionId,
    begun: &'a Begun,
    limits: &'a Limits,
    driver: Option<mpsc::WeakSender<Command>>,
}

impl Outside<'_> {
    async fn step(&self, step: u32, request: StepRequest) -> Result<StepResult, StepError> {
        let kind = request.kind();
        let limit = self.limits.step_timeout;
        let result = tokio::time::timeout(limit, self.call(step, request)).await;
        let result = result.unwrap_or_else(|_| {
            Err(StepError::Timeout(format!(
                "no result within {} (`limits.step_timeout`)",
                humantime::format_duration(limit)
            )))
        });
        let outcome = if result.is_ok() { "ok" } else { "error" };
        metrics::counter!("abide_steps_total", "kind" => kind, "outcome" => outcome).increment(1);
        if let Err(error) = &result {
            tracing::info!(
                session = %self.id, turn = self.begun.turn, step, kind, %error,
                "a step gave no result"
            );
        }
        result
    }

    async fn call(&self, step: u32, request: StepRequest) -> Result<StepResult, StepError> {
        match request {
            StepRequest::Llm(request) => {
                let on_delta = |text: &str| {
                    self.shared.hubs.publish(self.id, || {
                        Live::Delta(Arc::new(Delta {
                            text: text.to_owned(),
                            turn: self.begun.turn,
                            attempt: self.begun.attempt,
                            step,
                        }))
                    });
                };
                let limit = self.limits.event_bytes;
                self.shared
                    .llm
                    .chat(&request, limit, on_delta)
                    .await
                    .map(StepResult::Llm)
            }
            StepRequest::Receive => self.receive().await.map(StepResult::Receive),
            StepRequest::ToolsList | StepRequest::ToolCall(_) | StepRequest::ToolCallAll(_) => {
                Err(StepError::Unavailable(
                    "this version of Abide connects no tool servers yet".to_owned(),
                ))
            }
            StepRequest::Http(_) => Err(StepError::Unavailable(
                "this version of Abide sends no HTTP requests for guests yet".to_owned(),
            )),
        }
    }

    async fn receive(&self) -> Result<Vec<Message>, StepError> {
        let gone = || StepError::Unavailable("the session is being taken down".to_owned());
        let (reply, messages) = oneshot::channel();
        let Begun { turn, attempt, .. } = *self.begun;
        let driver = self
            .driver
            .as_ref()
            .and_then(mpsc::WeakSender::upgrade)
            .ok_or_else(gone)?;
        driver
            .send(Command::Receive {
                turn,
                attempt,
                reply,
            })
            .await
            .map_err(|_| gone())?;
        messages.await.map_err(|_| gone())
    }
}
