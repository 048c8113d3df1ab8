//! Reads turns from the events, which must hold each turn once, in order, one at a time.

use std::collections::BTreeSet;

use crate::Event;
use crate::checker::states::own;
use crate::checker::{SessionFacts, Verdict, ViolationKind};

/// Why the turn fails that is open at a rewind. No other turn fails.
const REWOUND: &str = "as the session was rewound";

/// The turns of a session.
pub(super) struct Turns<'a> {
    /// Those that completed, of a copy those of its history too.
    pub(super) completed: Vec<Turn<'a>>,
    /// Those that a rewind has cancelled.
    cancelled: Vec<CancelledTurn<'a>>,
    /// The cursor of the session's first event of its own.
    own_from: u64,
}

/// A completed turn.
pub(super) struct Turn<'a> {
    pub(super) number: u64,
    /// When it started, in milliseconds since the Unix epoch.
    pub(super) started_ms: u64,
    /// When it ended, in milliseconds since the Unix epoch.
    pub(super) ended_ms: u64,
    /// The cursor of its last event, which names the state after it.
    pub(super) end: u64,
    /// The message that it consumed, followed by those that it received while it ran.
    pub(super) consumed: Vec<&'a str>,
    /// All of its events between its start and its end.
    pub(super) events: Vec<&'a Event>,
}

/// A turn that was open at a rewind.
pub(super) struct CancelledTurn<'a> {
    pub(super) number: u64,
    /// The message that it would have consumed.
    pub(super) message: &'a str,
    /// The cursor of its last event.
    pub(super) end: u64,
}

impl Turn<'_> {
    /// Returns the data of the guest's custom events of that name, in order.
    pub(super) fn told<T: serde::de::DeserializeOwned>(&self, name: &str) -> Vec<T> {
        let events = self
            .events
            .iter()
            .filter(|event| event.kind == "custom" && event.name.as_deref() == Some(name));
        events
            .filter_map(|event| serde_json::from_value(event.data.clone()?).ok())
            .collect()
    }

    /// Returns the notices that it was sent.
    pub(super) fn notices(&self) -> impl Iterator<Item = &Event> {
        let events = self.events.iter().copied();
        events.filter(|event| event.kind == "notice")
    }
}

impl<'a> Turns<'a> {
    /// Returns the completed turns that are not of a copied history.
    pub(super) fn own(&self) -> &[Turn<'a>] {
        let own = self
            .completed
            .partition_point(|turn| turn.end < self.own_from);
        &self.completed[own..]
    }

    /// Returns the cancelled turns that are not of a copied history.
    pub(super) fn own_cancelled(&self) -> &[CancelledTurn<'a>] {
        let own = self
            .cancelled
            .partition_point(|turn| turn.end < self.own_from);
        &self.cancelled[own..]
    }
}

/// Reads the turns, and records violations of their order.
pub(super) fn read<'a>(session: &'a SessionFacts, verdict: &mut Verdict) -> Turns<'a> {
    let id = &session.id;
    let mut turns = Turns {
        completed: Vec::new(),
        cancelled: Vec::new(),
        own_from: own(&session.events).first().map_or(0, |event| event.cursor),
    };
    let mut open: Option<Turn<'a>> = None;
    let mut ended = BTreeSet::new();
    let mut last = 0;
    let following = session.events.iter().skip(1).map(Some).chain([None]);
    for (event, next) in session.events.iter().zip(following) {
        let number = event.turn.unwrap_or_default();
        let cursor = event.cursor;
        match (event.kind.as_str(), event.status.as_deref()) {
            ("turn", Some("started")) => {
                if number != last + 1 || open.is_some() {
                    let text = format!("{id}: turn {number} starts at {cursor}, behind {last}");
                    verdict.wrong(ViolationKind::TurnNumbers, text);
                }
                last = last.max(number);
                open = Some(Turn {
                    number,
                    started_ms: event.at_ms(),
                    ended_ms: event.at_ms(),
                    end: cursor,
                    consumed: Vec::new(),
                    events: Vec::new(),
                });
            }
            ("turn", Some(status)) => {
                if !ended.insert(number) {
                    let text = format!("{id}: turn {number} ends again at {cursor}");
                    verdict.wrong(ViolationKind::DoubledTurn, text);
                }
                let Some(mut turn) = open.take_if(|turn| turn.number == number) else {
                    let text = format!("{id}: turn {number} ends at {cursor} and was not open");
                    verdict.wrong(ViolationKind::TurnNumbers, text);
                    continue;
                };
                if status != "completed" {
                    let reason = event.reason.as_deref().unwrap_or("without a reason");
                    let by_rewind = next.is_some_and(|next| next.kind == "rewound");
                    if status != "failed" || !by_rewind || !reason.ends_with(REWOUND) {
                        let text = format!("{id}: turn {number} {status}: {reason}");
                        verdict.wrong(ViolationKind::Failed, text);
                    }
                    turns.cancelled.push(CancelledTurn {
                        number,
                        message: event.message.as_deref().unwrap_or_default(),
                        end: cursor,
                    });
                    continue;
                }
                turn.ended_ms = event.at_ms();
                turn.end = cursor;
                let received = event.received.iter().map(String::as_str);
                turn.consumed = event
                    .message
                    .as_deref()
                    .into_iter()
                    .chain(received)
                    .collect();
                turns.completed.push(turn);
            }
            _ if event.turn.is_none() => {}
            _ => match &mut open {
                Some(turn) if turn.number == number => turn.events.push(event),
                _ => {
                    let text =
                        format!("{id}: event {cursor} of turn {number} stands outside of it");
                    verdict.wrong(ViolationKind::TurnNumbers, text);
                }
            },
        }
        // What replaces the state ends the open turn before.
        if event.kind == "rewound" && open.is_some() {
            let text = format!("{id}: a turn is still open at the rewind {cursor}");
            verdict.wrong(ViolationKind::TurnNumbers, text);
        }
    }
    if let Some(unfinished) = &session.unfinished {
        verdict.wrong(
            ViolationKind::Lost,
            format!("{id} does not come to rest: {unfinished}"),
        );
    } else if let Some(turn) = open {
        let text = format!("{id}: turn {} never ends", turn.number);
        verdict.wrong(ViolationKind::Lost, text);
    }
    verdict.count("turns", turns.own().len());
    turns
}
