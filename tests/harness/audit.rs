//! Checks acknowledged messages against the events of their sessions.

use std::collections::BTreeMap;

use crate::{Client, Event};

#[derive(Clone, Debug)]
pub struct Sent {
    /// The message's id.
    pub message: String,
    pub text: String,
}

/// The outcome of auditing sessions: counts, and everything that is wrong.
#[derive(Debug, Default)]
pub struct Account {
    /// Sessions that were audited.
    pub sessions: u64,
    /// Messages that were acknowledged.
    pub acknowledged: u64,
    /// Messages that exactly one turn has answered.
    pub answered_once: u64,
    /// Recovery messages that guests have received.
    pub notices: u64,
    /// Descriptions of all violations.
    pub wrong: Vec<String>,
}

impl Account {
    /// Waits until a session is idle, then checks all of its events: cursors count from 1 without
    /// gaps, each acknowledged message has an event and was answered by exactly one turn, and no
    /// turn number occurs twice.
    pub async fn take(&mut self, client: &Client, id: &str, sent: &[Sent]) {
        client.until_idle(id).await;
        let events = client.events(id, 0).await;
        self.check(id, &events, sent);
    }

    /// Checks a session's events as [`Account::take`] does.
    pub fn check(&mut self, id: &str, events: &[Event], sent: &[Sent]) {
        self.sessions += 1;
        self.acknowledged += sent.len() as u64;
        for (event, cursor) in events.iter().zip(1..) {
            if event.cursor != cursor {
                let found = event.cursor;
                self.wrong
                    .push(format!("{id}: cursor {found} stands where {cursor} should"));
                return;
            }
        }
        self.notices += events.iter().filter(|event| event.kind == "notice").count() as u64;
        self.check_turns(id, events);
        let texts: BTreeMap<_, _> = events
            .iter()
            .filter(|event| event.is_from("user"))
            .map(|event| (event.message.clone().unwrap_or_default(), event.said()))
            .collect();
        for Sent { message, text } in sent {
            if texts.get(message) != Some(&text.as_str()) {
                self.wrong.push(format!(
                    "{id}: acknowledged message {message} {text:?} is lost"
                ));
            }
        }
        for (message, text) in texts {
            self.check_answer(id, events, &message, text);
        }
    }

    fn check_turns(&mut self, id: &str, events: &[Event]) {
        let mut begun = 0;
        for event in events.iter().filter(|event| event.is_turn("started")) {
            begun += 1;
            if event.turn != Some(begun) {
                let found = event.turn;
                self.wrong.push(format!(
                    "{id}: turn {begun} should start at cursor {}, not {found:?}",
                    event.cursor
                ));
            }
        }
    }

    /// Echo and the fake model both end an answer with the text of the question.
    fn check_answer(&mut self, id: &str, events: &[Event], message: &str, text: &str) {
        let ends: Vec<_> = events.iter().filter(|event| event.ends(message)).collect();
        let [end] = ends[..] else {
            self.wrong.push(format!(
                "{id}: {message} {text:?} was consumed by {} turns",
                ends.len()
            ));
            return;
        };
        let answer = format!(": {text}");
        let answers = events.iter().filter(|event| {
            event.is_from("assistant") && event.turn == end.turn && event.said().ends_with(&answer)
        });
        match (end.is_turn("completed"), answers.count()) {
            (true, 1) => self.answered_once += 1,
            (true, count) => self.wrong.push(format!(
                "{id}: {message} {text:?} has {count} answers in its turn"
            )),
            (false, _) => self.wrong.push(format!(
                "{id}: the turn over {message} {text:?} failed: {:?}",
                end.reason
            )),
        }
    }

    /// Asserts that nothing is wrong.
    ///
    /// # Panics
    /// If something is; the panic message lists all of it.
    pub fn assert_clean(&self) {
        assert!(
            self.wrong.is_empty(),
            "{} things are wrong:\n{}",
            self.wrong.len(),
            self.wrong.join("\n")
        );
    }
}
