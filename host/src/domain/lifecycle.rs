//! Decides what a session may do next. This code is pure; the driver acts on its results.
//!
//! ```text
//!              PUT (guest opens)
//!                    |
//!                    v     message            begin
//!                 [idle] ---------> [queued] --------> [running] <--> [parked]
//!                    ^                 ^  ^               |  |        waits for a human
//!                    |   inbox empty   |  |  more queued  |  |
//!                    +-----------------|--+--- turn ends -+  |  third death of the worker,
//!                                      |       (completed    |  restore refused
//!                                      |        or failed)   v
//!                                      +---- resume ---- [faulted]   accepts and holds messages
//!
//!            DELETE, from any state: abort, dead-letter the inbox  --> [closed], for good
//! ```
//!
//! A turn is parked when it calls a tool that needs an approval: its guest is dropped, and the turn
//! is begun again from its journal once the last approval that it waits for is decided.
//!
//! A cut of its history, when the store is opened, parks a session as well, from any state: the open
//! turn ends, and nothing begins until an operator resumes it (`cut.rs`).
//!
//! A restart is no transition: the worker that loads the session begins an open turn again, or
//! resumes it from its journal.

use super::{
    Begun, Closed, DeadLetter, Digest, Discarded, FailureCode, Fault, FaultCode, Faulted,
    Generation, IdempotencyKey, Limits, Message, MessageId, OpenTurn, PastRestart, Received,
    Record, Refusal, Requeued, Resumed, Role, Session, SessionProgress, Timer, TurnEnd, TurnEnded,
    TurnFailure, UnixMillis,
};

/// The number of workers that a turn may kill before its session is faulted.
pub const DEATHS_MAX: u32 = 3;

/// The state of a session; the first one that applies, in this order.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// It is closed for good.
    Closed,
    /// It cannot run until an operator acts.
    Faulted,
    /// It waits for a human: for a decision about a call, or to be resumed after its history was
    /// cut.
    Parked,
    /// A turn is open.
    Running,
    /// Messages wait for a turn.
    Queued,
    /// It has nothing to do.
    Idle,
}

impl SessionState {
    /// The name of the state in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Faulted => "faulted",
            Self::Parked => "parked",
            Self::Running => "running",
            Self::Queued => "queued",
            Self::Idle => "idle",
        }
    }
}

/// A message that a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMessage {
    pub text: String,
    /// The client's idempotency key, and the digest of the body that came with it.
    pub key: Option<IdempotencyKey>,
    /// The client, if it was authenticated.
    pub sender: Option<String>,
}

/// The inputs of a turn's beginning, besides the session.
#[derive(Clone, Copy, Debug)]
pub struct BeginWith<'a> {
    /// The current time.
    pub now: UnixMillis,
    /// A fresh seed for the guest's randomness.
    pub seed: u64,
    /// The plugin's current component.
    pub component: Digest,
    /// The plugin's current limits.
    pub limits: &'a Limits,
    pub generation: Generation,
    /// The restarts that may be reported to the guest, oldest first.
    pub restarts: &'a [PastRestart],
    /// `notice_window`, in milliseconds.
    pub notice_window_ms: u64,
}

impl SessionProgress {
    /// Returns the state of a session with this progress and `queued` messages waiting.
    pub fn state(&self, queued: u64) -> SessionState {
        if self.closed.is_some() {
            SessionState::Closed
        } else if self.fault.is_some() {
            SessionState::Faulted
        } else if self.is_parked() {
            SessionState::Parked
        } else if self.open.is_some() {
            SessionState::Running
        } else if queued > 0 {
            SessionState::Queued
        } else {
            SessionState::Idle
        }
    }
}

impl Session {
    pub fn state(&self) -> SessionState {
        self.progress.state(self.queue.len() as u64)
    }

