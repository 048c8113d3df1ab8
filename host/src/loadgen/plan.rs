//! The parameters of a load: how much is sent, to where, and for how long.

use std::time::Duration;

/// The parameters of a load: how much is sent, to where, and for how long.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where the server listens: `host:port`.
    pub address: String,
    /// The number of sessions, which are used in turn.
    pub sessions: usize,
    /// The number of connections, each with one request in flight at a time. At most as many as
    /// sessions are used.
    pub connections: usize,
    /// How long new turns are begun, after the warm-up.
    pub duration: Duration,
    /// How long turns are sent before they count. They are checked all the same.
    pub warm_up: Duration,
    /// The maximum number of turns of one session, warm-up included; `None` for as many as the time
    /// allows.
    pub turns: Option<u64>,
    /// The length of a message.
    pub text_bytes: usize,
    /// The timeout of a request. Then its connection is closed, and the request is retried over
    /// another one.
    pub patience: Duration,
    /// How long a turn is retried before it counts as unanswered.
    pub give_up: Duration,
}

impl Load {
    /// Creates a load of a thousand sessions over 64 connections for ten seconds.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            sessions: 1000,
            connections: 64,
            duration: Duration::from_secs(10),
            warm_up: Duration::ZERO,
            turns: None,
            text_bytes: 200,
            patience: Duration::from_secs(30),
            give_up: Duration::from_secs(60),
        }
    }
}
