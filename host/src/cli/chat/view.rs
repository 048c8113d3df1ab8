//! Renders a conversation: a pure fold from the items of the stream to the pieces that are shown.
//!
//! A model's answer arrives twice: as deltas while it is generated, and whole once its turn has
//! committed. The view shows each text once. Deltas open a paragraph (the *draft*); the whole
//! message closes it, and only what the draft lacked is added. A new attempt of a turn voids the
//! draft of the older one.

use std::collections::BTreeSet;

use super::super::out::Tone;
use super::super::text::{brief, meaning};
use crate::domain::{ApprovalStatus, Cause, Delta, Event, EventBody, MessageId, Role, TurnStatus};
use crate::plain_text::{inline, prose};

/// The length to which the JSON of a custom event is cut.
const CUSTOM_CHARS: usize = 200;
/// The length to which a notice is cut.
const NOTICE_CHARS: usize = 600;

/// An input of the view.
#[derive(Clone, Debug)]
pub(crate) enum ChatItem {
    /// A durable event.
    Event(Event),
    /// A piece of an answer that is being generated.
    Delta(Delta),
    /// The connection is lost and could not be restored immediately.
    Lost,
    /// The connection is back.
    Back(Absence),
    /// Events up to that cursor have been trimmed.
    Trimmed(u64),
    /// Events after that cursor were lost: the session's history was cut there.
    Cut(u64),
}

/// Why a connection was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// Only the connection failed.
    Connection,
    /// The daemon restarted, with the cause if it is known.
    Restart(Option<Cause>),
}

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ShownPiece {
    /// More text in the open paragraph.
    Text(String),
    /// The open paragraph ends.
    Break,
    /// A separate line (its text may have several).
    Line(Tone, String),
}

/// The text of a step that was shown as it arrived.
#[derive(Debug)]
struct StreamedDraft {
    turn: u64,
    attempt: u32,
    step: u32,
    request: u32,
    text: String,
    /// Whether the paragraph is open: nothing else was shown since.
    open: bool,
    /// Whether a piece may be missing: further deltas are not shown.
    broken: bool,
}

impl StreamedDraft {
    /// Returns a key that grows over the life of a session.
    fn order(&self) -> (u64, u32, u32, u32) {
        (self.turn, self.attempt, self.step, self.request)
    }
}

/// The state of a conversation on the screen.
#[derive(Debug)]
pub(crate) struct ChatView {
    session: String,
    /// The last event shown.
    cursor: u64,
    /// Messages that are on the screen already, since they were typed there.
    mine: BTreeSet<MessageId>,
    draft: Option<StreamedDraft>,
    /// The number of the last turn whose end was shown.
    ended: u64,
    /// Whether deltas are shown.
    live: bool,
    /// Whether the loss of the connection was shown.
    lost: bool,
}

impl ChatView {
    /// Creates an empty view that shows only events after `cursor`.
    pub(crate) fn new(session: impl Into<String>, cursor: u64) -> Self {
        Self {
            session: session.into(),
            cursor,
            mine: BTreeSet::new(),
            draft: None,
            ended: 0,
            live: false,
            lost: false,
        }
    }

    /// The last event shown.
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Records that the message was typed here, so that it is not shown again. Must be called
    /// before its event arrives.
    pub(crate) fn typed(&mut self, message: MessageId) {
        if message.cursor().is_none_or(|cursor| cursor > self.cursor) {
            self.mine.insert(message);
        }
    }

    /// Turns the display of deltas on or off: they cannot be shown beside a line that is being
    /// edited.
    pub(crate) fn set_live(&mut self, live: bool) -> Vec<ShownPiece> {
        self.live = live;
        let mut pieces = Vec::new();
        if !live {
            self.interrupt(&mut pieces);
        }
        pieces
    }

