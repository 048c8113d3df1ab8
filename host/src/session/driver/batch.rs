//! Batches of records that are decided but not yet on disk, with the replies that wait for the
//! sync.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::domain::{
    Digest, Discarded, Event, LogPos, Message, MessageId, Point, PointAct, Received, Record,
    Refusal, TimelineName,
};
use crate::failpoint;
use crate::session::mailbox::ReplyTo;
use crate::store::{NewSnapshot, StoreError, StoredRecords};

/// A callback that sends a reply once it is known whether the batch was synced.
pub(super) type OnSynced = Box<dyn FnOnce(Result<(), Refusal>) + Send + Sync>;

/// A batch of records that the session in memory contains but the disk does not yet, and the
/// replies that wait for it.
#[derive(Default)]
pub(super) struct CommitBatch {
    pub(super) records: Vec<(LogPos, Record)>,
    pub(super) snapshot: Option<NewSnapshot>,
    /// An act on the session, before which its state is kept.
    pub(super) act: Option<PointAct>,
    /// For a session that is a copy: its history.
    pub(super) history: StoredRecords,
    pub(super) answers: Vec<OnSynced>,
    /// Whether a reply waits for nothing but this batch's sync, so that the batch must not be held.
    pub(super) hurried: bool,
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

    /// Notes an act on the session, before which its state is kept. Of several, the first one counts.
    pub(super) fn acted(&mut self, act: PointAct) {
        self.act.get_or_insert(act);
    }

    pub(super) fn snapshot(&mut self, point: Point, bytes: Vec<u8>) {
        self.snapshot = Some(NewSnapshot { point, bytes });
    }

    /// Returns whether the batch may be synced a little later without delaying anybody.
    pub(super) fn can_be_held(&self) -> bool {
        !self.hurried && self.snapshot.is_none()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.answers.is_empty()
    }

    /// Appends a batch that was decided later.
    pub(super) fn add(&mut self, later: CommitBatch) {
        if self.is_empty() {
            *self = later;
            return;
        }
        self.records.extend(later.records);
        self.answers.extend(later.answers);
        self.snapshot = later.snapshot.or(self.snapshot.take());
        self.act = self.act.or(later.act);
        // Only what creates a session has one.
        self.history.extend(later.history);
        self.hurried |= later.hurried;
    }

    pub(super) fn resolve(self, synced: Result<(), Refusal>) {
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
                ..
            }) if known.key == key => Some((message.id.clone(), known.body)),
            _ => None,
        })
    }

    pub(super) fn keys(&self) -> Vec<AcceptedKey> {
        let keys = self.records.iter().filter_map(|(_, record)| match record {
            Record::Received(Received {
                message,
                key: Some(key),
                ..
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
    pub(super) fn points(&self) -> Points {
        let (append, synced) = match self.records.last() {
            Some((_, Record::Received(_))) => ("inbox.append", "inbox.synced"),
            Some((_, Record::Begun(_))) => ("begun.append", "begun.synced"),
            Some((_, Record::Planned(_))) => ("planned.append", "planned.synced"),
            Some((_, Record::Done(_))) => ("done.append", "done.synced"),
            Some((_, Record::Ended(_))) => ("ended.append", "ended.synced"),
            Some((_, Record::Moved(_))) => ("moved.append", "moved.synced"),
            _ => ("other.append", "other.synced"),
        };
        Points { append, synced }
    }

    pub(super) fn closes(&self) -> bool {
        self.records
            .iter()
            .any(|(_, record)| matches!(record, Record::Closed(_)))
    }

    /// Returns the messages that become dead letters without a turn. None if the batch closes the
    /// session, which subscribers are notified of instead.
    pub(super) fn discarded(&self) -> Arc<[Discarded]> {
        if self.closes() {
            return Arc::default();
        }
        let letters = self.records.iter().filter_map(|(_, record)| match record {
            Record::Discarded(discarded) => Some(discarded.clone()),
            _ => None,
        });
        letters.collect()
    }

    /// Returns the events of the batch, all of which are on the session's present timeline.
    pub(super) fn events(&self, timeline: Option<&TimelineName>) -> Arc<[Event]> {
        self.records
            .iter()
            .flat_map(|(at, record)| record.events(at.cursor, timeline))
            .collect()
    }
}

/// The names of the failpoints around a batch's sync.
#[derive(Clone, Copy)]
pub(super) struct Points {
    pub(super) append: &'static str,
    pub(super) synced: &'static str,
}

pub(super) type Synced = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + Sync>>;

/// A batch that is being written while the driver does other work, with the events to publish and
/// the replies to send once it is synced.
pub(super) struct CommitInFlight {
    pub(super) synced: Synced,
    pub(super) events: Arc<[Event]>,
    /// The rest of the batch; its records have been handed to the store.
    pub(super) batch: CommitBatch,
    /// The idempotency keys of the batch.
    pub(super) keys: Vec<AcceptedKey>,
    /// The failpoint to pass once the batch is synced.
    pub(super) point: &'static str,
}

/// A message that a batch accepts under an idempotency key.
pub(super) struct AcceptedKey {
    pub(super) key: String,
    pub(super) message: MessageId,
    pub(super) body: Digest,
}

/// Waits for the sync of the oldest batch in flight; pending forever if there is none. Cancel safe.
pub(super) async fn synced(in_flight: &mut VecDeque<CommitInFlight>) -> Result<(), StoreError> {
    match in_flight.front_mut() {
        Some(first) => first.synced.as_mut().await,
        None => std::future::pending().await,
    }
}
