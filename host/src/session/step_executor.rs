//! Execution of steps: plan, execute, record. The plan of a non-repeatable effect is synced to disk
//! before the effect begins; a repeatable one does not wait for the disk.

use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};

use crate::domain::{
    Approval, ApprovalId, Begun, Capabilities, Delta, Digest, Effect, FromInbox, Limits, Planned,
    Record, Recorded, SessionId, StepCallName, StepDone, StepError, StepRequest, StepResult,
    TimelineName, ToolCall, TurnFailure, UnixMillis, unknown_outcome,
};
use crate::engine::StepAnswer;
use crate::failpoint;

use super::approval_needed::ApprovalNeeded;
use super::drain::TurnGuard;
use super::due::{Due, LocalRequest, OutsideRequest, PartRequest};
use super::hub::Live;
use super::live_config::LiveConfig;
use super::mailbox::{DriverRequest, Urgency};
use super::shared::Shared;

/// The result of one part of a step.
type PartResult = Result<StepResult, StepError>;

/// Executes the steps of one turn.
pub(super) struct StepExecutor<'a> {
    pub(super) shared: &'a Shared,
    pub(super) parts: &'a LiveConfig,
    pub(super) id: &'a SessionId,
    /// The session's timeline; none if it is the first.
    pub(super) timeline: Option<&'a TimelineName>,
    pub(super) begun: &'a Begun,
    /// The beginning of the turn's message.
    pub(super) opening: &'a str,
    pub(super) limits: &'a Limits,
    pub(super) grants: &'a Capabilities,
    pub(super) driver: &'a mpsc::Sender<DriverRequest>,
    pub(super) guard: &'a TurnGuard,
    /// The decided approvals that the turn requested before it was parked.
    pub(super) approvals: &'a [Approval],
}

/// A part of a step before it is executed.
enum StepPart<'r> {
    /// The host already has the outcome, without any external effect.
    Answered(PartResult),
    /// This effect must be executed.
    Due(Due<'r>),
}

/// Builds the guest's answer to a step from the outcomes of all its parts.
pub(super) fn answer(request: &StepRequest, parts: Vec<(PartResult, u64)>) -> StepAnswer {
    // Parts run concurrently, so the guest waits for the slowest.
    let took_ms = parts.iter().map(|(_, took_ms)| *took_ms).max().unwrap_or(0);
    let mut outcomes = parts.into_iter().map(|(outcome, _)| outcome);
    let result = match request {
        StepRequest::ToolCallAll(_) => Ok(StepResult::ToolCallAll(
            outcomes
                .map(|outcome| match outcome? {
                    StepResult::ToolCall(outcome) => Ok(outcome),
                    _ => Err(StepError::Failed(
                        "the journal has no tool's answer here".into(),
                    )),
                })
                .collect(),
        )),
        _ => outcomes
            .next()
            .unwrap_or_else(|| Err(StepError::Failed("the journal has no answer here".into()))),
    };
    StepAnswer { result, took_ms }
}

