//! Writing decisions to disk: records that are decided together are synced together, and nothing is
//! published or acknowledged before its sync.
//!
//! ```text
//!   decided --commit--> append, wait for its sync --------------------> publish, reply
//!      |    --commit_later--> append --> in flight --(synced)---------> publish, reply
//!      +----hold--> held: prepended to the next of the two, after HOLD at the latest
//! ```

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::domain::{
    Digest, Discarded, Event, LogPos, Message, MessageId, Received, Record, Refusal,
};
use crate::store::{Append, Durability, StoreError};
use crate::{deliberate_bugs, failpoint};

use super::{Driver, Live, STORE_PAUSE};
use crate::session::mailbox::ReplyTo;
use crate::session::outcome::TurnOutcome;
use crate::session::queries::refusal;

/// How long records may be held back when no reply waits for their sync alone.
const HOLD: Duration = Duration::from_millis(5);

/// A callback that sends a reply once it is known whether the batch was synced.
type OnSynced = Box<dyn FnOnce(Result<(), Refusal>) + Send + Sync>;

/// A batch of records that the session in memory contains but the disk does not yet, and the
/// replies that wait for it.
#[derive(Default)]
pub(super) struct CommitBatch {
    records: Vec<(LogPos, Record)>,
    snapshot: Option<(LogPos, Vec<u8>)>,
    answers: Vec<OnSynced>,
    /// Whether a reply waits for nothing but this batch's sync, so that the batch must not be held.
    hurried: bool,
}

impl CommitBatch {
    /// Replies with `value` once the batch, with all records it has by then, is synced; or with the
    /// refusal if the sync failed.
    pub(super) fn answer<T: Send + Sync + 'static>(&mut self, reply: ReplyTo<T>, value: T) {
        self.hurried = true;
        self.answer_in_time(reply, value);
    }

    /// Like [`Self::answer`], for a sender that waits for the turn's end anyway: the batch may be
    /// held.
    pub(super) fn answer_in_time<T: Send + Sync + 'static>(&mut self, reply: ReplyTo<T>, value: T) {
        self.answers.push(Box::new(move |synced| {
            // An error means that the client has gone.
            let _ = reply.send(synced.map(|()| value));
        }));
    }

    /// Signals `done` once the batch is resolved, whether its sync succeeded or failed.
    pub(super) fn done(&mut self, done: oneshot::Sender<()>) {
        self.hurried = true;
        self.answers.push(Box::new(move |_| {
            let _ = done.send(());
        }));
    }

    pub(super) fn snapshot(&mut self, at: LogPos, bytes: Vec<u8>) {
        self.snapshot = Some((at, bytes));
    }

    /// Returns whether the batch may be synced a little later without delaying anybody.
    pub(super) fn can_be_held(&self) -> bool {
        !self.hurried && self.snapshot.is_none()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.answers.is_empty()
    }

    /// Appends a batch that was decided later.
    fn add(&mut self, later: CommitBatch) {
        if self.is_empty() {
            *self = later;
            return;
        }
        self.records.extend(later.records);
        self.answers.extend(later.answers);
        self.snapshot = later.snapshot.or(self.snapshot.take());
        self.hurried |= later.hurried;
    }

    fn resolve(self, synced: Result<(), Refusal>) {
        let anybody = !self.answers.is_empty();
        for answer in self.answers {
            answer(synced.clone());
        }
        if anybody {
            failpoint::point("acknowledged");
        }
    }

    /// Returns the size of the message texts in the batch.
    pub(super) fn messages_bytes(&self) -> usize {
        let texts = self.records.iter().map(|(_, record)| match record {
            Record::Received(received) => received.message.text.len(),
            _ => 0,
        });
        texts.sum()
    }

    /// Returns the message of the record at `at`, if that record is in the batch.
    pub(super) fn message(&self, at: LogPos) -> Option<&Message> {
        let (_, record) = self.records.iter().rfind(|(pos, _)| *pos == at)?;
        match record {
            Record::Received(received) => Some(&received.message),
            Record::Requeued(requeued) => Some(&requeued.message),
            _ => None,
        }
    }

    /// Returns the message that this batch accepts under the idempotency key, if any.
    pub(super) fn known_key(&self, key: &str) -> Option<(MessageId, Digest)> {
        self.records.iter().find_map(|(_, record)| match record {
            Record::Received(Received {
                message,
                key: Some(known),
            }) if known.key == key => Some((message.id.clone(), known.body)),
            _ => None,
        })
    }

    fn keys(&self) -> Vec<AcceptedKey> {
        let keys = self.records.iter().filter_map(|(_, record)| match record {
            Record::Received(Received {
                message,
                key: Some(key),
            }) => Some(AcceptedKey {
                key: key.key.clone(),
                message: message.id.clone(),
                body: key.body,
            }),
            _ => None,
        });
        keys.collect()
    }

    /// Returns the failpoints around the batch's sync.
    fn points(&self) -> Points {
        let (append, synced) = match self.records.last() {
            Some((_, Record::Received(_))) => ("inbox.append", "inbox.synced"),
            Some((_, Record::Begun(_))) => ("begun.append", "begun.synced"),
            Some((_, Record::Planned(_))) => ("planned.append", "planned.synced"),
            Some((_, Record::Done(_))) => ("done.append", "done.synced"),
            Some((_, Record::Ended(_))) => ("ended.append", "ended.synced"),
            _ => ("other.append", "other.synced"),
        };
        Points { append, synced }
    }

    fn closes(&self) -> bool {
        self.records
            .iter()
            .any(|(_, record)| matches!(record, Record::Closed(_)))
    }

    /// Returns the messages that become dead letters without a turn. None if the batch closes the
    /// session, which subscribers are notified of instead.
    fn discarded(&self) -> Arc<[Discarded]> {
        if self.closes() {
            return Arc::default();
        }
        let letters = self.records.iter().filter_map(|(_, record)| match record {
            Record::Discarded(discarded) => Some(discarded.clone()),
            _ => None,
        });
        letters.collect()
    }

    fn events(&self) -> Arc<[Event]> {
        self.records
            .iter()
            .flat_map(|(at, record)| record.events(at.cursor))
            .collect()
    }
}

