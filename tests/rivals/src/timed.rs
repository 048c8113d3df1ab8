//! The chat, with a note of when each turn was asked for and answered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use abide::loadgen::{Reply, Service, TurnRequest, Wrong};

use crate::chat::Chat;

/// A stretch of time, since the epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Span {
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

/// A service of the chat that keeps times.
pub(crate) struct Timed {
    chat: Arc<Chat>,
    times: Mutex<Times>,
}

#[derive(Default)]
struct Times {
    /// By session.
    asked: HashMap<usize, Duration>,
    /// In the order of their answers.
    turns: Vec<Span>,
}

impl Timed {
    pub(crate) fn new(chat: Arc<Chat>) -> Arc<Self> {
        Arc::new(Self {
            chat,
            times: Mutex::default(),
        })
    }

    /// When turns that were answered were first asked for, and answered.
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

/// The time since the epoch, as other programs tell it too.
pub(crate) fn now() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}