    /// Applies an item and returns what is to be shown.
    pub(crate) fn apply(&mut self, item: &ChatItem) -> Vec<ShownPiece> {
        let mut pieces = Vec::new();
        match item {
            ChatItem::Event(event) => self.event(event, &mut pieces),
            ChatItem::Delta(delta) => self.delta(delta, &mut pieces),
            ChatItem::Lost => {
                self.interrupt(&mut pieces);
                self.lost = true;
                pieces.push(aside("the connection is lost; trying again"));
            }
            ChatItem::Back(absence) => {
                self.interrupt(&mut pieces);
                let lost = std::mem::take(&mut self.lost);
                match absence {
                    Absence::Restart(cause) => {
                        let why = cause.map_or(String::new(), |cause| format!(" ({})", why(cause)));
                        let text = format!("the daemon restarted{why}; resumed where we were");
                        pieces.push(aside(&text));
                    }
                    Absence::Connection if lost => {
                        pieces.push(aside("connected again; resumed where we were"));
                    }
                    Absence::Connection => {}
                }
            }
            ChatItem::Trimmed(oldest) => {
                self.interrupt(&mut pieces);
                self.cursor = self.cursor.max(*oldest);
                pieces.push(aside("older events have been trimmed; some are not shown"));
            }
            ChatItem::Cut(last) => {
                self.begin_timeline(&mut pieces);
                self.cursor = *last;
                pieces.push(aside(
                    "a part of what was shown above is lost: the session's history was cut",
                ));
            }
        }
        pieces
    }

    fn event(&mut self, event: &Event, pieces: &mut Vec<ShownPiece>) {
        if event.cursor <= self.cursor {
            return;
        }
        self.cursor = event.cursor;
        match &event.body {
            EventBody::Message {
                message,
                from,
                name,
                text,
                ..
            } => match from {
                Role::Assistant => self.answer(event.turn, text, pieces),
                Role::User => {
                    if !self.mine.remove(message) {
                        self.line(Tone::Bold, format!("> {}", prose(text)), pieces);
                    }
                }
                other => {
                    let who = match name {
                        Some(name) => format!("{} {}", other.as_str(), inline(name)),
                        None => other.as_str().to_owned(),
                    };
                    self.line(Tone::Dim, format!("[{who}] {}", prose(text)), pieces);
                }
            },
            EventBody::Turn {
                status: TurnStatus::Started,
                ..
            } => {}
            EventBody::Turn {
                status: TurnStatus::Completed,
                ..
            } => self.end(event.turn, pieces),
            EventBody::Turn {
                status: TurnStatus::Failed,
                reason,
                ..
            } => {
                self.end(event.turn, pieces);
                let reason = reason.as_deref().unwrap_or("no reason given");
                let text = format!(
                    "— the turn failed: {}; nothing it said counts, and its message is a dead letter: \
                     `abide sessions show {}` —",
                    inline(reason),
                    self.session
                );
                pieces.push(ShownPiece::Line(Tone::Bad, text));
            }
            EventBody::Notice { text, .. } => {
                self.line(Tone::Dim, brief(text, NOTICE_CHARS), pieces);
            }
            EventBody::Timeline { text, .. } => {
                self.begin_timeline(pieces);
                let text = format!("— {} —", brief(text, NOTICE_CHARS));
                pieces.push(ShownPiece::Line(Tone::Bad, text));
            }
            EventBody::Rewound { text, .. } => {
                self.end(None, pieces);
                let text = format!("— {} —", brief(text, NOTICE_CHARS));
                pieces.push(ShownPiece::Line(Tone::Warn, text));
            }
            EventBody::Origin { text, .. } => {
                self.begin_timeline(pieces);
                let text = format!("— {} —", brief(text, NOTICE_CHARS));
                pieces.push(ShownPiece::Line(Tone::Warn, text));
            }
            EventBody::Approval {
                approval,
                name,
                status,
                arguments,
                reason,
                ..
            } => {
                let detail = arguments
                    .as_deref()
                    .or(reason.as_deref())
                    .unwrap_or_default();
                let text = format!("· {} {}: {}", inline(name), status.as_str(), inline(detail));
                self.line(Tone::Warn, text, pieces);
                if *status == ApprovalStatus::Asked {
                    let text = format!("  it waits for a human, as approval {approval}");
                    self.line(Tone::Warn, text, pieces);
                }
            }
            EventBody::Tool { name, status, .. } => {
                let text = format!("· {} {}", inline(name), status.as_str());
                self.line(Tone::Dim, text, pieces);
            }
            EventBody::Custom { name, data } => {
                let text = match meaning(name) {
                    Some(meaning) => format!("— {meaning} —"),
                    None => {
                        let data = brief(&data.to_string(), CUSTOM_CHARS);
                        format!("· {} {data}", inline(name))
                    }
                };
                self.line(Tone::Dim, text, pieces);
            }
        }
    }

