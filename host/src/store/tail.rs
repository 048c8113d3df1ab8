//! The end of a session's log, which the next append builds on. The session's owner keeps it in
//! memory, so that an append need not read it from the database.

use std::collections::VecDeque;

use crate::domain::{Digest, LogPos, Message, MessageId, Point, Session, Timer};

use super::keys;

/// The maximum size, in bytes, of message texts that stay in memory once they are on disk.
const MESSAGES_MAX_BYTES: usize = 64 << 10;

/// The approximate memory of a restore point beside its timers, in bytes.
const POINT_BYTES: u64 = 512;

/// The state at the end of a session's log, as its owner keeps it. It is returned by
/// [`super::Store::load_to_append`] and updated by every [`super::Store::append`].
#[derive(Debug, Default)]
pub struct Tail {
    /// None if the session does not exist yet.
    pub(super) stands: Option<Stands>,
    /// Messages appended through this tail that are queued or belong to the open turn, oldest
    /// first. Those that are not on disk yet can be read nowhere else.
    messages: VecDeque<(LogPos, Message)>,
    messages_bytes: usize,
    /// The session's restore points, oldest first; none until they are needed.
    pub(super) points: Option<Vec<Point>>,
    /// See [`Tail::points_bytes`].
    points_bytes: u64,
}

/// The parts of a session's state, after its last append, that the next append compares with.
#[derive(Debug)]
pub(super) struct Stands {
    /// The first record that has not been trimmed.
    pub oldest: LogPos,
    /// The positions of the present snapshot and of the previous one.
    pub snapshots: [Option<LogPos>; 2],
    /// The timers of the session, including the one for the expiry of an approval.
    pub timers: Vec<Timer>,
    /// The message of the open turn, and its position.
    pub open: Option<(MessageId, LogPos)>,
    /// Whether the session has an open turn or queued messages.
    pub works: bool,
    /// Whether it waits for a human.
    pub parked: bool,
    /// The span of time of the last commit; see [`keys::span`].
    pub span: Option<u64>,
    /// See [`Kept`](super::kept::Kept).
    pub components: Vec<Digest>,
}

impl Stands {
    pub(super) fn after(session: &Session, oldest: LogPos, components: Vec<Digest>) -> Self {
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
            components,
        }
    }
}

/// The name of the timer that wakes a session when an approval expires. No guest can use it.
pub const EXPIRY_TIMER: &str = "\u{1}";

/// Returns when a session must be woken: its timers, and the earliest expiry of its approvals.
pub(super) fn moments(session: &Session) -> Vec<Timer> {
    let mut moments = session.progress.timers.clone();
    let expires = session.progress.waiting().map(|asked| asked.expires_at);
    moments.extend(expires.min().map(|due| Timer {
        name: EXPIRY_TIMER.to_owned(),
        due,
        text: String::new(),
    }));
    moments
}

/// Returns the timers that the guest has set, of those of [`moments`].
pub(super) fn guests_timers(moments: &[Timer]) -> Vec<Timer> {
    let set = moments.iter().filter(|timer| timer.name != EXPIRY_TIMER);
    set.cloned().collect()
}

/// Returns whether a session has an open turn or queued messages.
pub(super) fn works(session: &Session) -> bool {
    let progress = &session.progress;
    progress.closed.is_none() && (progress.open.is_some() || !session.queue.is_empty())
}

impl Tail {
    pub(super) fn of(session: &Session, oldest: LogPos, components: Vec<Digest>) -> Self {
        Self {
            stands: Some(Stands::after(session, oldest, components)),
            ..Self::default()
        }
    }

    /// Returns the position of the first record that counts.
    pub(super) fn oldest(&self) -> LogPos {
        self.stands
            .as_ref()
            .map(|stands| stands.oldest)
            .unwrap_or_default()
    }

    /// Gives up all records before `first`, if there is one: they are as good as trimmed.
    pub(super) fn give_up_before(&mut self, first: Option<LogPos>) {
        if let (Some(stands), Some(first)) = (&mut self.stands, first) {
            stands.oldest = stands.oldest.max(first);
        }
    }

    /// Returns the message of the record at `at` if it is in memory; otherwise it is on disk.
    pub fn message(&self, at: LogPos) -> Option<&Message> {
        let found = self.messages.iter().rfind(|(pos, _)| *pos == at);
        found.map(|(_, message)| message)
    }

    /// Returns the total size of the message texts in memory, in bytes.
    pub fn messages_bytes(&self) -> usize {
        self.messages_bytes
    }

    /// Returns the approximate size of the restore points in memory, in bytes.
    pub fn points_bytes(&self) -> u64 {
        self.points_bytes
    }

    pub(super) fn hold_points(&mut self, points: Vec<Point>) {
        let beside = points.iter().map(|it| POINT_BYTES + it.weight() - it.bytes);
        self.points_bytes = beside.sum();
        self.points = Some(points);
    }

    /// Called when everything appended is on disk: drops the oldest messages over the memory limit,
    /// since they can be read from disk.
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

    /// Updates the tail to the session's state after an append.
    pub(super) fn moved(&mut self, session: &Session, oldest: LogPos, components: Vec<Digest>) {
        self.stands = Some(Stands::after(session, oldest, components));
        let open = session.progress.open.as_ref().map(|open| open.queued.pos);
        let waits = session.queue.front().map(|queued| queued.pos);
        // The queue is in order of arrival, so its front is the oldest message that is needed.
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
