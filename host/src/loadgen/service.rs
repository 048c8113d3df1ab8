//! What is driven: how a turn is asked for, and what its answer says.

/// A turn that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct TurnRequest<'a> {
    /// Which session, from 0.
    pub session: usize,
    /// Which message of that session, from 1. The same whenever the message is sent again: with
    /// the session's name it makes an idempotency key.
    pub message: u64,
    /// What is said: ASCII letters, digits and spaces, which no JSON needs to escape.
    pub text: &'a str,
}

/// What an answer of success says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The turn has ended well: its number in the session, from 1.
    Done(u64),
    /// The turn has ended and failed: its number, and why.
    Failed(u64, String),
    /// The message is durable. Its turn was not asked for.
    Accepted,
    /// The message is durable. Its turn was asked for, and the answer came before its end: where
    /// the service has keys, it is asked again.
    Pending,
}

/// Why an answer of success is none: it says what cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong(pub String);

/// A server of sessions.
pub trait Service: Send + Sync + 'static {
    /// Writes the request for a turn behind what `to` holds: one whole HTTP/1.1 request, as
    /// [`write_post`](super::write_post) does.
    fn request(&self, turn: &TurnRequest<'_>, to: &mut Vec<u8>);

    /// Reads the body of an answer with that status, which is one of success (200 to 299).
    fn read(&self, turn: &TurnRequest<'_>, status: u16, body: &[u8]) -> Result<Reply, Wrong>;

    /// Whether requests carry a key, so that the same one sent twice is done once. Without keys,
    /// a message whose answer was lost is not sent again: nobody knows whether it was taken.
    fn is_keyed(&self) -> bool {
        false
    }
}
