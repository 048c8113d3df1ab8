//! Writing decisions to disk: records that are decided together are synced together, and nothing is
//! published or acknowledged before its sync.
//!
//! ```text
//!   decided --commit--> append, wait for its sync --------------------> publish, reply
//!      |    --commit_later--> append --> in flight --(synced)---------> publish, reply
//!      +----hold--> held: prepended to the next of the two, once the hold clock rings at the latest
//! ```

use std::sync::Arc;

use tokio::time::Instant;

use crate::domain::{Digest, Discarded, Event, LogPos, MessageId, Record, TimelineName};
use crate::store::{Append, Durability, StoreError};
use crate::{deliberate_bugs, failpoint};

use super::batch::{self, CommitBatch, CommitInFlight, Synced};
use super::{Driver, Live, STORE_PAUSE};
use crate::session::outcome::TurnOutcome;
use crate::session::queries::refusal;

impl Driver {
    /// Applies a record to the session, adds it to the batch and returns its position.
    pub(super) fn stage(&mut self, batch: &mut CommitBatch, record: Record) -> LogPos {
        self.forget_ended(&record);
        let at = match &mut self.session {
            Some(session) => session.apply(&record),
            None => {
                self.session = crate::domain::Session::create(&record);
                LogPos::default()
            }
        };
        batch.records.push((at, record));
        at
    }

    /// Holds back a batch whose later sync delays nobody: it shares the session's next sync, or
    /// gets one of its own once the hold clock rings.
    pub(super) fn hold(&mut self, batch: CommitBatch) {
        if !batch.records.is_empty() {
            self.held_until
                .get_or_insert_with(|| self.shared.hold_clock.due());
            self.held.add(batch);
        } else if !self.held.is_empty() {
            // The replies may depend on the held records.
            self.held.add(batch);
        } else if let Some(last) = self.in_flight.back_mut() {
            last.batch.add(batch);
        } else {
            batch.resolve(Ok(()));
        }
    }

    /// Hands the held batch to the store.
    pub(super) fn flush(&mut self) {
        if !self.held.is_empty() {
            self.commit_later(CommitBatch::default(), Durability::Synced);
        }
    }

    /// Returns the held batch with `batch` appended.
    fn with_held(&mut self, batch: CommitBatch) -> CommitBatch {
        self.held_until = None;
        let mut all = std::mem::take(&mut self.held);
        all.add(batch);
        all
    }

    /// Returns the message that was accepted under the idempotency key and is not on disk yet.
    pub(super) fn unwritten_key(&self, key: &str) -> Option<(MessageId, Digest)> {
        let in_flight = self.in_flight.iter().flat_map(|in_flight| &in_flight.keys);
        let mut known = in_flight.filter(|known| known.key == key);
        let known = known
            .next()
            .map(|known| (known.message.clone(), known.body));
        known.or_else(|| self.held.known_key(key))
    }

    /// Syncs the held batch and `batch`, then publishes and replies. If that fails, nothing is
    /// published or acknowledged, and the session is loaded again from the store. Returns whether
    /// it succeeded.
    pub(super) async fn commit(&mut self, batch: CommitBatch) -> bool {
        let mut batch = self.with_held(batch);
        if batch.records.is_empty() {
            self.hold(batch);
            return self.unread.is_none();
        }
        let (events, closes) = (batch.events(self.timeline()), batch.closes());
        let discarded = batch.discarded();
        let points = batch.points();
        failpoint::point(points.append);
        let mut durability = Durability::Synced;
        let lazy = Durability::Lazy;
        deliberate_bugs::before_sync(&mut durability, lazy, &mut batch.answers, || {
            self.publish_events(events.clone(), closes);
        });
        let synced = self.append(&mut batch, durability);
        // The store syncs records in the order of the appends: batches in flight are on disk, and
        // must be published, first.
        self.arrive().await;
        let result = match synced {
            Some(synced) => synced.await,
            None => Ok(()),
        };
        match &result {
            Ok(()) => {
                self.tail.settled();
                failpoint::point(points.synced);
                self.publish_events(events, closes);
                self.publish_discarded(discarded);
                if closes {
                    self.publish(|| Live::Closed);
                }
            }
            Err(error) => Box::pin(self.store_failed(error)).await,
        }
        let ok = result.is_ok();
        batch.resolve(result.map_err(refusal));
        ok
    }

