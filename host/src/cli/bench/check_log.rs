//! Checks one session's log against what its clients were sent. Like the load, it borrows the few
//! fields that it checks instead of reading whole documents.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;

use crate::loadgen::{LoadSession, Texts};

/// The fields of a page of events that the check reads.
#[derive(Deserialize)]
pub(super) struct EventPageView<'a> {
    #[serde(borrow)]
    pub(super) items: Vec<LogEvent<'a>>,
}

/// The fields of an event that the check reads.
#[derive(Deserialize)]
pub(super) struct LogEvent<'a> {
    pub(super) cursor: u64,
    kind: &'a str,
    from: Option<&'a str>,
    message: Option<&'a str>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    status: Option<&'a str>,
    #[serde(borrow, default)]
    received: Vec<&'a str>,
}

/// The result of checking logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LogTotals {
    /// Acknowledged messages that were checked.
    pub(super) messages: u64,
    /// Messages that cannot be checked, since their events have been trimmed.
    pub(super) trimmed: u64,
    /// Messages that are missing, or never had a turn.
    pub(super) lost: u64,
    /// Surplus copies of messages, and surplus turns.
    pub(super) doubled: u64,
    /// Contradictions in the logs.
    pub(super) wrong: u64,
    /// Descriptions of some of the problems.
    pub(super) examples: Vec<String>,
}

impl LogTotals {
    /// Adds the result of another check.
    pub(super) fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.trimmed += other.trimmed;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.wrong += other.wrong;
        let room = EXAMPLES_MAX.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.into_iter().take(room));
    }

    fn example(&mut self, text: String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(text);
        }
    }
}

/// How many problems are described.
const EXAMPLES_MAX: usize = 8;

/// How often one message appears in the log.
#[derive(Clone, Copy, Debug, Default)]
struct MessageLog {
    received: u32,
    turns: u32,
}

/// The check of one session's log, fed page by page.
pub(super) struct Audit<'a> {
    session: usize,
    known: &'a LoadSession,
    texts: &'a Texts,
    /// The cursor up to which the log is trimmed.
    trimmed_to: u64,
    cursor: u64,
    /// The number of the message at each cursor; `None` for messages that the load did not send.
    numbers: HashMap<u64, Option<u64>>,
    /// Indexed by the message's number minus 1.
    fates: Vec<MessageLog>,
    text: String,
    found: LogTotals,
}

impl<'a> Audit<'a> {
    pub(super) fn new(session: usize, known: &'a LoadSession, texts: &'a Texts) -> Self {
        let count = usize::try_from(known.messages).unwrap_or(usize::MAX);
        Self {
            session,
            known,
            texts,
            trimmed_to: 0,
            cursor: 0,
            numbers: HashMap::new(),
            fates: vec![MessageLog::default(); count],
            text: String::new(),
            found: LogTotals::default(),
        }
    }

    /// Returns the cursor after which to read on.
    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Records that the log begins only after that cursor.
    pub(super) fn trimmed(&mut self, to: u64) {
        self.trimmed_to = to;
        self.cursor = self.cursor.max(to);
    }

