//! The chat, recording when each turn was requested and answered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use abide::loadgen::{Reply, Service, TurnRequest, Wrong};

use crate::chat::ChatTarget;

/// A time interval, as durations since the epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Span {
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

/// A chat service that records times.
pub(crate) struct Timed {
    chat: Arc<ChatTarget>,
    times: Mutex<Times>,
}

#[derive(Default)]
struct Times {
    /// The time of the pending request, by session.
    asked: HashMap<usize, Duration>,
    /// The answered turns, in the order of their responses.
    turns: Vec<Span>,
}

impl Timed {
    pub(crate) fn new(chat: Arc<ChatTarget>) -> Arc<Self> {
        Arc::new(Self {
            chat,
            times: Mutex::default(),
        })
    }

    /// Returns when each answered turn was requested and answered.
    pub(crate) fn turns(&self) -> Vec<Span> {
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.turns.clone()
    }
}

impl Service for Timed {
    fn request(&self, turn: &TurnRequest<'_>, to: &mut Vec<u8>) {
        self.chat.request(turn, to);
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.asked.insert(turn.session, now());
    }

    fn read(&self, turn: &TurnRequest<'_>, status: u16, body: &[u8]) -> Result<Reply, Wrong> {
        let to = now();
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(from) = times.asked.remove(&turn.session) {
            times.turns.push(Span { from, to });
        }
        drop(times);
        self.chat.read(turn, status, body)
    }
}

/// Returns the wall-clock time since the epoch, which is comparable with other programs'
/// timestamps.
pub(crate) fn now() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}