/// The names of the failpoints around a batch's sync.
#[derive(Clone, Copy)]
struct Points {
    append: &'static str,
    synced: &'static str,
}

type Synced = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + Sync>>;

/// A batch that is being written while the driver does other work, with the events to publish and
/// the replies to send once it is synced.
pub(super) struct CommitInFlight {
    synced: Synced,
    events: Arc<[Event]>,
    /// The rest of the batch; its records have been handed to the store.
    batch: CommitBatch,
    /// The idempotency keys of the batch.
    keys: Vec<AcceptedKey>,
    /// The failpoint to pass once the batch is synced.
    point: &'static str,
}

/// A message that a batch accepts under an idempotency key.
struct AcceptedKey {
    key: String,
    message: MessageId,
    body: Digest,
}

/// Waits for the sync of the oldest batch in flight; pending forever if there is none. Cancel safe.
pub(super) async fn synced(in_flight: &mut VecDeque<CommitInFlight>) -> Result<(), StoreError> {
    match in_flight.front_mut() {
        Some(first) => first.synced.as_mut().await,
        None => std::future::pending().await,
    }
}

impl Driver {
    /// Applies a record to the session, adds it to the batch and returns its position.
    pub(super) fn stage(&mut self, batch: &mut CommitBatch, record: Record) -> LogPos {
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
    /// gets one of its own after [`HOLD`].
    pub(super) fn hold(&mut self, batch: CommitBatch) {
        if !batch.records.is_empty() {
            self.held_until.get_or_insert_with(|| Instant::now() + HOLD);
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
        let (events, closes) = (batch.events(), batch.closes());
        let discarded = batch.discarded();
        let points = batch.points();
        failpoint::point(points.append);
        let mut durability = Durability::Synced;
        deliberate_bugs::before_sync(&mut durability, &mut batch.answers, || {
            self.publish_events(events.clone());
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
                self.publish_events(events);
                self.publish_discarded(discarded);
                if closes {
                    self.publish(|| Live::Closed);
                }
            }
            Err(error) => self.store_failed(error).await,
        }
        let ok = result.is_ok();
        batch.resolve(result.map_err(refusal));
        ok
    }

    /// Hands the held batch and `batch` to the store without waiting for the sync. Returns whether
    /// that was possible.
    pub(super) fn commit_later(&mut self, batch: CommitBatch, durability: Durability) -> bool {
        let mut batch = self.with_held(batch);
        let (events, points) = (batch.events(), batch.points());
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

    fn append(&mut self, batch: &mut CommitBatch, durability: Durability) -> Option<Synced> {
        let after = self.session.as_ref()?;
        let append = Append {
            id: self.id.clone(),
            records: std::mem::take(&mut batch.records),
            after,
            snapshot: batch.snapshot.take(),
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
            let result = synced(&mut self.in_flight).await;
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
                self.publish_events(first.events);
            }
            Err(error) => self.store_failed(error).await,
        }
        first.batch.resolve(result.map_err(refusal));
    }

    fn publish_events(&mut self, events: Arc<[Event]>) {
        if events.is_empty() {
            return;
        }
        self.answer_waiters(&events);
        self.publish(|| Live::Events(events));
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