    /// Accepts a client's message. Returns its record.
    pub fn receive(
        &self,
        NewMessage { text, key, sender }: NewMessage,
        limits: &Limits,
        at: UnixMillis,
    ) -> Result<Record, Refusal> {
        self.alive()?;
        if text.len() as u64 > limits.message_bytes {
            let (bytes, limit) = (text.len() as u64, limits.message_bytes);
            return Err(Refusal::TooLarge {
                what: "the message",
                key: "message",
                bytes,
                limit,
            });
        }
        if self.queue.len() >= limits.inbox as usize {
            return Err(Refusal::InboxFull {
                limit: limits.inbox,
            });
        }
        let message = Message {
            id: self.next_message_id(),
            from: Role::User,
            name: None,
            text,
            at,
            due: None,
        };
        Ok(Record::Received(Received {
            message,
            key,
            sender,
        }))
    }

    /// Returns the id of a message whose event is the session's next.
    fn next_message_id(&self) -> MessageId {
        MessageId::on(self.progress.timeline.name(), self.cursor() + 1)
    }

    /// Returns the message of a due timer. It is not refused if the inbox is full: an accepted
    /// timer is always delivered.
    pub fn fire_timer(&self, timer: &Timer, at: UnixMillis) -> Option<Record> {
        if self.progress.closed.is_some() || !self.progress.timers.contains(timer) {
            return None;
        }
        let message = Message {
            id: self.next_message_id(),
            from: Role::Timer,
            name: Some(timer.name.clone()),
            text: timer.text.clone(),
            at,
            due: Some(timer.due),
        };
        Some(Record::Received(Received {
            message,
            key: None,
            sender: None,
        }))
    }

    /// Begins the next turn, or the next attempt of the open one; none if there is nothing to do or
    /// the session may not run. A further attempt runs on the component that began the turn. If a
    /// step of the open turn is done, or may be, the turn is resumed from its journal with its
    /// original `Begun`; otherwise it runs anew.
    pub fn begin(&self, with: BeginWith<'_>) -> Option<Begun> {
        let progress = &self.progress;
        if progress.closed.is_some() || progress.fault.is_some() || progress.is_parked() {
            return None;
        }
        let next = progress.component(with.component);
        let fresh = |turn, message, attempt, deaths, component| Begun {
            turn,
            message,
            attempt,
            deaths,
            notice: self.owed_notice(with.generation, with.restarts, with.notice_window_ms),
            now: with.now,
            seed: with.seed,
            component,
            limits: Some(with.limits.seen_by_guest()),
            generation: with.generation,
            resumed_in: None,
        };
        Some(match &self.progress.open {
            None => {
                let message = self.queue.front()?.id.clone();
                fresh(self.progress.last_turn + 1, message, 1, 0, next)
            }
            Some(open) => {
                let begun = &open.begun;
                let component = match open.anew {
                    true => next,
                    false => begun.component,
                };
                let attempt = begun.attempt + 1;
                if open.resumes() {
                    Begun {
                        attempt,
                        component,
                        resumed_in: Some(with.generation),
                        ..begun.clone()
                    }
                } else {
                    let message = begun.message.clone();
                    fresh(begun.turn, message, attempt, begun.deaths, component)
                }
            }
        })
    }

    /// Returns what the death of a worker by its own doing means for a session with an open turn:
    /// the new number of the turn's `deaths`, or the fault if there were too many.
    pub fn worker_died(&self, at: UnixMillis) -> Option<WorkerDeath> {
        let open = self.progress.open.as_ref()?;
        if self.progress.is_parked() {
            // A parked turn was not running.
            return None;
        }
        let deaths = open.begun.deaths + 1;
        if deaths < DEATHS_MAX {
            return Some(WorkerDeath::Counted(deaths));
        }
        Some(WorkerDeath::Faulted(Box::new(Record::Faulted(Faulted {
            fault: Fault {
                code: FaultCode::KillsWorker,
                text: format!(
                    "the daemon's worker died {deaths} times while turn {} was running",
                    open.begun.turn
                ),
                component: Some(open.begun.component),
            },
            at,
        }))))
    }

    /// Returns the record by which the open turn fails.
    pub fn fail(&self, failure: TurnFailure, at: UnixMillis) -> Option<Record> {
        let open = self.progress.open.as_ref()?;
        let OpenTurn { begun, journal, .. } = open;
        Some(Record::Ended(TurnEnded {
            turn: begun.turn,
            message: begun.message.clone(),
            end: TurnEnd::Failed(failure),
            effects: journal.effects,
            usage: open.usage,
            at,
        }))
    }

