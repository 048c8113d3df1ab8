//! The records of a session's log. Bytes on disk are forever: each kind has a number that is never
//! given to another, fields are only ever added (with a default), and payloads are MessagePack
//! maps by field name.
//!
//! | number | kind | since format |
//! |---|---|---|
//! | 1 | `Created` | 1 |
//! | 2 | `Received` | 1 |
//! | 3 | `Begun` | 1 |
//! | 4 | reserved: `Planned`, a step that begins | |
//! | 5 | reserved: `Done`, a step's result | |
//! | 6 | `Ended` | 1 |
//! | 7 | `Relabelled` | 1 |
//! | 8 | `Faulted` | 1 |
//! | 9 | `Resumed` | 1 |
//! | 10 | `Discarded` | 1 |
//! | 11 | `Requeued` | 1 |
//! | 12 | `Closed` | 1 |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Digest, Event, EventBody, Generation, Message, MessageId, Notice, Role, TurnStatus, UnixMillis,
};

/// One atomic entry of a session's log.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// The session exists, its guest has opened.
    Created(Created),
    /// A message was accepted into the inbox.
    Received(Received),
    /// A turn (or a further attempt of it) begins.
    Begun(Begun),
    /// The turn committed or failed.
    Ended(Ended),
    /// The client changed the session's labels.
    Relabelled(Relabelled),
    /// The session cannot run until somebody acts.
    Faulted(Faulted),
    /// It may run again.
    Resumed(Resumed),
    /// A queued message became a dead letter without a turn.
    Discarded(Discarded),
    /// A dead letter went back into the inbox, behind what waits there.
    Requeued(Requeued),
    /// The session is over. Nothing follows.
    Closed(Closed),
}

/// See [`Record::Created`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Created {
    /// The plugin's name.
    pub plugin: String,
    /// The client's arguments, one JSON value.
    pub args: String,
    /// The client's labels.
    pub labels: BTreeMap<String, String>,
    /// The generation that created it.
    pub generation: Generation,
    /// The component whose `open` ran.
    pub component: Digest,
    /// The schema of the snapshot that stands with this record.
    pub schema: u32,
    /// What `open` said.
    pub outputs: Vec<Output>,
    /// Timers that `open` set.
    pub timers: Vec<TimerOp>,
    /// When.
    pub at: UnixMillis,
}

/// See [`Record::Received`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Received {
    /// The message.
    pub message: Message,
    /// The client's idempotency key and the digest of the body that came with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<IdempotencyKey>,
}

/// A client's name for a request, so that sending it twice does it once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyKey {
    /// As in the header.
    pub key: String,
    /// Of the request's body.
    pub body: Digest,
}

/// See [`Record::Begun`]. With the snapshot before it and the steps after it, it determines all
/// that the guest does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// The turn's number in the session, from 1.
    pub turn: u64,
    /// The message it consumes.
    pub message: MessageId,
    /// From 1; a further attempt starts over.
    pub attempt: u32,
    /// Workers that died by their own doing while this turn was open.
    pub deaths: u32,
    /// The recovery message in front of the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<Notice>,
    /// The guest's clock at the start.
    pub now: UnixMillis,
    /// The seed of the guest's randomness.
    pub seed: u64,
    /// The component that runs it.
    pub component: Digest,
    /// The generation that began this attempt.
    pub generation: Generation,
}

/// See [`Record::Ended`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// The turn.
    pub turn: u64,
    /// The message that it consumed.
    pub message: MessageId,
    /// How it ended.
    pub end: TurnEnd,
    /// When.
    pub at: UnixMillis,
}

/// How a turn ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TurnEnd {
    /// It committed; a snapshot stands with this record.
    Completed {
        /// The recovery message that it received.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        notice: Option<Notice>,
        /// The component that wrote the snapshot.
        component: Digest,
        /// The snapshot's schema.
        schema: u32,
        /// What it said.
        outputs: Vec<Output>,
        /// What became of its timers.
        timers: Vec<TimerOp>,
        /// Further messages that it took from the inbox while it ran.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        received: Vec<MessageId>,
        /// The generation of its `Begun`.
        generation: Generation,
    },
    /// It failed: the state stays, the message is a dead letter.
    Failed(Failure),
}

/// Something that a guest said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// A text, as the assistant.
    Text(String),
    /// An event for programs.
    Event {
        /// The guest's name for it.
        name: String,
        /// One JSON value.
        data: String,
    },
}

/// A change to a session's timers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimerOp {
    /// Set, in place of one of the same name.
    Set(Timer),
    /// Forgotten.
    Cancel {
        /// The timer's name.
        name: String,
    },
}

/// A message to oneself, later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// Unique in the session.
    pub name: String,
    /// When it is due.
    pub due: UnixMillis,
    /// The message's text.
    pub text: String,
}

/// Why a turn failed or a message was discarded.
#[derive(
    Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error, utoipa::ToSchema,
)]
#[error("{text}")]
pub struct Failure {
    /// For programs.
    pub code: FailureCode,
    /// For humans.
    pub text: String,
}

/// The kinds of [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The guest trapped, or exited.
    Trap,
    /// The guest went over a limit.
    Limit,
    /// The turn took too long.
    Timeout,
    /// The guest returned an error.
    Guest,
    /// The guest could not be restored from its snapshot.
    Restore,
    /// Somebody cancelled it.
    Cancelled,
    /// The session was closed.
    Closed,
}

