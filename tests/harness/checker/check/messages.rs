//! Checks messages: each one that was acknowledged has an event, and was consumed by exactly one
//! turn.

use std::collections::BTreeMap;

use super::turns::Turn;
use crate::Event;
use crate::checker::{Script, SessionFacts, Verdict, ViolationKind};

/// Scripts by the id of their message.
pub(super) type Scripts<'a> = BTreeMap<&'a str, Script>;

/// Checks the messages. Returns the scripts of all messages in the events.
pub(super) fn check<'a>(
    session: &'a SessionFacts,
    turns: &[Turn<'a>],
    verdict: &mut Verdict,
) -> Scripts<'a> {
    let id = &session.id;
    verdict.count("acknowledged", session.acknowledged.len());
    let inbox = |event: &&Event| event.is_from("user") || event.is_from("timer");
    let mut scripts = Scripts::new();
    for event in session.events.iter().filter(inbox) {
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
        let known = |known: &str| {
            session
                .acknowledged
                .iter()
                .any(|sent| sent.message == known)
        };
        if event.is_from("user") && !known(message) {
            // Every client has retried under one key until it received an acknowledgement.
            let text = format!(
                "{id}: message {message} was accepted beside the one of the acknowledgement: {:?}",
                event.said()
            );
            verdict.wrong(ViolationKind::DoubledTurn, text);
        }
    }
    let mut consumed: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for turn in turns {
        for message in &turn.consumed {
            consumed.entry(message).or_default().push(turn.number);
        }
    }
    for sent in &session.acknowledged {
        let message = sent.message.as_str();
        if scripts.get(message) != Some(&sent.script) {
            let text = format!(
                "{id}: {message} ({}) was acknowledged and has no event",
                sent.script.id
            );
            verdict.wrong(ViolationKind::Lost, text);
        }
    }
    // This includes the messages of timers that were delivered.
    let sent = session
        .acknowledged
        .iter()
        .map(|sent| sent.message.as_str());
    let mut all: Vec<&str> = sent.chain(scripts.keys().copied()).collect();
    all.sort_unstable();
    all.dedup();
    for message in all {
        match consumed.remove(message).as_deref() {
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
    for (message, turns) in consumed {
        let text = format!("{id}: turns {turns:?} consumed {message}, of which nobody knows");
        verdict.wrong(ViolationKind::Lost, text);
    }
    scripts
}
