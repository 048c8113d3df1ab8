//! How much is sent, to where, and for how long.

use std::time::Duration;

/// How much is sent, to where, and for how long.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where the server listens: `host:port`.
    pub address: String,
    /// How many sessions are used, each in turn.
    pub sessions: usize,
    /// Connections, each with one request out at a time. At most as many as sessions are used.
    pub connections: usize,
    /// How long turns are begun, after the warm-up.
    pub duration: Duration,
    /// How long turns are sent before they count. They are checked all the same.
    pub warm_up: Duration,
    /// The most turns of one session, warm-up included; none for as many as the time allows.
    pub turns: Option<u64>,
    /// How long a message is.
    pub text_bytes: usize,
    /// How long an answer may take before its connection is given up, and it is asked for again
    /// over another.
    pub patience: Duration,
    /// How long a turn is tried for before it is left unanswered.
    pub give_up: Duration,
}

impl Load {
    /// A thousand sessions over 64 connections for ten seconds.
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
