//! The order of roles.

use serde_json::Value;

use super::{BrokenRule, Rule, has_calls, role};

/// Checks the rules about system messages.
pub(super) fn system(rule: Rule, lines: &[Value]) -> Option<BrokenRule> {
    let systems = lines.iter().enumerate();
    let mut systems = systems.filter(|(_, line)| role(line) == "system");
    match rule {
        Rule::NoSystem => systems
            .next()
            .map(|_| BrokenRule::new(rule, 400, "System role not supported (in chat_template:1)")),
        Rule::SystemNotBehind => {
            let behind = |(at, _): (usize, &Value)| {
                let before = role(lines.get(at.checked_sub(1)?)?);
                (before != "system").then_some(before)
            };
            let before = systems.find_map(behind)?;
            let text = format!("Unexpected role 'system' after role '{before}'");
            Some(BrokenRule::mistral(rule, "3230", text))
        }
        Rule::SystemFirstJinja => systems.find(|(at, _)| *at > 0).map(|_| {
            let text = "Jinja Exception: System message must be at the beginning.";
            let error = serde_json::json!({"message": text, "type": "server_error", "code": 500});
            BrokenRule::with(rule, 500, error)
        }),
        _ => systems.find(|(at, _)| *at > 0).map(|_| {
            let error = serde_json::json!({
                "message": "System message must be at the beginning.",
                "type": "BadRequestError",
                "code": 400,
            });
            BrokenRule::with(rule, 400, error)
        }),
    }
}

/// Checks the rules about all other messages.
pub(super) fn order(rule: Rule, lines: &[Value]) -> Option<BrokenRule> {
    let mut roles = lines.iter().map(role).filter(|role| *role != "system");
    match rule {
        Rule::UserFirst => roles.take(1).find(|role| *role != "user").map(|first| {
            let text = format!("Expected the first message to be from the user, got '{first}'");
            BrokenRule::new(rule, 400, text)
        }),
        Rule::UserOrToolLast => {
            let last = roles.next_back().unwrap_or("null");
            (!["user", "tool"].contains(&last)).then(|| {
                let text = format!(
                    "Expected last role User or Tool (or Assistant with prefix True) for serving \
                     but got {last}"
                );
                BrokenRule::mistral(rule, "3230", text)
            })
        }
        Rule::NoUserBehindTool => {
            let mut pairs = lines.windows(2);
            pairs
                .any(|pair| role(&pair[0]) == "tool" && role(&pair[1]) == "user")
                .then(|| {
                    let text = "Unexpected role 'user' after role 'tool'";
                    BrokenRule::mistral(rule, "3230", text)
                })
        }
        Rule::AlternationWithResults => {
            let mut before = None;
            let wrong = lines.iter().find(|line| {
                let side = match role(line) {
                    "system" => return false,
                    "assistant" => "assistant",
                    _ => "user",
                };
                // In these rules, the results of one message's calls are one message.
                let joined = role(line) == "tool" && before == Some(("user", "tool"));
                let again = before.is_some_and(|(last, _)| last == side);
                before = Some((side, role(line)));
                again && !joined
            });
            wrong.map(|_| alternate(rule))
        }
        _ => {
            let counted = lines.iter().filter(|line| match role(line) {
                "user" => true,
                "assistant" => !has_calls(line),
                _ => false,
            });
            let mut expected = ["user", "assistant"].into_iter().cycle();
            let mut pairs = counted.map(|line| (role(line), expected.next()));
            pairs
                .any(|(found, expected)| expected != Some(found))
                .then(|| alternate(rule))
        }
    }
}

fn alternate(rule: Rule) -> BrokenRule {
    let text = "After the optional system message, conversation roles must alternate \
                user/assistant/user/assistant/...";
    BrokenRule::new(rule, 400, text)
}
