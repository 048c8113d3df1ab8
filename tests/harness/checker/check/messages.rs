//! Checks messages: each one that was acknowledged has an event, and was consumed by exactly one
//! turn, or is that of a turn which a rewind has cancelled.

use std::collections::BTreeMap;

use super::turns::Turns;
use crate::Event;
use crate::checker::states::own;
use crate::checker::{Script, SessionFacts, Verdict, ViolationKind};

/// Scripts by the id of their message.
pub(super) type Scripts<'a> = BTreeMap<&'a str, Script>;

fn inbox(events: &[Event]) -> impl Iterator<Item = &Event> {
    let mut events = events.iter();
    std::iter::from_fn(move || events.find(|event| event.is_from("user") || event.is_from("timer")))
}

/// Returns the scripts of all messages in the events, of a copy those of its history too.
pub(super) fn read<'a>(session: &'a SessionFacts, verdict: &mut Verdict) -> Scripts<'a> {
    let id = &session.id;
    let mut scripts = Scripts::new();
    for event in inbox(&session.events) {
        let message = event.message.as_deref().unwrap_or_default();
        match Script::read(event.said()) {
            None => verdict.wrong(
                ViolationKind::EventChanged,
                format!("{id}: message {message} is no script: {:?}", event.said()),
            ),
            Some(script) => {
                if scripts.insert(message, script).is_some() {
                    let text = format!("{id}: message {message} is told of twice");
                    verdict.wrong(ViolationKind::EventDoubled, text);
                }
            }
        }
    }
    scripts
}

/// Checks the messages. Those of a copied history are the affair of the session that was copied.
pub(super) fn check(
    session: &SessionFacts,
    turns: &Turns<'_>,
    scripts: &Scripts<'_>,
    verdict: &mut Verdict,
) {
    let id = &session.id;
    verdict.count("acknowledged", session.acknowledged.len());
    let mut accepted: Vec<&str> = Vec::new();
    for event in inbox(own(&session.events)) {
        let message = event.message.as_deref().unwrap_or_default();
        accepted.push(message);
        let mut known = session.acknowledged.iter();
        if event.is_from("user") && !known.any(|sent| sent.message == message) {
            // Every client has retried under one key until it received an acknowledgement.
            let text = format!(
                "{id}: message {message} was accepted beside the one of the acknowledgement: {:?}",
                event.said()
            );
            verdict.wrong(ViolationKind::DoubledTurn, text);
        }
    }
    for sent in &session.acknowledged {
        let message = sent.message.as_str();
        if !accepted.contains(&message) || scripts.get(message) != Some(&sent.script) {
            let text = format!(
                "{id}: {message} ({}) was acknowledged and has no event",
                sent.script.id
            );
            verdict.wrong(ViolationKind::Lost, text);
        }
    }
    // What became of each message, by turn.
    let mut fates: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for turn in turns.own() {
        for message in &turn.consumed {
            fates.entry(message).or_default().push(turn.number);
        }
    }
    for turn in turns.own_cancelled() {
        fates.entry(turn.message).or_default().push(turn.number);
    }
    // This includes the messages of timers that were delivered.
    let sent = session
        .acknowledged
        .iter()
        .map(|sent| sent.message.as_str());
    let mut all: Vec<&str> = sent.chain(accepted).collect();
    all.sort_unstable();
    all.dedup();
    for message in all {
        match fates.remove(message).as_deref() {
            Some([_]) => {}
            None | Some([]) => {
                let text = format!("{id}: no completed turn has consumed {message}");
                verdict.wrong(ViolationKind::Lost, text);
            }
            Some(turns) => {
                let text = format!("{id}: {message} was consumed by turns {turns:?}");
                verdict.wrong(ViolationKind::DoubledTurn, text);
            }
        }
    }
    for (message, turns) in fates {
        let text = format!("{id}: turns {turns:?} consumed {message}, of which nobody knows");
        verdict.wrong(ViolationKind::Lost, text);
    }
}
