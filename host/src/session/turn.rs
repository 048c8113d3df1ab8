//! A running turn: the guest on one side; on the other its journal, and what its steps reach.
//!
//! ```text
//!   guest --- step ---> journal knows it? -- yes --> its result, as it was
//!     ^                      | no
//!     |                      v
//!     |              the barrier (a drain freezes the turn here)
//!     |                      v
//!     |              needs an approval? -- not decided --> asked, and parked: it is begun again
//!     |                      v
//!     |              Planned -> effect -> Done      (`steps`)
//!     +------- result -------+
//! ```

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::domain::{Approval, Begun, Message, Planned, Replay, SessionId, Snapshot, StepPath};
use crate::engine::{GuestFailure, GuestJob, Product, StepCall};

use super::mailbox::DriverRequest;
use super::shared::{Shared, TurnGuard};
use super::step_executor::StepExecutor;

/// All that a turn needs.
pub(super) struct TurnJob {
    pub(super) id: SessionId,
    pub(super) job: GuestJob,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) begun: Begun,
    pub(super) message: Message,
    /// What it did before it was interrupted.
    pub(super) replay: Replay,
    /// What it asked a human before.
    pub(super) approvals: Vec<Approval>,
    /// The driver, which alone writes to the session's log.
    pub(super) driver: mpsc::Sender<DriverRequest>,
    pub(super) guard: Arc<TurnGuard>,
}

impl TurnJob {
    /// Runs it to its end. Dropping the future cuts it: the guest, and the step in flight.
    pub(super) async fn run(self, shared: Arc<Shared>) -> Result<Product, GuestFailure> {
        let (calls, mut asked) = mpsc::channel::<StepCall>(1);
        let Self {
            id,
            job,
            snapshot,
            begun,
            message,
            mut replay,
            approvals,
            driver,
            guard,
        } = self;
        let admission = guard.until_free(shared.engine.admit(&job.component)).await;
        guard.pulse.turn_runs(job.limits.turn_timeout);
        let notice = begun.notice.as_ref();
        let engine = &shared.engine;
        // The guest takes the message itself.
        let opening = Planned::opening(&message.text).to_owned();
        let guest = engine.admitted_turn(admission, &job, &snapshot, notice, vec![message], calls);
        tokio::pin!(guest);
        let parts = shared.parts();
        let steps = StepExecutor {
            shared: &shared,
            parts: &parts,
            id: &id,
            begun: &begun,
            opening: &opening,
            limits: &job.limits,
            grants: &job.grants,
            driver,
            guard: &guard,
            approvals: &approvals,
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
            } = call;
            let taken = async {
                match replay.next(&call) {
                    StepPath::Diverged(diverged) => Err(diverged.into()),
                    StepPath::Recorded(parts) => {
                        steps.again(step, &call, &request, refused, parts).await
                    }
                    StepPath::Live => steps.take(step, call, &request, refused).await,
                }
            };
            // The guest is polled on: its turn's time runs while it waits.
            let answer = tokio::select! {
                ended = &mut guest => return ended,
                answer = taken => answer.map_err(GuestFailure::Failed)?,
            };
            // An error means that the guest has just been cut.
            let _ = reply.send(answer);
        }
    }
}
