//! The trial of a component on a session: on copies of its state and of its last committed turn, without
//! a step, an event, a timer or a record.
//!
//! ```text
//!   snapshot S --restore, snapshot--> S1 --restore, snapshot--> S2      S1 is S2, or it fails
//!        |                             |
//!        +---- what of S is not in S1, without a higher schema: suspect
//!
//!   the snapshot before --restore, last turn on its journal--> a trap, an error, a limit: it fails
//!                                                              another step: n of m steps
//! ```

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::deliberate_bugs;
use crate::domain::{
    Begun, FailureCode, Identity, ReplayedSteps, SessionId, Snapshot, StateLoss, StateTree,
    TrialReport,
};
use crate::engine::{Engine, GuestFailure, Product, unfaithful};
use crate::store::Store;

use super::plugins::Plugin;
use super::replay::{RecordedTurn, Replayed, Subject, Unreplayable};

/// Comparisons at a time: each takes up to some hundred MB.
static COMPARISONS: Semaphore = Semaphore::const_new(2);

/// A component to try, and the session to try it on.
pub(super) struct Trial {
    pub(super) engine: Engine,
    pub(super) id: SessionId,
    pub(super) identity: Identity,
    /// The session's plugin, with the component that is tried.
    pub(super) plugin: Arc<Plugin>,
    /// The session's last committed turn, and where it is recorded.
    pub(super) last: Option<(Store, Subject)>,
}

impl Trial {
    /// Tries it. `begun` is what a turn of the session would begin with.
    pub(super) async fn run(&self, begun: &Begun, snapshot: &Snapshot) -> TrialReport {
        let mut found = self.find_out(begun, snapshot).await;
        deliberate_bugs::tried(&mut found);
        found
    }

    async fn find_out(&self, begun: &Begun, snapshot: &Snapshot) -> TrialReport {
        let carried = match self.carry_over(begun, snapshot).await {
            Ok(carried) => carried,
            Err(failure) => return judged(failure, ""),
        };
        let again = match self.carry_over(begun, &carried).await {
            Ok(again) => again,
            Err(failure) => return judged(failure, "its own snapshot cannot be restored: "),
        };
        if let Some(found) = compared(snapshot, carried, again).await {
            return found;
        }
        match &self.last {
            Some((store, last)) => self.replay(store, last).await,
            None => TrialReport::passed(),
        }
    }

    /// Restores a guest and takes its snapshot.
    async fn carry_over(
        &self,
        begun: &Begun,
        snapshot: &Snapshot,
    ) -> Result<Snapshot, GuestFailure> {
        let job = self.plugin.job(&self.id, &self.identity, begun, Vec::new());
        let Product { schema, data, .. } = self.engine.retake(&job, snapshot).await?;
        Ok(Snapshot {
            plugin: snapshot.plugin.clone(),
            component: job.component.digest(),
            schema,
            data,
        })
    }

    /// Runs a turn again, as far as its journal answers.
    async fn replay(&self, store: &Store, subject: &Subject) -> TrialReport {
        let (store, subject, id) = (store.clone(), subject.clone(), self.id.clone());
        let read = tokio::task::spawn_blocking(move || RecordedTurn::read(&store, &id, &subject));
        // What is not kept any more, or is over a limit of today, says nothing about the component.
        let recorded = match read.await {
            Ok(Ok(recorded)) => recorded,
            Ok(Err(Unreplayable::Store(error))) => return TrialReport::untried(error.to_string()),
            Ok(Err(_)) | Err(_) => return TrialReport::passed(),
        };
        let Ok(offline) = recorded.on(&self.plugin, &self.id, &self.identity) else {
            return TrialReport::passed();
        };
        let of = offline.step_count();
        let before = |step: u32| {
            TrialReport::replayed(ReplayedSteps {
                steps: step.saturating_sub(1).min(of),
                of,
                differs: true,
            })
        };
        match offline.run(&self.engine).await {
            Replayed::Diverged(diverged) => before(diverged.step),
            Replayed::Reached { step, .. } => before(step),
            Replayed::Ended(ended) => match *ended {
                Ok(_) => TrialReport::replayed(ReplayedSteps {
                    steps: of,
                    of,
                    differs: false,
                }),
                // Of an earlier state, which it need not read any more.
                Err(GuestFailure::Restore { .. }) => TrialReport::passed(),
                Err(failure) => judged(failure, "its last turn, taken again, fails: ").restored(),
            },
        }
    }
}

/// Judges a failure by whether it would happen again: that time was up, or that the host failed, may be the
/// machine's doing.
fn judged(failure: GuestFailure, doing: &str) -> TrialReport {
    match failure {
        GuestFailure::Failed(failure) if failure.code == FailureCode::Timeout => {
            TrialReport::untried(failure.text)
        }
        GuestFailure::Failed(failure) => TrialReport::failed(format!("{doing}{}", failure.text)),
        GuestFailure::Restore { text, .. } => TrialReport::failed(format!("{doing}{text}")),
        failure @ (GuestFailure::Outgrown { .. } | GuestFailure::Host(_)) => {
            TrialReport::untried(failure.to_string())
        }
    }
}

/// Compares what was carried over with the snapshot that it came from, where that takes anything.
async fn compared(snapshot: &Snapshot, carried: Snapshot, again: Snapshot) -> Option<TrialReport> {
    fn state(of: &Snapshot) -> (u32, &[u8]) {
        (of.schema, &of.data)
    }
    if state(snapshot) == state(&carried) && state(&carried) == state(&again) {
        return None;
    }
    let (schema, before) = (snapshot.schema, snapshot.data.clone());
    let compare = move || compare((schema, before), carried, again);
    // Never closed.
    let _permit = COMPARISONS.acquire().await;
    // It does not panic; if it did, nothing would be known.
    tokio::task::spawn_blocking(compare).await.ok().flatten()
}

/// Compares a state, of this schema, with what a guest has made of it, and that with what was made of that.
/// None if there is nothing to say.
fn compare(
    (schema, before): (u32, Vec<u8>),
    carried: Snapshot,
    again: Snapshot,
) -> Option<TrialReport> {
    let forgets = unfaithful((carried.schema, &carried.data), (again.schema, &again.data));
    if let Some(forgets) = forgets {
        // The order of a map's keys says nothing.
        let trees = StateTree::read_both(&carried.data, &again.data);
        let is_same = trees.is_ok_and(|(carried, again)| carried == again);
        if !is_same || carried.schema != again.schema {
            return Some(TrialReport::failed(forgets.to_string()));
        }
    }
    // Whoever raises the schema says that the encoding is another one. Guests may encode as they like: what
    // cannot be read is not compared.
    if carried.schema > schema {
        return None;
    }
    let (before, after) = StateTree::read_both(&before, &carried.data).ok()?;
    let lost = StateLoss::between(&before, &after);
    (!lost.is_none()).then(|| TrialReport::suspect(lost, schema))
}
