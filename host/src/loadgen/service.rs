//! The server under load: how a turn is requested, and what its answer means.

/// A requested turn.
#[derive(Clone, Copy, Debug)]
pub struct TurnRequest<'a> {
    /// The session, from 0.
    pub session: usize,
    /// The message within the session, from 1. It is the same whenever the message is retried: with
    /// the session's name it makes an idempotency key.
    pub message: u64,
    /// The text: ASCII letters, digits and spaces, which JSON does not need to escape.
    pub text: &'a str,
}

/// A successful answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The turn completed: its number in the session, from 1.
    Done(u64),
    /// The turn failed: its number, and the reason.
    Failed(u64, String),
    /// The message is durable. Its turn was not waited for.
    Accepted,
    /// The message is durable. Its turn was waited for, but the answer came before its end: if the
    /// service has keys, it is requested again.
    Pending,
}

/// Why an answer with a status of success is wrong: it contradicts itself or what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong(pub String);

/// A server of sessions.
pub trait Service: Send + Sync + 'static {
    /// Appends the request for a turn to `to`: one whole HTTP/1.1 request, as written by
    /// [`write_post`](super::write_post).
    fn request(&self, turn: &TurnRequest<'_>, to: &mut Vec<u8>);

    /// Parses the body of an answer with a status of success (200 to 299).
    fn read(&self, turn: &TurnRequest<'_>, status: u16, body: &[u8]) -> Result<Reply, Wrong>;

    /// Returns whether requests carry an idempotency key, so that a retried request takes effect
    /// once. Without keys, a message whose answer was lost is not retried: it is unknown whether it
    /// was accepted.
    fn is_keyed(&self) -> bool {
        false
    }
}