    /// Hands the held batch and `batch` to the store without waiting for the sync. Returns whether
    /// that was possible.
    pub(super) fn commit_later(&mut self, batch: CommitBatch, durability: Durability) -> bool {
        let mut batch = self.with_held(batch);
        let (events, points) = (batch.events(self.timeline()), batch.points());
        let keys = batch.keys();
        failpoint::point(points.append);
        let durability = match batch.answers.is_empty() {
            true => durability,
            false => Durability::Synced,
        };
        let Some(synced) = self.append(&mut batch, durability) else {
            return false;
        };
        self.in_flight.push_back(CommitInFlight {
            synced,
            events,
            batch,
            keys,
            point: points.synced,
        });
        true
    }

    /// The session's present timeline; none if it is the first.
    pub(super) fn timeline(&self) -> Option<&TimelineName> {
        let session = self.session.as_ref();
        session.and_then(|session| session.progress.timeline.name())
    }

    fn append(&mut self, batch: &mut CommitBatch, durability: Durability) -> Option<Synced> {
        let after = self.session.as_ref()?;
        let append = Append {
            id: self.id.clone(),
            history: std::mem::take(&mut batch.history),
            records: std::mem::take(&mut batch.records),
            after,
            snapshot: batch.snapshot.take(),
            act: batch.act.take(),
            durability,
        };
        let store = &self.shared.store;
        Some(Box::pin(store.append(&mut self.tail, append)))
    }

    /// Waits until all decided records are on disk.
    pub(super) async fn settle(&mut self) {
        self.flush();
        self.arrive().await;
    }

    /// Waits until no batch is in flight.
    async fn arrive(&mut self) {
        while !self.in_flight.is_empty() {
            let result = batch::synced(&mut self.in_flight).await;
            self.synced(result).await;
        }
    }

    /// Handles the result of the oldest batch in flight: publishes and replies.
    pub(super) async fn synced(&mut self, result: Result<(), StoreError>) {
        let Some(first) = self.in_flight.pop_front() else {
            return;
        };
        match &result {
            Ok(()) => {
                if self.in_flight.is_empty() {
                    self.tail.settled();
                }
                failpoint::point(first.point);
                self.publish_events(first.events, false);
            }
            Err(error) => Box::pin(self.store_failed(error)).await,
        }
        first.batch.resolve(result.map_err(refusal));
    }

    fn publish_events(&mut self, events: Arc<[Event]>, closes: bool) {
        if events.is_empty() {
            return;
        }
        self.answer_waiters(&events);
        self.shared.hubs.publish_events(&self.id, events, closes);
        failpoint::point("published");
    }

    /// Publishes dead letters and notifies waiters whose message will have no turn.
    fn publish_discarded(&mut self, letters: Arc<[Discarded]>) {
        if letters.is_empty() {
            return;
        }
        for (message, waiter) in std::mem::take(&mut self.waiters) {
            match letters.iter().find(|letter| letter.message == message) {
                // An error means that the client has gone.
                Some(letter) => {
                    drop(waiter.send(TurnOutcome::discarded(letter.failure.clone())));
                }
                None => self.waiters.push((message, waiter)),
            }
        }
        self.publish(|| Live::Discarded(letters));
    }

    /// Sends the outcome to the waiters whose turn has ended.
    fn answer_waiters(&mut self, events: &[Event]) {
        if self.waiters.is_empty() {
            return;
        }
        for (message, waiter) in std::mem::take(&mut self.waiters) {
            match TurnOutcome::among(events, &message) {
                // An error means that the client has gone.
                Some(outcome) => drop(waiter.send(outcome)),
                None => self.waiters.push((message, waiter)),
            }
        }
    }

    /// Handles a failed write. The latest decisions may not have happened: aborts the turn that
    /// runs on them, refuses what waits for them, lets the session be loaded again from the store,
    /// and pauses new turns for [`STORE_PAUSE`].
    async fn store_failed(&mut self, error: &StoreError) {
        tracing::error!(session = %self.id, %error, "the store took no write; nothing is acknowledged");
        metrics::counter!("abide_store_write_failures_total").increment(1);
        if let Some(mut running) = self.running.take() {
            running.abort().await;
        }
        // Everything behind the failed write fails with it.
        let failed = std::mem::take(&mut self.in_flight);
        let held = self.with_held(CommitBatch::default());
        let batches = failed.into_iter().map(|failed| failed.batch).chain([held]);
        for batch in batches {
            batch.resolve(Err(refusal(error.clone())));
        }
        self.paused_until = Some(Instant::now() + STORE_PAUSE);
        // Loaded again at the next wake, before anything is decided.
        self.unread = Some(refusal(error.clone()));
    }
}
