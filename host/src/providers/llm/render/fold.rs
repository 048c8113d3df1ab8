//! Rewrites what a provider does not support: Gemma's templates have no system role, many have no
//! tools, and Llama's accept one call per message. The order of roles stays valid.

use std::collections::VecDeque;

use super::lines::{AssistantCall, ChatLine, UserPart, user_line};

/// Moves the system's line to the beginning of the user's first line.
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

/// Rewrites calls and their results as text of the model and of the user.
pub(super) fn tools(lines: Vec<ChatLine>) -> Vec<ChatLine> {
    let mut folded: Vec<ChatLine> = Vec::with_capacity(lines.len());
    for line in lines {
        match line {
            ChatLine::Assistant { text, calls } if !calls.is_empty() => {
                let made = calls
                    .iter()
                    .map(|call| format!("[I call {} with {}]", call.name, call.arguments));
                let text = Some(text).filter(|text| !text.is_empty());
                let all: Vec<String> = text.into_iter().chain(made).collect();
                folded.push(ChatLine::Assistant {
                    text: all.join("\n"),
                    calls: Vec::new(),
                });
            }
            ChatLine::Tool { name, text, .. } => {
                let text = format!("[the result of {name}] {text}");
                match folded.last_mut() {
                    Some(ChatLine::User(parts)) => parts.push(UserPart::Text(text)),
                    _ => folded.push(user_line(&text)),
                }
            }
            line => folded.push(line),
        }
    }
    folded
}

/// Moves the text beside calls to the beginning of the first result, where the model still reads
/// it.
pub(super) fn text_beside_calls(lines: &mut [ChatLine]) {
    let mut beside = None;
    for line in lines {
        match line {
            ChatLine::Assistant { text, calls } if !calls.is_empty() && !text.is_empty() => {
                beside = Some(std::mem::take(text));
            }
            ChatLine::Tool { text, .. } => {
                if let Some(beside) = beside.take() {
                    text.insert_str(0, &format!("[beside the call I said] {beside}\n"));
                }
            }
            _ => beside = None,
        }
    }
}

/// Gives each of several calls a line of its own, before its result.
pub(super) fn parallel_calls(lines: Vec<ChatLine>) -> Vec<ChatLine> {
    let mut folded: Vec<ChatLine> = Vec::with_capacity(lines.len());
    let mut waiting: VecDeque<AssistantCall> = VecDeque::new();
    for line in lines {
        match line {
            ChatLine::Assistant { text, calls } if calls.len() > 1 => {
                waiting = calls.into();
                let first = waiting.pop_front().into_iter().collect();
                folded.push(ChatLine::Assistant { text, calls: first });
            }
            ChatLine::Tool { .. } => {
                // Results are in the order of the calls.
                if let Some(ChatLine::Tool { .. }) = folded.last()
                    && let Some(next) = waiting.pop_front()
                {
                    folded.push(ChatLine::Assistant {
                        text: String::new(),
                        calls: vec![next],
                    });
                }
                folded.push(line);
            }
            line => folded.push(line),
        }
    }
    folded
}