    fn delta(&mut self, delta: &Delta, pieces: &mut Vec<ShownPiece>) {
        if !self.live || delta.turn <= self.ended || delta.text.is_empty() {
            return;
        }
        let now = (delta.turn, delta.attempt, delta.step, delta.request);
        match &self.draft {
            Some(draft) if now < draft.order() => return,
            Some(draft) if now == draft.order() => {}
            older => {
                let voided = older.as_ref().is_some_and(|draft| {
                    draft.turn == delta.turn
                        // A turn that is resumed from its journal keeps the text of its earlier
                        // steps.
                        && delta.step <= draft.step
                        && !draft.text.is_empty()
                });
                self.interrupt(pieces);
                if voided {
                    pieces.push(aside("begun anew; the text above is void"));
                }
                self.draft = Some(StreamedDraft {
                    turn: delta.turn,
                    attempt: delta.attempt,
                    step: delta.step,
                    request: delta.request,
                    text: String::new(),
                    open: true,
                    broken: false,
                });
            }
        }
        let Some(draft) = self.draft.as_mut().filter(|draft| !draft.broken) else {
            return;
        };
        draft.text.push_str(&delta.text);
        pieces.push(ShownPiece::Text(prose(&delta.text).into_owned()));
    }

    /// Shows the whole answer of a turn.
    fn answer(&mut self, turn: Option<u64>, text: &str, pieces: &mut Vec<ShownPiece>) {
        let draft = self
            .draft
            .take_if(|draft| Some(draft.turn) == turn && !draft.text.is_empty());
        let Some(draft) = draft else {
            self.line(Tone::Plain, prose(text).into_owned(), pieces);
            return;
        };
        match text.strip_prefix(draft.text.trim_end()).map(str::trim_end) {
            Some("") if draft.open => pieces.push(ShownPiece::Break),
            Some("") => {}
            Some(rest) if draft.open => {
                // The draft may end in blanks that belong to the rest.
                let blank = &draft.text[draft.text.trim_end().len()..];
                let rest = rest.strip_prefix(blank).unwrap_or(rest);
                pieces.push(ShownPiece::Text(prose(rest).into_owned()));
                pieces.push(ShownPiece::Break);
            }
            Some(rest) => pieces.push(ShownPiece::Line(Tone::Plain, format!("…{}", prose(rest)))),
            None => {
                if draft.open {
                    pieces.push(ShownPiece::Break);
                }
                pieces.push(aside("the text above is void; this is the answer:"));
                pieces.push(ShownPiece::Line(Tone::Plain, prose(text).into_owned()));
            }
        }
    }

    /// Ends a turn: its draft is dropped, whether or not the answer contained it.
    fn end(&mut self, turn: Option<u64>, pieces: &mut Vec<ShownPiece>) {
        self.ended = self.ended.max(turn.unwrap_or(0));
        self.interrupt(pieces);
        self.draft = None;
    }

    /// Forgets the turns that were shown: those after a cut of the history may have their numbers.
    fn begin_timeline(&mut self, pieces: &mut Vec<ShownPiece>) {
        self.end(None, pieces);
        self.ended = 0;
    }

    fn line(&mut self, tone: Tone, text: String, pieces: &mut Vec<ShownPiece>) {
        if let Some(draft) = self.draft.as_mut().filter(|draft| draft.open) {
            // The next delta would be torn from its paragraph; the rest is shown with the whole
            // message.
            draft.open = false;
            draft.broken = true;
            pieces.push(ShownPiece::Break);
        }
        pieces.push(ShownPiece::Line(tone, text));
    }

    /// Closes the open paragraph. Its step is not continued, since a piece may be missing.
    fn interrupt(&mut self, pieces: &mut Vec<ShownPiece>) {
        if let Some(draft) = &mut self.draft {
            if draft.open {
                pieces.push(ShownPiece::Break);
            }
            draft.open = false;
            draft.broken = true;
        }
    }
}

/// Returns a remark of the chat itself, not of its participants.
pub(crate) fn aside(text: &str) -> ShownPiece {
    ShownPiece::Line(Tone::Dim, format!("— {text} —"))
}

fn why(cause: Cause) -> &'static str {
    match cause {
        Cause::Config => "configuration change",
        Cause::Upgrade => "upgrade",
        Cause::Crash => "crash",
        Cause::Operator => "an operator asked for it",
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
