//! A running turn: connects the guest's steps with the journal and with the step executor.
//!
//! ```text
//!   guest --- step ---> in the journal? -- yes --> its recorded result
//!     ^                      | no
//!     |                      v
//!     |              barrier (a drain freezes the turn here)
//!     |                      v
//!     |              needs an approval? -- undecided --> ask and park the turn; it begins again
//!     |                      v
//!     |              Planned -> effect -> Done      (`step_executor`)
//!     +------- result -------+
//! ```

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::domain::{
    Approval, Begun, Message, Planned, Replay, SessionId, Snapshot, StepPath, TimelineName,
};
use crate::engine::{Admission, GuestFailure, GuestJob, Product, StepCall};

use super::drain::TurnGuard;
use super::mailbox::DriverRequest;
use super::shared::Shared;
use super::step_executor::StepExecutor;
use super::trial::Trial;

/// The calls of a trial: it restores twice, and takes a turn.
const TRIAL_CALLS: u32 = 3;

/// Everything that a turn needs to run.
pub(super) struct TurnJob {
    pub(super) id: SessionId,
    /// The session's timeline; none if it is the first.
    pub(super) timeline: Option<TimelineName>,
    pub(super) job: GuestJob,
    pub(super) snapshot: Arc<Snapshot>,
    /// That the component is to be tried first.
    pub(super) trial: Option<Trial>,
    pub(super) begun: Begun,
    /// Replays the steps that the turn took before it was interrupted.
    pub(super) replay: Replay,
    /// The approvals that the turn requested before it was parked.
    pub(super) approvals: Vec<Approval>,
    /// The driver, the only writer of the session's log.
    pub(super) driver: mpsc::Sender<DriverRequest>,
    pub(super) guard: Arc<TurnGuard>,
    /// The memory that the guest is expected to need.
    pub(super) reserve_bytes: u64,
}

impl TurnJob {
    /// Runs the turn to its end on its message, once there is memory and a place for its guest. Dropping the
    /// future aborts the guest and the step in flight.
    pub(super) async fn run(
        mut self,
        message: Message,
        shared: Arc<Shared>,
    ) -> Result<Product, GuestFailure> {
        let (engine, guard) = (&shared.engine, &self.guard);
        if let Some(trial) = &self.trial {
            // Before memory is reserved, which the trial may wait for.
            guard
                .pulse
                .turn_runs(TRIAL_CALLS * self.job.limits.turn_timeout);
            let report = guard
                .unless_drained(|| Box::pin(trial.run(&self.begun, &self.snapshot)))
                .await;
            if report.verdict.stays() {
                return Err(GuestFailure::Restore {
                    text: report.text,
                    newer_schema: None,
                });
            }
        }
        guard.pulse.waits_for_memory(self.reserve_bytes);
        let memory = guard.until_free(engine.reserve(self.reserve_bytes)).await;
        guard.pulse.has_memory();
        let peak = memory.peak();
        let admission = engine.admit(&self.job.component, memory);
        let admission = guard.until_free(admission).await;
        let ended = self.run_admitted(admission, message, &shared).await;
        if !matches!(ended, Err(GuestFailure::Outgrown { .. })) {
            let plugin = &self.job.context.plugin;
            let peaks = &shared.memory_peaks;
            peaks.record(&self.id, plugin, peak.bytes());
        }
        ended
    }

    async fn run_admitted(
        &mut self,
        admission: Admission,
        message: Message,
        shared: &Shared,
    ) -> Result<Product, GuestFailure> {
        let (calls, mut asked) = mpsc::channel(1);
        let Self {
            id,
            timeline,
            job,
            snapshot,
            trial: _,
            begun,
            replay,
            approvals,
            driver,
            guard,
            reserve_bytes: _,
        } = self;
        guard.pulse.turn_runs(job.limits.turn_timeout);
        let notice = begun.notice.as_ref();
        let engine = &shared.engine;
        // Copied, because the guest takes ownership of the message.
        let opening = Planned::opening(&message.text).to_owned();
        let guest = engine.admitted_turn(admission, job, snapshot, notice, vec![message], calls);
        tokio::pin!(guest);
        let parts = shared.live_config();
        let steps = StepExecutor {
            shared,
            parts: &parts,
            id,
            timeline: timeline.as_ref(),
            begun,
            opening: &opening,
            limits: &job.limits,
            grants: &job.grants,
            driver,
            guard,
            approvals,
        };
        loop {
            let call = tokio::select! {
                ended = &mut guest => {
                    let product = ended?;
                    return match replay.left_out() {
                        None => Ok(product),
                        Some(diverged) => Err(GuestFailure::Failed(diverged.into())),
                    };
                }
                Some(call) = asked.recv() => call,
            };
            let StepCall {
                step,
                call,
                request,
                refused,
                reply,
            } = *call;
            // Boxed: most turns take no step, and what a step needs is most of what a turn would.
            let taken = Box::pin(async {
                match replay.next(&call) {
                    StepPath::Diverged(diverged) => Err(diverged.into()),
                    StepPath::Recorded(parts) => {
                        steps.again(step, &call, &request, refused, parts).await
                    }
                    StepPath::Live => steps.take(step, call, &request, refused).await,
                }
            });
            // Poll the guest as well: its turn timeout runs while it waits for the step.
            let answer = tokio::select! {
                ended = &mut guest => return ended,
                answer = taken => answer.map_err(GuestFailure::Failed)?,
            };
            // An error means that the guest has just been aborted.
            let _ = reply.send(answer);
        }
    }
}