    /// Checks the next events.
    pub(super) fn read(&mut self, events: &[LogEvent<'_>]) {
        for event in events {
            if event.cursor != self.cursor + 1 {
                let (before, cursor) = (self.cursor, event.cursor);
                self.wrong(format!("cursor {cursor} follows {before}"));
            }
            self.cursor = event.cursor;
            match event.kind {
                "message" => self.message(event),
                "turn" if matches!(event.status, Some("completed" | "failed")) => {
                    for id in event.message.iter().chain(&event.received) {
                        self.ended(id);
                    }
                }
                _ => {}
            }
        }
    }

    fn message(&mut self, event: &LogEvent<'_>) {
        // A guest's own message is not input to the guest.
        if event.from == Some("assistant") {
            return;
        }
        let number = match event.from {
            Some("user") => self.number(event.text.as_deref().unwrap_or_default()),
            _ => None,
        };
        match number {
            Some(number) => self.fate(number).received += 1,
            None if event.from == Some("user") => {
                let cursor = event.cursor;
                self.wrong(format!("the message at {cursor} was never sent"));
            }
            None => {}
        }
        self.numbers.insert(event.cursor, number);
    }

    /// Returns the number of the sent message that has exactly this text.
    fn number(&mut self, text: &str) -> Option<u64> {
        let number = text.split(' ').next()?.parse().ok()?;
        if !(1..=self.known.messages).contains(&number) {
            return None;
        }
        self.texts.write(self.session, number, &mut self.text);
        (self.text == text).then_some(number)
    }

    fn ended(&mut self, id: &str) {
        let cursor: Option<u64> = id.strip_prefix('m').and_then(|digits| digits.parse().ok());
        match cursor.map(|cursor| (cursor, self.numbers.get(&cursor).copied())) {
            Some((_, Some(Some(number)))) => self.fate(number).turns += 1,
            // A message that the load did not send.
            Some((_, Some(None))) => {}
            Some((cursor, None)) if cursor <= self.trimmed_to => {}
            _ => self.wrong(format!("a turn consumed {id}, which is not there")),
        }
    }

    fn fate(&mut self, number: u64) -> &mut MessageLog {
        // Only numbers of messages that were sent are looked up, so the index is in range.
        &mut self.fates[number as usize - 1]
    }

    fn wrong(&mut self, what: String) {
        self.found.wrong += 1;
        let session = self.session;
        self.found
            .example(format!("the log of session {session}: {what}"));
    }

    /// Ends the check after the last event and returns its result.
    pub(super) fn finish(mut self) -> LogTotals {
        let fates = std::mem::take(&mut self.fates);
        // Messages are in the log in the order in which they were sent.
        let first = fates.iter().position(|fate| fate.received > 0);
        let untold = match self.trimmed_to {
            0 => 0,
            _ => first.unwrap_or(fates.len()),
        };
        self.found.trimmed = untold as u64;
        for (fate, number) in fates.iter().zip(1..).skip(untold) {
            let acknowledged = !self.known.unknown.contains(&number);
            self.found.messages += u64::from(acknowledged);
            let fault = match *fate {
                MessageLog { received: 0, .. } if acknowledged => {
                    self.found.lost += 1;
                    "is not there".to_owned()
                }
                MessageLog { received: 0, .. } => continue,
                MessageLog {
                    received: 1,
                    turns: 1,
                } => continue,
                MessageLog {
                    received: 1,
                    turns: 0,
                } => {
                    self.found.lost += 1;
                    "never had a turn".to_owned()
                }
                MessageLog { received, turns } => {
                    self.found.doubled += u64::from((received - 1).max(turns.saturating_sub(1)));
                    format!("is there {received} times and had {turns} turns")
                }
            };
            let session = self.session;
            self.found.example(format!(
                "the log of session {session}: message {number} {fault}"
            ));
        }
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: usize = 5;

    /// Expands a log in short notation: `u1` the first message arrives, `c3` a turn completes that
    /// consumed the message at cursor 3, `f3` such a turn fails, `s` a turn starts, `a` the guest
    /// sends a message, `t` a timer does, `x` a message arrives that was never sent, `-` a gap.
    fn log(short: &str, from: u64) -> Vec<String> {
        let texts = Texts::new(40);
        let mut cursor = from;
        let mut lines = Vec::new();
        for word in short.split(' ') {
            cursor += 1;
            let (kind, number) = word.split_at(1);
            let number: u64 = number.parse().unwrap_or_default();
            let mut text = String::new();
            texts.write(SESSION, number, &mut text);
            let message = |from: &str, text: &str| {
                format!(r#""kind":"message","message":"m{cursor}","from":"{from}","text":"{text}""#)
            };
            let body = match kind {
                "u" => message("user", &text),
                "x" => message("user", "1 5 something else"),
                "a" => message("assistant", "so"),
                "t" => message("timer", "it is time"),
                "s" => r#""kind":"turn","status":"started","message":"m1""#.to_owned(),
                "c" => format!(r#""kind":"turn","status":"completed","message":"m{number}""#),
                "f" => format!(r#""kind":"turn","status":"failed","message":"m{number}""#),
                "-" => continue,
                other => panic!("{other}"),
            };
            lines.push(format!(r#"{{"cursor":{cursor},"turn":1,"at":0,{body}}}"#));
        }
        lines
    }

    fn audit(short: &str, messages: u64, unknown: &[u64], trimmed: u64) -> LogTotals {
        let mut known = LoadSession::default();
        known.messages = messages;
        known.unknown = unknown.to_vec();
        let texts = Texts::new(40);
        let mut audit = Audit::new(SESSION, &known, &texts);
        audit.trimmed(trimmed);
        for line in log(short, trimmed) {
            let page = format!(r#"{{"items":[{line}],"next":null}}"#);
            let page: EventPageView<'_> = serde_json::from_str(&page).expect("a page");
            audit.read(&page.items);
        }
        audit.finish()
    }

    #[test]
    fn a_sound_log_is_found_sound() {
        let found = audit("u1 s a c1 u2 u3 s f5 s a c6 t c12", 3, &[], 0);
        let expected = LogTotals {
            messages: 3,
            ..LogTotals::default()
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_lost_doubled_or_wrong_is_found() {
        for (short, lost, doubled, wrong) in [
            ("u1 c1", 1, 0, 0),
            ("u1 c1 u2", 1, 0, 0),
            ("u1 c1 c1 u2 c4", 0, 1, 0),
            ("u1 c1 u1 c3 u2 c5", 0, 1, 0),
            ("u1 c1 x c3 u2 c5", 0, 0, 1),
            ("u1 c1 - u2 c4", 0, 0, 1),
            ("u1 c1 u2 c3 c9", 0, 0, 1),
            ("u1 c1 u2 c3 u7 c5", 0, 0, 1),
        ] {
            let found = audit(short, 2, &[], 0);
            let totals = (found.lost, found.doubled, found.wrong);
            assert_eq!(totals, (lost, doubled, wrong), "{short}: {found:?}");
            assert_eq!(found.examples.is_empty(), lost + doubled + wrong == 0);
        }
    }

    #[test]
    fn what_was_not_acknowledged_may_be_there_or_not() {
        for short in ["u1 c1 u3 c3", "u1 c1 u2 c3 u3 c5"] {
            let found = audit(short, 3, &[2], 0);
            assert_eq!((found.messages, found.lost), (2, 0), "{found:?}");
        }
    }

    #[test]
    fn trimmed_messages_are_neither_there_nor_lost() {
        let found = audit("c9 u3 c12", 3, &[], 10);
        assert_eq!((found.trimmed, found.messages), (2, 1), "{found:?}");
        assert_eq!((found.lost, found.wrong), (0, 0), "{found:?}");
    }
}