    /// Returns the records by which the open turn fails from outside, with its approvals; none if no turn is
    /// open.
    pub(super) fn end_open(&self, failure: TurnFailure, at: UnixMillis) -> Vec<Record> {
        let ended = self.fail(failure, at);
        // Before the turn ends: only an open turn's approvals can be decided.
        self.withdraw(at).into_iter().chain(ended).collect()
    }

    /// Returns the record that faults the session; none if it already has this fault or is closed.
    pub fn fault(&self, fault: Fault, at: UnixMillis) -> Option<Record> {
        let news = self.progress.closed.is_none() && self.progress.fault.as_ref() != Some(&fault);
        news.then_some(Record::Faulted(Faulted { fault, at }))
    }

    /// Whether the session has a fault that may be gone now that the plugin's component is
    /// `component`.
    pub fn mended_by(&self, component: Digest) -> bool {
        self.progress
            .fault
            .as_ref()
            .is_some_and(|fault| match fault.code {
                FaultCode::Restore => match &self.progress.pin {
                    // It failed on the older component, too.
                    Some(pin) if fault.component == Some(pin.component) => pin.refused != component,
                    Some(_) | None => fault.component != Some(component),
                },
                FaultCode::Plugin => true,
                FaultCode::KillsWorker => false,
            })
    }

    /// Returns the record by which an operator lets a session run again that is faulted, or that
    /// waits after a cut of its history. If it is both, it ends the fault, and the session still
    /// waits: its reason is then the cut, of which the operator may not have known.
    pub fn resume(&self, at: UnixMillis) -> Result<Record, Refusal> {
        self.alive()?;
        if self.progress.fault.is_none() && self.progress.held_by().is_none() {
            return Err(Refusal::NotFaulted);
        }
        Ok(Record::Resumed(Resumed { at }))
    }

    /// Returns the record that puts a dead letter back into the inbox. If its turn made calls that
    /// cannot be repeated, `force` is required: they would be made again.
    pub fn retry(
        &self,
        letter: DeadLetter,
        force: bool,
        limits: &Limits,
        at: UnixMillis,
    ) -> Result<Record, Refusal> {
        self.alive()?;
        if letter.effects > 0 && !force {
            let calls = letter.effects;
            return Err(Refusal::NeedsForce { calls });
        }
        // The log may have lost calls that the turn made.
        if letter.reason.code == FailureCode::HistoryCut && !force {
            return Err(Refusal::MayHaveActed);
        }
        if self.queue.len() >= limits.inbox as usize {
            return Err(Refusal::InboxFull {
                limit: limits.inbox,
            });
        }
        Ok(Record::Requeued(Requeued {
            message: letter.message,
            at,
        }))
    }

    /// Returns the records that close the session: the open turn is aborted, messages in the inbox
    /// become dead letters.
    pub fn close(&self, at: UnixMillis) -> Result<Vec<Record>, Refusal> {
        self.alive()?;
        let failure = || TurnFailure {
            code: FailureCode::Closed,
            text: "the session was closed before the message was answered".to_owned(),
        };
        let waiting = self.queue.iter().map(|queued| {
            Record::Discarded(Discarded {
                message: queued.id.clone(),
                failure: failure(),
                at,
            })
        });
        Ok(self
            .end_open(failure(), at)
            .into_iter()
            .chain(waiting)
            .chain([Record::Closed(Closed { at })])
            .collect())
    }

    pub(super) fn alive(&self) -> Result<(), Refusal> {
        match self.progress.closed {
            Some(at) => Err(Refusal::Closed { at }),
            None => Ok(()),
        }
    }
}

/// See [`Session::worker_died`].
#[derive(Clone, Debug, PartialEq)]
pub enum WorkerDeath {
    /// The number of deaths so far.
    Counted(u32),
    /// There were too many deaths; the record faults the session.
    Faulted(Box<Record>),
}