/// See [`Record::Relabelled`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Relabelled {
    /// All labels from now on.
    pub labels: BTreeMap<String, String>,
    /// When.
    pub at: UnixMillis,
}

/// See [`Record::Faulted`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Faulted {
    /// Why.
    pub fault: Fault,
    /// When.
    pub at: UnixMillis,
}

/// Why a session cannot run until somebody acts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// For programs.
    pub code: FaultCode,
    /// For humans.
    pub text: String,
    /// The component that it happened with; another one is given a try.
    pub component: Option<Digest>,
}

/// The kinds of [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultCode {
    /// Its open turn took the worker down three times.
    KillsWorker,
    /// Its guest cannot be restored from its snapshot.
    Restore,
    /// Its plugin is not configured, or its component is missing or refused.
    Plugin,
}

/// See [`Record::Resumed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resumed {
    /// When.
    pub at: UnixMillis,
}

/// See [`Record::Discarded`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Discarded {
    /// The message.
    pub message: MessageId,
    /// Why.
    pub failure: Failure,
    /// When.
    pub at: UnixMillis,
}

/// See [`Record::Requeued`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Requeued {
    /// The message, under its old id.
    pub message: Message,
    /// When.
    pub at: UnixMillis,
}

/// See [`Record::Closed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Closed {
    /// When.
    pub at: UnixMillis,
}

/// A message that no turn consumed, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeadLetter {
    /// The message.
    pub message: Message,
    /// Why.
    pub reason: Failure,
    /// The turn that failed on it; none if it never had one.
    pub turn: Option<u64>,
    /// When it died.
    pub at: UnixMillis,
}

impl Record {
    /// How many durable events the record tells.
    pub fn event_count(&self) -> u64 {
        match self {
            Self::Created(created) => created.outputs.len() as u64,
            Self::Received(_) => 1,
            Self::Begun(begun) => u64::from(begun.attempt == 1),
            Self::Ended(Ended {
                end: TurnEnd::Completed {
                    notice, outputs, ..
                },
                ..
            }) => u64::from(notice.is_some()) + outputs.len() as u64 + 1,
            Self::Ended(Ended {
                end: TurnEnd::Failed(_),
                ..
            }) => 1,
            Self::Relabelled(_)
            | Self::Faulted(_)
            | Self::Resumed(_)
            | Self::Discarded(_)
            | Self::Requeued(_)
            | Self::Closed(_) => 0,
        }
    }

    /// The events that the record tells, when `before` events stand before it.
    pub fn events(&self, before: u64) -> Vec<Event> {
        let (turn, at, bodies) = match self {
            Self::Created(created) => (None, created.at, said(&created.outputs, before)),
            Self::Received(Received { message, .. }) => {
                let body = EventBody::Message {
                    message: message.id.clone(),
                    from: message.from,
                    name: message.name.clone(),
                    text: message.text.clone(),
                };
                (None, message.at, vec![body])
            }
            Self::Begun(begun) if begun.attempt == 1 => {
                let body = EventBody::Turn {
                    status: TurnStatus::Started,
                    message: begun.message.clone(),
                    received: Vec::new(),
                    reason: None,
                };
                (Some(begun.turn), begun.now, vec![body])
            }
            Self::Ended(ended) => (Some(ended.turn), ended.at, ended.bodies(before)),
            Self::Begun(_)
            | Self::Relabelled(_)
            | Self::Faulted(_)
            | Self::Resumed(_)
            | Self::Discarded(_)
            | Self::Requeued(_)
            | Self::Closed(_) => return Vec::new(),
        };
        (before + 1..)
            .zip(bodies)
            .map(|(cursor, body)| Event {
                cursor,
                turn,
                at,
                body,
            })
            .collect()
    }
}

impl Ended {
    fn bodies(&self, before: u64) -> Vec<EventBody> {
        let mut bodies = Vec::new();
        let (status, received, reason) = match &self.end {
            TurnEnd::Completed {
                notice,
                outputs,
                received,
                ..
            } => {
                bodies.extend(notice.as_ref().map(|notice| EventBody::Notice {
                    cause: notice.cause,
                    generation: notice.generation,
                    text: notice.text(),
                }));
                let before = before + bodies.len() as u64;
                bodies.extend(said(outputs, before));
                (TurnStatus::Completed, received.clone(), None)
            }
            TurnEnd::Failed(failure) => {
                (TurnStatus::Failed, Vec::new(), Some(failure.text.clone()))
            }
        };
        bodies.push(EventBody::Turn {
            status,
            message: self.message.clone(),
            received,
            reason,
        });
        bodies
    }
}

/// Outputs as events, when `before` events stand before them.
fn said(outputs: &[Output], before: u64) -> Vec<EventBody> {
    (before + 1..)
        .zip(outputs)
        .map(|(cursor, output)| match output {
            Output::Text(text) => EventBody::Message {
                message: MessageId::at(cursor),
                from: Role::Assistant,
                name: None,
                text: text.clone(),
            },
            Output::Event { name, data } => EventBody::Custom {
                name: name.clone(),
                // Checked to be JSON when the guest emitted it; kept as text should that fail.
                data: serde_json::from_str(data)
                    .unwrap_or_else(|_| serde_json::Value::String(data.clone())),
            },
        })
        .collect()
}
