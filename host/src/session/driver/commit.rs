//! From decisions to the disk: what is decided together is synced together, and nobody hears of
//! it before.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::domain::{Digest, Event, LogPos, MessageId, Received, Record, Refusal};
use crate::fault;
use crate::store::{Append, Durability, StoreError};

use super::{Driver, Live, STORE_PAUSE};
use crate::session::mailbox::Reply;
use crate::session::reads::refusal;

/// What is to be said once it is known whether a batch was synced.
type Answer = Box<dyn FnOnce(Result<(), Refusal>) + Send + Sync>;

/// Records that stand in the session already and not yet on the disk, and who waits for them.
#[derive(Default)]
pub(super) struct Batch {
    records: Vec<(LogPos, Record)>,
    snapshot: Option<(LogPos, Vec<u8>)>,
    answers: Vec<Answer>,
}

impl Batch {
    /// Answers once what is in the batch by then has been synced, or with the refusal if it was
    /// not.
    pub(super) fn answer<T: Send + Sync + 'static>(&mut self, reply: Reply<T>, value: T) {
        self.answers.push(Box::new(move |synced| {
            // An error means that the client has gone.
            let _ = reply.send(synced.map(|()| value));
        }));
    }

    /// Says so, whatever became of the batch.
    pub(super) fn done(&mut self, done: oneshot::Sender<()>) {
        self.answers.push(Box::new(move |_| {
            let _ = done.send(());
        }));
    }

    pub(super) fn snapshot(&mut self, at: LogPos, bytes: Vec<u8>) {
        self.snapshot = Some((at, bytes));
    }

    /// The message that this batch accepts under the key, if it does.
    pub(super) fn known_key(&self, key: &str) -> Option<(MessageId, Digest)> {
        self.records.iter().find_map(|(_, record)| match record {
            Record::Received(Received {
                message,
                key: Some(known),
            }) if known.key == key => Some((message.id.clone(), known.body)),
            _ => None,
        })
    }

    /// The fault points around its sync.
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

    fn events(&self) -> Arc<[Event]> {
        self.records
            .iter()
            .flat_map(|(at, record)| record.events(at.cursor))
            .collect()
    }
}

/// The names of the fault points around a batch's sync.
#[derive(Clone, Copy)]
struct Points {
    append: &'static str,
    synced: &'static str,
}

type Synced = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + Sync>>;

/// Records on their way to the disk while nobody waits for them, and what to publish then.
pub(super) struct InFlight {
    synced: Synced,
    events: Arc<[Event]>,
    /// The fault point that is crossed then.
    point: &'static str,
}

/// Waits for the oldest of what is in flight, which must be there. Dropping the future loses
/// nothing.
pub(super) async fn synced(in_flight: &mut VecDeque<InFlight>) -> Result<(), StoreError> {
    match in_flight.front_mut() {
        Some(first) => first.synced.as_mut().await,
        None => std::future::pending().await,
    }
}

impl Driver {
    /// Takes a record into the session and the batch, and says where it stands.
    pub(super) fn stage(&mut self, batch: &mut Batch, record: Record) -> LogPos {
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

    /// Syncs the batch, then publishes and answers. On a failure nothing of it has happened: the
    /// session is read again from the store.
    pub(super) async fn commit(&mut self, mut batch: Batch) -> bool {
        let mut result = Ok(());
        if !batch.records.is_empty() {
            let (events, closes) = (batch.events(), batch.closes());
            let points = batch.points();
            fault::point(points.append);
            let mut durability = Durability::Synced;
            if fault::bug("ack-before-sync") {
                durability = Durability::Lazy;
                batch.answers.drain(..).for_each(|answer| answer(Ok(())));
            }
            if fault::bug("publish-before-commit") {
                self.publish_events(events.clone());
            }
            let synced = self.append(&mut batch, durability);
            // Records are synced in their order: what was on its way is there first.
            self.settle().await;
            result = match synced {
                Some(synced) => synced.await,
                None => Ok(()),
            };
            match &result {
                Ok(()) => {
                    fault::point(points.synced);
                    self.publish_events(events);
                    if closes {
                        self.publish(|| Live::Closed);
                    }
                }
                Err(error) => self.store_failed(error).await,
            }
        }
        let ok = result.is_ok();
        let result = result.map_err(refusal);
        let anybody = !batch.answers.is_empty();
        for answer in batch.answers {
            answer(result.clone());
        }
        if anybody {
            fault::point("acknowledged");
        }
        ok
    }

    /// Hands the batch over without waiting for its sync; whether that was possible.
    pub(super) fn commit_later(&mut self, mut batch: Batch, durability: Durability) -> bool {
        let (events, points) = (batch.events(), batch.points());
        fault::point(points.append);
        let Some(synced) = self.append(&mut batch, durability) else {
            return false;
        };
        self.in_flight.push_back(InFlight {
            synced,
            events,
            point: points.synced,
        });
        true
    }

    fn append(&mut self, batch: &mut Batch, durability: Durability) -> Option<Synced> {
        let after = self.session.as_ref()?;
        let append = Append {
            id: self.id.clone(),
            records: std::mem::take(&mut batch.records),
            after,
            snapshot: batch.snapshot.take(),
            durability,
        };
        Some(Box::pin(self.shared.store.append(append)))
    }

    /// Waits until nothing is in flight.
    pub(super) async fn settle(&mut self) {
        while !self.in_flight.is_empty() {
            let result = synced(&mut self.in_flight).await;
            self.synced(result).await;
        }
    }

    /// The oldest of what was in flight has been synced, or has failed.
    pub(super) async fn synced(&mut self, result: Result<(), StoreError>) {
        let Some(first) = self.in_flight.pop_front() else {
            return;
        };
        match result {
            Ok(()) => {
                fault::point(first.point);
                self.publish_events(first.events);
            }
            Err(error) => self.store_failed(&error).await,
        }
    }

    fn publish_events(&self, events: Arc<[Event]>) {
        if !events.is_empty() {
            self.publish(|| Live::Events(events));
            fault::point("published");
        }
    }

    /// What was decided last has not happened: the turn that runs on it is cut, the session is
    /// as the store has it, and no turn begins for a moment.
    async fn store_failed(&mut self, error: &StoreError) {
        tracing::error!(session = %self.id, %error, "the store took no write; nothing is acknowledged");
        metrics::counter!("abide_store_write_failures_total").increment(1);
        if let Some(mut running) = self.running.take() {
            running.abort().await;
        }
        // All that stands behind what failed fails with it.
        self.in_flight.clear();
        self.paused_until = Some(Instant::now() + STORE_PAUSE);
        // Read again at the next wake, before anything is decided.
        self.unread = Some(refusal(error.clone()));
    }
}
