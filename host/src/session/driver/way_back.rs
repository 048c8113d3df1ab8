//! The ways back of a session: an earlier state is brought back, or a copy begins.
//!
//! ```text
//!   rewind: what is decided so far is written -> the point's state is tried -> the open turn ends,
//!           and the state is stored once more, as that of the record `Rewound`
//!   copy:   state and history are read --(of another session, or from an export)--> the state is
//!           tried -> history, `Origin` and state are stored together: the session begins
//! ```

use super::Driver;
use super::batch::CommitBatch;
use crate::deliberate_bugs;
use crate::domain::{
    BadSnapshot, EventId, NewCopy, Owed, Point, PointAct, Refusal, Replacement, Rewinding,
    RewoundTo, Session, SessionCopy, SessionView, Snapshot, TimelineName,
};
use crate::session::queries::refusal;
use crate::store::StoreError;

impl Driver {
    /// Rewinds the session to one of its restore points.
    pub(super) async fn rewind(
        &mut self,
        to: &EventId,
        by: Option<String>,
        batch: &mut CommitBatch,
    ) -> Result<(SessionView, RewoundTo), Refusal> {
        self.shared.store.may_keep_points().map_err(refusal)?;
        self.settle_with(batch).await?;
        let session = self.existing()?;
        let points = self.points(session)?;
        let index = place(session, to, &points)?;
        let (point, later) = (&points[index], &points[index + 1..]);
        let configured = self.configured(session)?;
        let stored = self.state_of(point)?;
        let fired = self.shared.store.timers_fired(&self.id, point.at);
        let fired = fired.map_err(refusal)?;
        // While a turn runs on that component, its guest was restored by it a moment ago.
        let runs_on = self.running.as_ref().map(|it| it.begun().component);
        if runs_on != Some(point.component) {
            self.try_state(&session.identity, point.component, &stored)
                .await?;
        }
        let at = Self::now();
        let with = Rewinding {
            point,
            later,
            fired: &fired,
            configured,
            by,
            at,
        };
        let decide = |driver: &Self| driver.existing()?.rewind(&with);
        let mut records = self.carry_out(batch, decide).await?;
        deliberate_bugs::rewound(&mut records);
        let rewound = RewoundTo::by(&records);
        for record in records {
            self.stage(batch, record);
        }
        batch.acted(PointAct::Rewind);
        let session = self.existing()?;
        let view = session.view(&self.id);
        let taken = session.point(point.turn, stored.len(), Owed::default(), at);
        batch.snapshot(taken, stored);
        self.settle_with(batch).await?;
        self.proven = true;
        self.timers_may_have_changed();
        self.shared.session_moved.notify_one();
        tracing::info!(session = %self.id, turn = point.turn, "the session was rewound");
        metrics::counter!("abide_sessions_rewound_total").increment(1);
        Ok((view, rewound))
    }

    /// Reads what a copy of the session takes along.
    pub(super) async fn copy(
        &mut self,
        at: Option<&EventId>,
        batch: &mut CommitBatch,
    ) -> Result<SessionCopy, Refusal> {
        self.settle_with(batch).await?;
        let session = self.existing()?;
        let points = self.points(session)?;
        let index = match at {
            Some(at) => place(session, at, &points)?,
            // The last one is its present state.
            None => points.len().checked_sub(1).ok_or_else(no_state)?,
        };
        let point = &points[index];
        let (left, owed) = session.not_copied(point, &points[index + 1..]);
        let (store, id, upto) = (self.shared.store.clone(), self.id.clone(), point.clone());
        // It may be long.
        let read = move || store.history(&id, &upto);
        let history = tokio::task::spawn_blocking(read).await;
        let history = history.unwrap_or(Err(StoreError::Closed));
        Ok(SessionCopy {
            session: self.id.clone(),
            identity: session.identity.clone(),
            point: point.clone(),
            timeline: session.progress.timeline.before(point.cursor),
            snapshot: self.state_of(point)?,
            history: history.map_err(refusal)?,
            owed,
            left,
        })
    }

    /// Creates the session as a copy.
    pub(super) async fn begin_copy(
        &mut self,
        mut copy: SessionCopy,
        how: Replacement,
        by: Option<String>,
        batch: &mut CommitBatch,
    ) -> Result<SessionView, Refusal> {
        if let Some(session) = &self.session {
            return Err(match session.progress.closed {
                Some(at) => Refusal::Closed { at },
                None => Refusal::Taken,
            });
        }
        self.shared.store.may_keep_points().map_err(refusal)?;
        self.shared.space.check()?;
        let plugin = self.plugin(&copy.identity.plugin)?;
        plugin.check_args(&copy.identity.args)?;
        self.try_state(&copy.identity, copy.point.component, &copy.snapshot)
            .await?;
        let now = Self::now();
        let (session, records) = copy.begin(&NewCopy {
            how,
            generation: self.shared.settings.generation,
            // What was exported may go on elsewhere under the same id.
            timeline: (how == Replacement::Imported).then(|| TimelineName::draw(rand::random())),
            configured: self.shared.rollouts.component_with(
                &copy.identity.plugin,
                plugin.component.digest(),
                copy.point.component,
            ),
            by,
            at: now,
        });
        let stored = std::mem::take(&mut copy.snapshot);
        let point = session.point(copy.point.turn, stored.len(), Owed::default(), now);
        let view = session.view(&self.id);
        self.session = Some(session);
        batch.records.extend(records);
        batch.history = copy.history;
        batch.snapshot(point, stored);
        self.proven = true;
        Ok(view)
    }

    /// Writes what is decided so far, so that the store has all of it.
    async fn settle_with(&mut self, batch: &mut CommitBatch) -> Result<(), Refusal> {
        let decided = std::mem::take(batch);
        // If that fails, the session is unread.
        self.commit(decided).await;
        self.settle().await;
        match &self.unread {
            None => Ok(()),
            Some(refusal) => Err(refusal.clone()),
        }
    }

    /// Returns the restore points of the session, oldest first; all that was decided is written.
    fn points(&self, session: &Session) -> Result<Vec<Point>, Refusal> {
        if let Some(at) = session.progress.closed {
            return Err(Refusal::Closed { at });
        }
        self.shared.store.points(&self.id).map_err(refusal)
    }

    /// Returns the snapshot of a point, as it is stored.
    fn state_of(&self, point: &Point) -> Result<Vec<u8>, Refusal> {
        let stored = self.shared.store.snapshot(&self.id, point.at);
        let stored = stored.map_err(refusal)?.ok_or_else(no_state)?;
        let damaged = |error: BadSnapshot| Refusal::CannotReturn {
            reason: error.to_string(),
        };
        Snapshot::decode_any(&stored).map_err(damaged)?;
        Ok(stored)
    }
}

fn no_state() -> Refusal {
    Refusal::CannotReturn {
        reason: "its snapshot is missing from the store".to_owned(),
    }
}

/// Returns the index of the point that a client means.
fn place(session: &Session, to: &EventId, points: &[Point]) -> Result<usize, Refusal> {
    let unknown = || Refusal::UnknownPoint { point: to.clone() };
    let timeline = &session.progress.timeline;
    let cursor = timeline.locate(to, session.cursor());
    let cursor = cursor.map_err(|_| unknown())?;
    let found = points.iter().position(|point| point.cursor == cursor);
    found.ok_or_else(unknown)
}
