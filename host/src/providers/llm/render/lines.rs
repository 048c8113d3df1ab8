//! The order of a conversation: turns the messages that a guest recorded into lines that strict
//! templates accept.

use std::collections::HashSet;

use super::images::{self, TextOrImage};
use crate::domain::{ChatMessage, ChatRole, ModelToolCall};
use crate::providers::llm::call_id::call_id;

/// The prefix of the host's own notices, which are never instructions of the guest.
const NOTICE: &str = "[system]";
/// The placeholders for lines without any content, because servers refuse empty ones.
const EMPTY_USER: &str = "(an empty message)";
const EMPTY_ANSWER: &str = "(no answer)";
const EMPTY_RESULT: &str = "(no output)";
/// The placeholder for the result of a call for which the guest has none.
const NO_RESULT: &str = "(no result is known: it is unknown whether the call was made)";
/// The user's lines before an answer that no user's line precedes.
const BEFORE_FIRST: &str = "(The conversation begins here.)";
const BETWEEN_ANSWERS: &str = "(Go on.)";
/// The model's line between tool results and the user's next line, for templates that forbid a
/// user's line directly after a result.
const NOTED: &str = "(Noted.)";
/// Introduce the images of tool results, which servers accept only from the user.
const IMAGES_BELOW: &str = "[shown below]";
const RESULT_IMAGES: &str = "(Images of the tool results above:)";
/// Introduces a result whose call is not in the conversation.
const STRAY_RESULT: &str = "[a tool's result]";

/// A line of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ChatLine {
    /// The guest's leading instructions. Only the first line can be one.
    System(String),
    User(Vec<UserPart>),
    Assistant {
        text: String,
        /// Each call is answered by one of the lines that directly follow, in order.
        calls: Vec<AssistantCall>,
    },
    Tool {
        id: String,
        /// The guest's name for the tool.
        name: String,
        text: String,
    },
}

/// A part of a user's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UserPart {
    Text(String),
    /// A `data:` URL.
    Image(String),
}

/// A call that the model requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AssistantCall {
    pub(super) id: String,
    /// The guest's name for the tool.
    pub(super) name: String,
    pub(super) arguments: String,
}

/// Puts a conversation in order. With `images`, images within texts become parts of the user's
/// lines; without, a placeholder replaces each.
pub(super) fn lines(messages: &[ChatMessage], images: bool) -> Vec<ChatLine> {
    let leading = messages
        .iter()
        .take_while(|message| is_instruction(message));
    let leading = leading.count();
    let (instructions, rest) = messages.split_at(leading);
    let mut order = LineOrder::new(images);
    order.system(instructions);
    for message in rest {
        order.take(message);
    }
    order.end()
}

/// Returns whether a message, if only instructions precede it, is an instruction of the guest.
fn is_instruction(message: &ChatMessage) -> bool {
    message.role == ChatRole::System && !message.content.trim_start().starts_with(NOTICE)
}

/// A conversation that is being put in order.
struct LineOrder {
    images: bool,
    lines: Vec<ChatLine>,
    /// The calls of the last line, whose results are still being collected.
    open: Vec<Open>,
    /// The user's next line, which is still being collected.
    user: Option<Vec<UserPart>>,
    /// All call ids in the lines.
    ids: HashSet<String>,
}

/// A requested call, and its result.
struct Open {
    /// The guest's id for it.
    given: String,
    call: AssistantCall,
    result: Option<String>,
}

impl LineOrder {
    fn new(images: bool) -> Self {
        Self {
            images,
            lines: Vec::new(),
            open: Vec::new(),
            user: None,
            ids: HashSet::new(),
        }
    }

    /// Joins all instructions into one line.
    fn system(&mut self, instructions: &[ChatMessage]) {
        let texts = instructions.iter().map(|message| message.content.as_str());
        let texts: Vec<&str> = texts.filter(|text| !is_blank(text)).collect();
        if !texts.is_empty() {
            self.lines.push(ChatLine::System(texts.join("\n\n")));
        }
    }

    fn take(&mut self, message: &ChatMessage) {
        match message.role {
            ChatRole::System | ChatRole::User => self.push_user_text(&message.content),
            ChatRole::Assistant => self.answer(&message.content, &message.tool_calls),
            ChatRole::Tool => self.result(message.tool_call_id.as_deref(), &message.content),
        }
    }

    /// Adds a text to the user's next line.
    fn push_user_text(&mut self, text: &str) {
        let user = self.user.get_or_insert_default();
        if is_blank(text) {
            return;
        }
        if let Some(UserPart::Text(before)) = user.last_mut() {
            before.push_str("\n\n");
        }
        for piece in images::pieces(text) {
            match piece {
                TextOrImage::Text(text) => push_text(user, text),
                TextOrImage::Image(image) if self.images => {
                    user.push(UserPart::Image(image.url.to_owned()))
                }
                TextOrImage::Image(image) => push_text(user, &image.placeholder()),
            }
        }
    }