impl StepExecutor<'_> {
    /// Takes a step for the first time.
    ///
    /// # Errors
    /// The reason why the turn must not continue.
    pub(super) async fn take(
        &self,
        step: u32,
        call: StepCallName,
        request: &StepRequest,
        refused: Vec<Option<StepError>>,
    ) -> Result<StepAnswer, TurnFailure> {
        self.guard.pass().await;
        for approval in self.approvals.iter().filter(|known| known.step == step) {
            approval.fits(&call)?;
        }
        let requests = PartRequest::all(request).into_iter();
        let classified =
            (0..)
                .zip(requests.zip(refused))
                .map(|(part, (request, refused))| async move {
                    match refused {
                        Some(refused) => Ok(StepPart::Answered(Err(refused))),
                        None => self.classify(step, request, part).await,
                    }
                });
        let (mut parts, mut needed, mut records) = (Vec::new(), Vec::new(), Vec::new());
        for (part, classified) in (0..).zip(futures::future::join_all(classified).await) {
            let approval = match classified {
                Ok(classified) => {
                    parts.push(classified);
                    continue;
                }
                Err(approval) => approval,
            };
            let turn = self.begun.turn;
            let id = ApprovalId::new(self.id, self.timeline, turn, step, part);
            let asked = approval.asked(id, (turn, step, part), &call);
            match self.shared.standing.covering(self.id, &asked) {
                None => needed.push(Record::Asked(asked)),
                Some(standing) => {
                    let decision = standing.decision(&asked);
                    records.extend([Record::Asked(asked), decision]);
                    parts.push(StepPart::Due(Due {
                        request: OutsideRequest::Tool(approval.call),
                        effect: approval.effect,
                    }));
                }
            }
        }
        if !needed.is_empty() {
            // Standing approvals decide once nobody is waited for: they may be revoked until then.
            return self.park(needed).await;
        }
        let effects: Vec<Effect> = parts
            .iter()
            .map(|part| match part {
                StepPart::Answered(_) => Effect::Local,
                StepPart::Due(due) => due.effect.clone(),
            })
            .collect();
        let once = effects.iter().any(|effect| !effect.repeatable());
        let about = Planned::about(&effects, self.opening);
        records.push(Record::Planned(Planned {
            turn: self.begun.turn,
            step,
            call: call.clone(),
            effects,
            parts: StepCallName::parts(request),
            about,
            at: UnixMillis::now(),
        }));
        let mut outcomes: Vec<Option<(PartResult, u64)>> = Vec::new();
        let mut due = Vec::new();
        for (part, wanted) in (0..).zip(parts) {
            outcomes.push(match wanted {
                StepPart::Answered(outcome) => {
                    records.push(self.done(step, part, None, outcome.clone(), 0));
                    Some((outcome, 0))
                }
                StepPart::Due(effect) => {
                    due.push((part, effect));
                    None
                }
            });
        }
        let urgency = if once { Urgency::First } else { Urgency::Lazy };
        self.record(records, urgency).await?;
        self.execute(step, &call, due, &mut outcomes).await?;
        Ok(answer(request, outcomes.into_iter().flatten().collect()))
    }

    /// Takes a step that is in the journal, part by part. Parts that are done are not executed
    /// again.
    ///
    /// # Errors
    /// The reason why the turn must not continue.
    pub(super) async fn again(
        &self,
        step: u32,
        call: &StepCallName,
        request: &StepRequest,
        refused: Vec<Option<StepError>>,
        parts: Vec<Recorded>,
    ) -> Result<StepAnswer, TurnFailure> {
        let mut outcomes: Vec<Option<(PartResult, u64)>> = Vec::new();
        let (mut due, mut settled) = (Vec::new(), Vec::new());
        let refused = refused.into_iter().chain(std::iter::repeat(None));
        let requests = PartRequest::all(request).into_iter().zip(refused);
        for ((part, recorded), (request, refused)) in (0..).zip(parts).zip(requests) {
            outcomes.push(match (recorded, refused) {
                (Recorded::Done(done), _) => Some((done.result, done.took_ms)),
                // The grant may have been revoked since the first attempt.
                (Recorded::Again(effect), Some(refused)) => {
                    let outcome: PartResult = Err(refused);
                    settled.push(self.done(step, part, Some(&effect), outcome.clone(), 0));
                    Some((outcome, 0))
                }
                (Recorded::Again(effect), None) => match request {
                    PartRequest::Outside(request) => {
                        due.push((part, Due { request, effect }));
                        None
                    }
                    PartRequest::Local(request) => {
                        let outcome = Ok(self.local(request).await);
                        settled.push(self.done(step, part, Some(&effect), outcome.clone(), 0));
                        Some((outcome, 0))
                    }
                },
                (Recorded::Unknown(effect), _) => {
                    let what = call.what(&effect);
                    tracing::warn!(
                        session = %self.id, turn = self.begun.turn, step, what,
                        "a step has an unknown outcome"
                    );
                    count(&call.kind, "unknown");
                    let outcome: PartResult = Err(unknown_outcome(&what));
                    settled.push(self.done(step, part, Some(&effect), outcome.clone(), 0));
                    Some((outcome, 0))
                }
            });
        }
        if !settled.is_empty() {
            self.record(settled, Urgency::Lazy).await?;
        }
        if !due.is_empty() {
            self.guard.pass().await;
            self.execute(step, call, due, &mut outcomes).await?;
        }
        Ok(answer(request, outcomes.into_iter().flatten().collect()))
    }

    /// Classifies a part of a request by its effect, before anything is executed.
    async fn classify<'r>(
        &self,
        step: u32,
        request: PartRequest<'r>,
        part: u32,
    ) -> Result<StepPart<'r>, ApprovalNeeded<'r>> {
        let request = match request {
            PartRequest::Local(request) => {
                return Ok(StepPart::Answered(Ok(self.local(request).await)));
            }
            PartRequest::Outside(request) => request,
        };
        let effect = match request {
            OutsideRequest::Model(request) => Ok(Effect::Model {
                provider: request.provider.clone().unwrap_or_default(),
            }),
            OutsideRequest::Tool(call) => self.classify_tool(step, part, call).await?,
            OutsideRequest::Http(request) => {
                let (grants, limit) = (&self.grants.http, self.limits.event_bytes);
                self.parts.http.classify(request, grants, limit)
            }
        };
        Ok(match effect {
            Ok(effect) => StepPart::Due(Due { request, effect }),
            Err(error) => StepPart::Answered(Err(error)),
        })
    }

    /// Answers what takes no effect outside.
    async fn local(&self, request: LocalRequest) -> StepResult {
        match request {
            LocalRequest::ToolsList => {
                StepResult::ToolsList(self.parts.tools.list(&self.grants.tools).await)
            }
            LocalRequest::Receive => StepResult::Receive(self.receive().await),
        }
    }

    /// Asks for all approvals that the step's parts need, at once. The driver then parks the turn,
    /// so this never returns: the turn begins again once all are decided, and takes this step again
    /// with the answers.
    async fn park<T>(&self, records: Vec<Record>) -> T {
        // An error means that this turn is being aborted before it has asked; its next attempt
        // asks.
        let _ = self.driver.send(DriverRequest::Park { records }).await;
        std::future::pending().await
    }

    async fn classify_tool<'r>(
        &self,
        step: u32,
        part: u32,
        call: &'r ToolCall,
    ) -> Result<Result<Effect, StepError>, ApprovalNeeded<'r>> {
        let mut decided = self.approvals.iter();
        let decided = decided.find(|known| known.step == step && known.part == part);
        if let Some(denial) = decided.and_then(Approval::denial) {
            return Ok(Err(StepError::Denied(denial)));
        }
        let look = match self.parts.tools.classify(call).await {
            Ok(look) => look,
            Err(error) => return Ok(Err(error)),
        };
        let effect = Effect::Tool {
            name: call.name.clone(),
            repeatable: look.repeatable,
            read_only: look.read_only,
        };
        match look.ask {
            Some(timeout) if decided.is_none() => Err(ApprovalNeeded {
                call,
                timeout,
                effect,
            }),
            _ => Ok(Ok(effect)),
        }
    }

    /// Executes all due effects concurrently and records each outcome as it arrives.
    async fn execute(
        &self,
        step: u32,
        call: &StepCallName,
        due: Vec<(u32, Due<'_>)>,
        outcomes: &mut [Option<(PartResult, u64)>],
    ) -> Result<(), TurnFailure> {
        // No guard is needed to end it: if this future is dropped, so is the turn, whose end clears
        // its step from the watchdog's view.
        self.guard.pulse.step_begins(step, self.limits.step_timeout);
        let mut under_way: FuturesUnordered<_> = due
            .into_iter()
            .map(|(part, due)| async move {
                let began = Instant::now();
                failpoint::point("effect.before");
                let outcome = self.reach_in_time(step, part, &due).await;
                failpoint::point("effect.after");
                // In whole milliseconds, as the journal records and replays it.
                let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                (part, due.effect, outcome, took_ms)
            })
            .collect();
        while let Some((part, effect, outcome, took_ms)) = under_way.next().await {
            count(&call.kind, outcome_name(&outcome));
            if let Err(error) = &outcome {
                tracing::info!(
                    session = %self.id, turn = self.begun.turn, step, kind = call.kind, %error,
                    "a step gave no result"
                );
            }
            let urgency = match effect.repeatable() {
                true => Urgency::Lazy,
                false => Urgency::Soon,
            };
            let done = self.done(step, part, Some(&effect), outcome.clone(), took_ms);
            self.record(vec![done], urgency).await?;
            if let Some(slot) = outcomes.get_mut(part as usize) {
                *slot = Some((outcome, took_ms));
            }
        }
        self.guard.pulse.step_ends();
        Ok(())
    }

    async fn reach_in_time(&self, step: u32, part: u32, due: &Due<'_>) -> PartResult {
        let reached = self.reach(step, part, due);
        let limit = self.limits.step_timeout;
        match due.request {
            // These enforce the timeout themselves, since they know whether the call had already
            // been sent when it expired.
            OutsideRequest::Tool(_) | OutsideRequest::Http(_) => reached.await,
            OutsideRequest::Model(_) => {
                let reached = tokio::time::timeout(limit, reached).await;
                reached.unwrap_or_else(|_| {
                    Err(StepError::Timeout(format!(
                        "no result within {} (`limits.step_timeout`)",
                        humantime::format_duration(limit)
                    )))
                })
            }
        }
    }

    async fn reach(&self, step: u32, part: u32, due: &Due<'_>) -> PartResult {
        let (limit, time) = (self.limits.event_bytes, self.limits.step_timeout);
        match due.request {
            OutsideRequest::Model(request) => {
                let on_delta = |asked: u32, text: &str| {
                    self.shared.hubs.publish(self.id, || {
                        Live::Delta(Arc::new(Delta {
                            text: text.to_owned(),
                            turn: self.begun.turn,
                            attempt: self.begun.attempt,
                            step,
                            request: asked,
                        }))
                    });
                };
                let answer = self.parts.llm.chat(request, limit, time, on_delta).await;
                answer.map(StepResult::Llm)
            }
            OutsideRequest::Http(request) => {
                let http = &self.parts.http;
                let sent = http.send(request, &self.grants.http, limit, time).await;
                sent.map(StepResult::Http)
            }
            OutsideRequest::Tool(call) => {
                // An idempotency key: it is the same whenever this call is repeated, so that tools
                // can deduplicate. It includes the call itself, because a turn that runs anew may
                // make a different call at the same place, and the timeline, because another turn
                // had the same number if the history was cut.
                let timeline = self
                    .timeline
                    .map_or(String::new(), |name| format!("{name}."));
                let asked = format!("{}\0{}", call.name, call.arguments);
                let asked = Digest::of(asked.as_bytes()).short();
                let (id, turn) = (self.id, self.begun.turn);
                let key = format!("{id}/{timeline}{turn}/{step}/{part}/{asked}");
                let repeatable = due.effect.repeatable();
                let tools = &self.parts.tools;
                let answer = tools.call(call, &key, repeatable, limit, time).await;
                answer.map(StepResult::ToolCall)
            }
        }
    }

    fn done(
        &self,
        step: u32,
        part: u32,
        effect: Option<&Effect>,
        result: PartResult,
        took_ms: u64,
    ) -> Record {
        let tool = match effect {
            Some(Effect::Tool { name, .. }) => Some(name.clone()),
            _ => None,
        };
        Record::Done(StepDone {
            turn: self.begun.turn,
            step,
            part,
            tool,
            result,
            took_ms,
            at: UnixMillis::now(),
        })
    }

    async fn record(&self, records: Vec<Record>, urgency: Urgency) -> Result<(), TurnFailure> {
        let ask = |reply| DriverRequest::Record {
            records,
            urgency,
            reply,
        };
        self.ask(ask).await
    }

    async fn receive(&self) -> FromInbox {
        self.ask(|reply| DriverRequest::Receive { reply }).await
    }

    /// Sends a request to the driver and waits for the reply. Without a reply the turn is being
    /// aborted, so this stays pending: the turn must not continue.
    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> DriverRequest) -> T {
        let (reply, answer) = oneshot::channel();
        if self.driver.send(ask(reply)).await.is_ok()
            && let Ok(answer) = answer.await
        {
            return answer;
        }
        std::future::pending().await
    }
}

fn count(kind: &str, outcome: &'static str) {
    let kind = kind.to_owned();
    metrics::counter!("abide_steps_total", "kind" => kind, "outcome" => outcome).increment(1);
}

fn outcome_name(outcome: &PartResult) -> &'static str {
    match outcome {
        Ok(_) => "ok",
        Err(StepError::UnknownOutcome(_)) => "unknown",
        Err(_) => "error",
    }
}
