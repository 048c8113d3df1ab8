//! Reads turns from the events, which must hold each turn once, in order, one at a time.

use std::collections::BTreeSet;

use crate::Event;
use crate::checker::{SessionFacts, Verdict, ViolationKind};

/// A completed turn.
pub(super) struct Turn<'a> {
    pub(super) number: u64,
    /// When it started, in milliseconds since the Unix epoch.
    pub(super) started_ms: u64,
    /// When it ended, in milliseconds since the Unix epoch.
    pub(super) ended_ms: u64,
    /// The message that it consumed, followed by those that it received while it ran.
    pub(super) consumed: Vec<&'a str>,
    /// All of its events between its start and its end.
    pub(super) events: Vec<&'a Event>,
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
}

/// Reads the completed turns, and records violations of their order.
pub(super) fn read<'a>(session: &'a SessionFacts, verdict: &mut Verdict) -> Vec<Turn<'a>> {
    let id = &session.id;
    let mut turns: Vec<Turn<'a>> = Vec::new();
    let mut open: Option<Turn<'a>> = None;
    let mut ended = BTreeSet::new();
    let mut last = 0;
    for event in &session.events {
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
                    let text = format!("{id}: turn {number} {status}: {reason}");
                    verdict.wrong(ViolationKind::Failed, text);
                    continue;
                }
                turn.ended_ms = event.at_ms();
                let received = event.received.iter().map(String::as_str);
                turn.consumed = event
                    .message
                    .as_deref()
                    .into_iter()
                    .chain(received)
                    .collect();
                turns.push(turn);
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
    for letter in &session.dead_letters {
        verdict.wrong(
            ViolationKind::Failed,
            format!("{id}: a dead letter: {letter}"),
        );
    }
    verdict.count("turns", turns.len());
    turns
}