    fn answer(&mut self, text: &str, calls: &[ModelToolCall]) {
        self.close();
        let filler = match self.lines.last() {
            None | Some(ChatLine::System(_)) => Some(BEFORE_FIRST),
            Some(ChatLine::Assistant { .. }) => Some(BETWEEN_ANSWERS),
            Some(ChatLine::User(_) | ChatLine::Tool { .. }) => None,
        };
        if let Some(filler) = filler {
            self.lines.push(user_line(filler));
        }
        let mut open = Vec::with_capacity(calls.len());
        for call in calls {
            open.push(Open {
                given: call.id.clone(),
                call: AssistantCall {
                    id: self.id(&call.id),
                    name: call.name.clone(),
                    arguments: call.arguments.clone(),
                },
                result: None,
            });
        }
        let text = match is_blank(text) {
            true if open.is_empty() => EMPTY_ANSWER.to_owned(),
            true => String::new(),
            false => text.to_owned(),
        };
        self.lines.push(ChatLine::Assistant {
            text,
            calls: open.iter().map(|open| open.call.clone()).collect(),
        });
        self.open = open;
    }

    /// Returns the guest's id if every server accepts it and it is still unused, otherwise an id
    /// derived from it.
    fn id(&mut self, given: &str) -> String {
        let sound = given.len() == 9 && given.bytes().all(|byte| byte.is_ascii_alphanumeric());
        match sound && !self.ids.contains(given) {
            true => {
                self.ids.insert(given.to_owned());
                given.to_owned()
            }
            // The number of ids is part of the seed: if all calls had the same id, searching for a
            // free one would take long.
            false => call_id(&format!("{given}\0{}", self.ids.len()), &mut self.ids),
        }
    }

    fn result(&mut self, given: Option<&str>, text: &str) {
        let is_meant = |open: &Open| given.is_none_or(|given| open.given == given);
        let calls = &mut self.open;
        let waiting = calls
            .iter()
            .position(|one| one.result.is_none() && is_meant(one));
        // The guest may have several results for one call: append to the last one.
        let meant = waiting.or_else(|| calls.iter().rposition(is_meant));
        let Some(open) = meant.and_then(|at| calls.get_mut(at)) else {
            return self.push_user_text(&format!("{STRAY_RESULT} {text}"));
        };
        match &mut open.result {
            Some(before) => {
                before.push('\n');
                before.push_str(text);
            }
            none => *none = Some(text.to_owned()),
        }
    }

    /// Completes the last line: adds the results of its calls, and then what the user said
    /// meanwhile.
    fn close(&mut self) {
        let mut shown = Vec::new();
        for Open { call, result, .. } in std::mem::take(&mut self.open) {
            let text = result.unwrap_or_else(|| NO_RESULT.to_owned());
            let text = self.result_text(&text, &mut shown);
            self.lines.push(ChatLine::Tool {
                id: call.id,
                name: call.name,
                text,
            });
        }
        if !shown.is_empty() {
            let intro = UserPart::Text(RESULT_IMAGES.to_owned());
            let next = self.user.take().unwrap_or_default();
            self.user = Some([intro].into_iter().chain(shown).chain(next).collect());
        }
        let Some(mut user) = self.user.take() else {
            return;
        };
        user.retain(|part| !matches!(part, UserPart::Text(text) if is_blank(text)));
        if user.is_empty() {
            push_text(&mut user, EMPTY_USER);
        }
        if let Some(ChatLine::Tool { .. }) = self.lines.last() {
            self.lines.push(ChatLine::Assistant {
                text: NOTED.to_owned(),
                calls: Vec::new(),
            });
        }
        self.lines.push(ChatLine::User(user));
    }

    /// Returns the text of a result, and moves its images to `shown`.
    fn result_text(&self, text: &str, shown: &mut Vec<UserPart>) -> String {
        let mut rest = String::new();
        for piece in images::pieces(text) {
            match piece {
                TextOrImage::Text(text) => rest.push_str(text),
                TextOrImage::Image(image) => {
                    rest.push_str(&image.placeholder());
                    if self.images {
                        rest.push(' ');
                        rest.push_str(IMAGES_BELOW);
                        shown.push(UserPart::Image(image.url.to_owned()));
                    }
                }
            }
        }
        match is_blank(&rest) {
            true => EMPTY_RESULT.to_owned(),
            false => rest,
        }
    }

    /// Returns all lines. The last is the user's or a tool's, so that there is something to answer.
    fn end(mut self) -> Vec<ChatLine> {
        self.close();
        let filler = match self.lines.last() {
            None | Some(ChatLine::System(_)) => Some(BEFORE_FIRST),
            Some(ChatLine::Assistant { .. }) => Some(BETWEEN_ANSWERS),
            Some(ChatLine::User(_) | ChatLine::Tool { .. }) => None,
        };
        self.lines.extend(filler.map(user_line));
        self.lines
    }
}

pub(super) fn user_line(text: &str) -> ChatLine {
    ChatLine::User(vec![UserPart::Text(text.to_owned())])
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// Appends to the text at the end of a line.
fn push_text(parts: &mut Vec<UserPart>, text: &str) {
    match parts.last_mut() {
        Some(UserPart::Text(last)) => last.push_str(text),
        _ => parts.push(UserPart::Text(text.to_owned())),
    }
}
