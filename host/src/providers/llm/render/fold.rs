//! What a provider does not know, told otherwise: Gemma's templates have no system, many have no tools,
//! and Llama's take one call a message. Roles follow each other afterwards as they may.

use std::collections::VecDeque;

use super::lines::{AssistantCall, ChatLine, UserPart, user_line};

/// Puts the system's line in front of the user's first.
pub(super) fn system(lines: &mut Vec<ChatLine>) {
    let Some(ChatLine::System(_)) = lines.first() else {
        return;
    };
    let ChatLine::System(text) = lines.remove(0) else {
        return;
    };
    match lines.iter_mut().find_map(|line| match line {
        ChatLine::User(parts) => Some(parts),
        _ => None,
    }) {
        Some(parts) => put_in_front(parts, text),
        None => lines.insert(0, user_line(&text)),
    }
}

fn put_in_front(parts: &mut Vec<UserPart>, text: String) {
    match parts.first_mut() {
        Some(UserPart::Text(first)) => first.insert_str(0, &format!("{text}\n\n")),
        _ => parts.insert(0, UserPart::Text(text)),
    }
}

/// Tells calls and their results as what the model and the user said.
pub(super) fn tools(lines: Vec<ChatLine>) -> Vec<ChatLine> {
    let mut told: Vec<ChatLine> = Vec::with_capacity(lines.len());
    for line in lines {
        match line {
            ChatLine::Assistant { text, calls } if !calls.is_empty() => {
                let made = calls
                    .iter()
                    .map(|call| format!("[I call {} with {}]", call.name, call.arguments));
                let said = Some(text).filter(|text| !text.is_empty());
                let all: Vec<String> = said.into_iter().chain(made).collect();
                told.push(ChatLine::Assistant {
                    text: all.join("\n"),
                    calls: Vec::new(),
                });
            }
            ChatLine::Tool { name, text, .. } => {
                let text = format!("[the result of {name}] {text}");
                match told.last_mut() {
                    Some(ChatLine::User(parts)) => parts.push(UserPart::Text(text)),
                    _ => told.push(user_line(&text)),
                }
            }
            line => told.push(line),
        }
    }
    told
}

/// Moves what the model said beside calls in front of the first result, where it still reads it.
pub(super) fn text_beside_calls(lines: &mut [ChatLine]) {
    let mut said = None;
    for line in lines {
        match line {
            ChatLine::Assistant { text, calls } if !calls.is_empty() && !text.is_empty() => {
                said = Some(std::mem::take(text));
            }
            ChatLine::Tool { text, .. } => {
                if let Some(said) = said.take() {
                    text.insert_str(0, &format!("[beside the call I said] {said}\n"));
                }
            }
            _ => said = None,
        }
    }
}

/// Gives each of several calls a line of its own, in front of its result.
pub(super) fn parallel_calls(lines: Vec<ChatLine>) -> Vec<ChatLine> {
    let mut told: Vec<ChatLine> = Vec::with_capacity(lines.len());
    let mut waiting: VecDeque<AssistantCall> = VecDeque::new();
    for line in lines {
        match line {
            ChatLine::Assistant { text, calls } if calls.len() > 1 => {
                waiting = calls.into();
                let first = waiting.pop_front().into_iter().collect();
                told.push(ChatLine::Assistant { text, calls: first });
            }
            ChatLine::Tool { .. } => {
                // Results stand in the order of the calls.
                if let Some(ChatLine::Tool { .. }) = told.last()
                    && let Some(next) = waiting.pop_front()
                {
                    told.push(ChatLine::Assistant {
                        text: String::new(),
                        calls: vec![next],
                    });
                }
                told.push(line);
            }
            line => told.push(line),
        }
    }
    told
}
