//! Subscriptions to a session's events. A subscriber is a cursor, not an entry in a list that a
//! restart could lose: a stream reads the stored events after its cursor, and the hub only delivers
//! what is new.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{broadcast, watch};

use crate::domain::{
    Delta, Discarded, Event, Generation, MessageId, Refusal, SessionId, TurnFailure,
};
use crate::store::{Store, StoreError};

use super::queries::refusal;

/// How many items a slow subscriber may lag behind before it reads from the store instead.
const HUB_CAPACITY: usize = 256;
/// How much is read from the store at once, in events and in bytes. A subscriber that does not read holds
/// that in memory, and one record more.
const PAGE: usize = 256;
const PAGE_BYTES: usize = 32 << 10;
/// The most bytes of texts that an item carries to subscribers; they read what is larger from the store.
/// The hub holds its last items for as long as one subscriber has not taken them, so while there are such,
/// an item carries less.
const LIVE_BYTES: usize = 64 << 10;
const LIVE_BYTES_BEHIND: usize = 1 << 10;

/// An item that a driver publishes to its session's subscribers.
#[derive(Clone, Debug)]
pub(super) enum Live {
    /// Synced events, in order.
    Events(Arc<[Event]>),
    /// Synced events up to this cursor, which are too large to be carried.
    Stored(u64),
    Delta(Arc<Delta>),
    /// Messages that became dead letters without a turn.
    Discarded(Arc<[Discarded]>),
    /// The session was closed.
    Closed,
}

impl Live {
    /// Returns the item for synced events, of which `most` bytes are carried.
    fn of(events: Arc<[Event]>, most: usize) -> Self {
        let bytes: usize = events.iter().map(Event::text_bytes).sum();
        match events.last() {
            Some(last) if bytes > most => Self::Stored(last.cursor),
            _ => Self::Events(events),
        }
    }
}

pub(super) struct Hub {
    news: broadcast::Sender<Live>,
}

/// The hubs of all sessions that have subscribers.
#[derive(Default)]
pub(super) struct Hubs(Mutex<HashMap<SessionId, Weak<Hub>>>);

impl Hubs {
    /// Publishes an item to the session's subscribers; builds it only if there are any.
    pub(super) fn publish(&self, id: &SessionId, news: impl FnOnce() -> Live) {
        if let Some(hub) = self.find(id) {
            // An error means that the last subscriber has just left.
            let _ = hub.news.send(news());
        }
    }

    /// Publishes synced events. Those with which a session is closed are carried whole: the store has no
    /// events of a closed session.
    pub(super) fn publish_events(&self, id: &SessionId, events: Arc<[Event]>, closes: bool) {
        if let Some(hub) = self.find(id) {
            let most = match (closes, hub.news.is_empty()) {
                (true, _) => usize::MAX,
                (false, true) => LIVE_BYTES,
                (false, false) => LIVE_BYTES_BEHIND,
            };
            // An error means that the last subscriber has just left.
            let _ = hub.news.send(Live::of(events, most));
        }
    }

    fn find(&self, id: &SessionId) -> Option<Arc<Hub>> {
        self.lock().get(id)?.upgrade()
    }

    fn join(&self, id: &SessionId) -> Arc<Hub> {
        let mut hubs = self.lock();
        if let Some(hub) = hubs.get(id).and_then(Weak::upgrade) {
            return hub;
        }
        if hubs.len() == hubs.capacity() {
            hubs.retain(|_, hub| hub.strong_count() > 0);
        }
        let hub = Arc::new(Hub {
            news: broadcast::Sender::new(HUB_CAPACITY),
        });
        hubs.insert(id.clone(), Arc::downgrade(&hub));
        hub
    }

