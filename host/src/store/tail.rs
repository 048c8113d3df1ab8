//! Where a session's log ends: what its owner's next append stands on. The owner keeps it, so that
//! an append reads nothing.

use std::collections::VecDeque;

use crate::domain::{LogPos, Message, MessageId, Session, Timer};

use super::keys;

/// Texts of waiting messages that are kept in memory once they are on the disk, in bytes.
const MESSAGES_MAX_BYTES: usize = 64 << 10;

/// What the owner of a session knows of its log. It comes from [`super::Store::load_to_append`],
/// and every [`super::Store::append`] moves it on.
#[derive(Debug, Default)]
pub struct Tail {
    /// None: the session does not exist yet.
    pub(super) stands: Option<Stands>,
    /// Messages that were appended here and wait or whose turn is open, oldest first. Those that
    /// are not on the disk yet can be read nowhere else.
    messages: VecDeque<(LogPos, Message)>,
    messages_bytes: usize,
}

/// What the last append left behind.
#[derive(Debug)]
pub(super) struct Stands {
    /// The first record that has not been trimmed.
    pub oldest: LogPos,
    /// Where the present snapshot stands, and the one before it.
    pub snapshots: [Option<LogPos>; 2],
    /// The session's moments: the timers that are set, and when an approval expires.
    pub timers: Vec<Timer>,
    /// The open turn's message.
    pub open: Option<(MessageId, LogPos)>,
    /// Whether anything is to be done.
    pub works: bool,
    /// Whether its turn waits for a human.
    pub parked: bool,
    /// The span of time of the last commit.
    pub span: Option<u64>,
}

impl Stands {
    pub(super) fn after(session: &Session, oldest: LogPos) -> Self {
        let progress = &session.progress;
        Self {
            oldest,
            snapshots: [
                Some(progress.snapshot.at),
                progress.previous.map(|previous| previous.at),
            ],
            timers: moments(session),
            open: progress
                .open
                .as_ref()
                .map(|open| (open.queued.id.clone(), open.queued.pos)),
            works: works(session),
            parked: progress.is_parked(),
            span: progress.last_commit.map(keys::span),
        }
    }
}

/// No guest's timer is named so: what wakes a session when an approval expires.
const EXPIRY: &str = "\u{1}";

/// When a session is to be woken: its timers, and the first of its approvals that expires.
pub(super) fn moments(session: &Session) -> Vec<Timer> {
    let mut moments = session.progress.timers.clone();
    let expires = session.progress.waiting().map(|asked| asked.expires_at);
    moments.extend(expires.min().map(|due| Timer {
        name: EXPIRY.to_owned(),
        due,
        text: String::new(),
    }));
    moments
}

/// Whether a session has an open turn or queued messages.
pub(super) fn works(session: &Session) -> bool {
    let progress = &session.progress;
    progress.closed.is_none() && (progress.open.is_some() || !session.queue.is_empty())
}

impl Tail {
    pub(super) fn of(session: &Session, oldest: LogPos) -> Self {
        Self {
            stands: Some(Stands::after(session, oldest)),
            ..Self::default()
        }
    }

    /// The message that the record at `at` brought, if it is in memory; else it is on the disk.
    pub fn message(&self, at: LogPos) -> Option<&Message> {
        let found = self.messages.iter().rfind(|(pos, _)| *pos == at);
        found.map(|(_, message)| message)
    }

    /// The size of the texts of messages that are in memory.
    pub fn messages_bytes(&self) -> usize {
        self.messages_bytes
    }

    /// All that was appended is on the disk: what would take too much memory is read from there.
    pub fn settled(&mut self) {
        while self.messages_bytes > MESSAGES_MAX_BYTES && self.forget_first() {}
    }

    pub(super) fn message_of(&self, id: &MessageId) -> Option<&Message> {
        let found = self.messages.iter().rfind(|(_, message)| message.id == *id);
        found.map(|(_, message)| message)
    }

    pub(super) fn add(&mut self, at: LogPos, message: Message) {
        self.messages_bytes += message.text.len();
        self.messages.push_back((at, message));
    }

    /// Moves on to where an append has left the session.
    pub(super) fn moved(&mut self, session: &Session, oldest: LogPos) {
        self.stands = Some(Stands::after(session, oldest));
        let open = session.progress.open.as_ref().map(|open| open.queued.pos);
        let waits = session.queue.front().map(|queued| queued.pos);
        // A queue's messages stand in the order in which they came.
        let first = open.into_iter().chain(waits).min();
        let needed = |at: LogPos| first.is_some_and(|first| at >= first);
        while self.messages.front().is_some_and(|(at, _)| !needed(*at)) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) -> bool {
        let Some((_, message)) = self.messages.pop_front() else {
            return false;
        };
        self.messages_bytes -= message.text.len();
        true
    }
}
