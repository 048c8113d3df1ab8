//! Who listens to a session. Subscribers are cursors, not a list that a restart could lose: a
//! stream reads what is stored from its cursor on, and the hub only says when there is more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{broadcast, watch};

use crate::domain::{
    Delta, Discarded, Event, Generation, MessageId, Refusal, SessionId, TurnFailure,
};
use crate::store::{Store, StoreError};

use super::queries::refusal;

/// News that a slow subscriber may be behind before it reads from the store instead.
const HUB_CAPACITY: usize = 256;
/// Events read from the store at once.
const PAGE: usize = 256;

#[derive(Clone, Debug)]
pub(super) enum Live {
    /// Synced events, in order.
    Events(Arc<[Event]>),
    Delta(Arc<Delta>),
    /// Messages that became dead letters without a turn.
    Discarded(Arc<[Discarded]>),
    /// The session is closed.
    Closed,
}

pub(super) struct Hub {
    news: broadcast::Sender<Live>,
}

/// The hubs of all sessions that somebody listens to.
#[derive(Default)]
pub(super) struct Hubs(Mutex<HashMap<SessionId, Weak<Hub>>>);

impl Hubs {
    /// Tells the listeners, if there are any.
    pub(super) fn publish(&self, id: &SessionId, news: impl FnOnce() -> Live) {
        if let Some(hub) = self.find(id) {
            // An error means that the last listener has just left.
            let _ = hub.news.send(news());
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

    /// Streams that follow a session now.
    pub(super) fn listeners(&self, id: &SessionId) -> u64 {
        self.find(id)
            .map_or(0, |hub| hub.news.receiver_count() as u64)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Weak<Hub>>> {
        // A panic elsewhere cannot leave a map of weak pointers half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One item of a session's stream.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamItem {
    /// A durable event.
    Event(Event),
    /// A piece of an answer that is being written.
    Delta(Arc<Delta>),
    /// Messages that became dead letters without a turn. Empty where news was missed: there may be
    /// some, and the store knows.
    Discarded(Arc<[Discarded]>),
    /// The worker leaves: follow from the last cursor with its successor. The last item.
    Restart {
        /// The successor's generation.
        generation: Generation,
    },
}

/// A stream of a session's events from a cursor on, each exactly once, then live.
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
        // Joined before the store is read, so nothing falls between the two.
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

    /// The next item; none when the session was closed, or after [`StreamItem::Restart`].
    /// Dropping the future loses nothing.
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

    /// Why the message became a dead letter without a turn, if it did: no event tells of that.
    pub(super) fn discarded(&self, message: &MessageId) -> Result<Option<TurnFailure>, Refusal> {
        let letter = self.store.dead_letter(&self.id, message);
        let letter = letter.map_err(refusal)?;
        let letter = letter.filter(|letter| letter.turn.is_none());
        Ok(letter.map(|letter| letter.reason))
    }

    /// The last cursor that was given out.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    fn read(&mut self) -> Result<(), StoreError> {
        let page = self.store.events(&self.id, self.cursor, PAGE)?;
        let reached = page.items.last().map_or(self.cursor, |e| e.cursor);
        self.caught_up = reached >= page.last;
        // A closed session's events are gone, however many it had: nothing more will come.
        self.ended |= page.items.is_empty() && !self.caught_up;
        self.ready.extend(page.items);
        Ok(())
    }

    /// Live events, of which the first may have been read from the store already.
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