    /// Returns the number of streams that currently follow a session.
    pub(super) fn listeners(&self, id: &SessionId) -> u64 {
        self.find(id)
            .map_or(0, |hub| hub.news.receiver_count() as u64)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Weak<Hub>>> {
        // Poisoning is harmless: a panic cannot leave a map of weak pointers half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An item of a session's stream.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamItem {
    /// A durable event.
    Event(Event),
    /// A piece of a model's answer that is still being generated.
    Delta(Arc<Delta>),
    /// Messages that became dead letters without a turn. Empty after the subscriber lagged: there
    /// may have been some, and the store has them.
    Discarded(Arc<[Discarded]>),
    /// The worker shuts down: follow its successor from the last cursor. This is the last item.
    Restart {
        /// The successor's generation.
        generation: Generation,
    },
}

/// A stream of a session's events after a cursor, each exactly once: first stored events, then live
/// ones.
pub struct Subscription {
    id: SessionId,
    cursor: u64,
    ready: std::collections::VecDeque<Event>,
    caught_up: bool,
    ended: bool,
    news: broadcast::Receiver<Live>,
    handover: watch::Receiver<Option<Generation>>,
    store: Store,
    _hub: Arc<Hub>,
}

impl Subscription {
    pub(super) fn new(
        id: SessionId,
        cursor: u64,
        hubs: &Hubs,
        handover: watch::Receiver<Option<Generation>>,
        store: Store,
    ) -> Self {
        let hub = hubs.join(&id);
        // Subscribed before the store is read, so that no event falls between the two.
        let news = hub.news.subscribe();
        let ready = std::collections::VecDeque::new();
        Self {
            id,
            cursor,
            ready,
            caught_up: false,
            ended: false,
            news,
            handover,
            store,
            _hub: hub,
        }
    }

    /// Returns the next item; `None` when the session was closed, after an error or after
    /// [`StreamItem::Restart`]. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<StreamItem, Refusal>> {
        loop {
            if self.ended {
                return None;
            }
            if let Some(event) = self.ready.pop_front() {
                self.cursor = event.cursor;
                return Some(Ok(StreamItem::Event(event)));
            }
            if !self.caught_up {
                match self.read() {
                    Ok(()) => continue,
                    Err(error) => {
                        self.ended = true;
                        return Some(Err(refusal(error)));
                    }
                }
            }
            let handover = *self.handover.borrow_and_update();
            if let Some(generation) = handover {
                self.ended = true;
                return Some(Ok(StreamItem::Restart { generation }));
            }
            tokio::select! {
                news = self.news.recv() => match news {
                    Ok(Live::Events(events)) => self.take(&events),
                    Ok(Live::Stored(last)) => self.caught_up = last <= self.cursor,
                    Ok(Live::Delta(delta)) => return Some(Ok(StreamItem::Delta(delta))),
                    Ok(Live::Discarded(letters)) => {
                        return Some(Ok(StreamItem::Discarded(letters)));
                    }
                    Ok(Live::Closed) => self.ended = true,
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        self.caught_up = false;
                        return Some(Ok(StreamItem::Discarded(Arc::default())));
                    }
                    Err(broadcast::error::RecvError::Closed) => self.ended = true,
                },
                changed = self.handover.changed() => self.ended |= changed.is_err(),
            }
        }
    }

    /// Returns why the message became a dead letter without a turn, if it did: no event reports
    /// that.
    pub(super) fn discarded(&self, message: &MessageId) -> Result<Option<TurnFailure>, Refusal> {
        let letter = self.store.dead_letter(&self.id, message);
        let letter = letter.map_err(refusal)?;
        let letter = letter.filter(|letter| letter.turn.is_none());
        Ok(letter.map(|letter| letter.reason))
    }

    /// Returns the cursor of the last event that was returned.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    fn read(&mut self) -> Result<(), StoreError> {
        let page = self
            .store
            .events_within(&self.id, self.cursor, PAGE, PAGE_BYTES)?;
        let reached = page.items.last().map_or(self.cursor, |e| e.cursor);
        self.caught_up = reached >= page.last;
        // No events although the log claims more: the session was closed, which deletes its events.
        self.ended |= page.items.is_empty() && !self.caught_up;
        self.ready.extend(page.items);
        Ok(())
    }

    /// Queues live events, skipping those that were already read from the store. After a gap the
    /// store is read again.
    fn take(&mut self, events: &[Event]) {
        match events
            .iter()
            .position(|event| event.cursor == self.cursor + 1)
        {
            Some(first) => self.ready.extend(events[first..].iter().cloned()),
            None if events.last().is_some_and(|last| last.cursor > self.cursor) => {
                self.caught_up = false;
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{EventBody, Role, UnixMillis};

    fn said(cursor: u64, bytes: usize) -> Arc<[Event]> {
        let body = EventBody::Message {
            message: MessageId::on(None, cursor),
            from: Role::Assistant,
            name: None,
            text: "x".repeat(bytes),
            due: None,
            sender: None,
        };
        Arc::new([Event {
            cursor,
            timeline: None,
            turn: Some(1),
            at: UnixMillis(0),
            body,
        }])
    }

    #[test]
    fn a_subscriber_that_does_not_read_makes_the_hub_hold_little() {
        let (hubs, id) = (Hubs::default(), SessionId::new("s").unwrap());
        let hub = hubs.join(&id);
        let mut news = hub.news.subscribe();
        let publish = |events, closes| hubs.publish_events(&id, events, closes);
        publish(said(1, LIVE_BYTES), false);
        // From here on one item waits to be taken.
        publish(said(2, LIVE_BYTES_BEHIND), false);
        publish(said(3, LIVE_BYTES_BEHIND + 1), false);
        publish(said(4, 10 * LIVE_BYTES), true);
        let mut carried = || match news.try_recv().unwrap() {
            Live::Events(events) => Ok(events[0].cursor),
            Live::Stored(last) => Err(last),
            other => panic!("{other:?}"),
        };
        assert_eq!([carried(), carried()], [Ok(1), Ok(2)]);
        assert_eq!(carried(), Err(3));
        // The store has no events of a session that is closed.
        assert_eq!(carried(), Ok(4));
        hubs.publish_events(&id, said(5, LIVE_BYTES + 1), false);
        assert!(matches!(news.try_recv(), Ok(Live::Stored(5))));
    }
}
