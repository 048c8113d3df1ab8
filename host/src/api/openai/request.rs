//! Parses a completion request into what is asked of a session, without access to the session.

use http::HeaderMap;
use serde_json::Value;

use super::wire::{CompletionRequest, Content};
use crate::api::problem::{Problem, ProblemKind};
use crate::documents::FromObject;
use crate::domain::{Event, EventBody, MessageId, Refusal, Role, SessionId};

/// A completion request, as it concerns a session.
#[derive(Debug)]
pub(super) struct SessionRequest {
    pub(super) session: SessionId,
    pub(super) plugin: String,
    pub(super) text: String,
    pub(super) stream: bool,
    /// Whether a stream reports at its end what the turn cost.
    pub(super) usage: bool,
    /// Whether the client's library repeated the request by itself.
    pub(super) again: bool,
}

/// Parses a request.
pub(super) fn read(
    headers: &HeaderMap,
    request: CompletionRequest,
) -> Result<SessionRequest, Problem> {
    for (name, value) in &request.rest {
        refuse_meaning(name, value)?;
    }
    let session = match header(headers, "x-abide-session")? {
        Some(name) => name.to_owned(),
        None => request.user.ok_or_else(|| {
            invalid("say which session this is for: by the header `X-Abide-Session`, or by the field `user`")
        })?,
    };
    let last = request.messages.0;
    let last = last.ok_or_else(|| invalid("`messages` is empty; its last one is sent"))?;
    if last.role != "user" {
        return Err(invalid(format!(
            "the last of `messages` is from `{}`; it must be from `user`, for it is what is new to \
             the session",
            last.role
        )));
    }
    Ok(SessionRequest {
        session: SessionId::new(session).map_err(Refusal::from)?,
        plugin: request.model,
        text: text(last.content)?,
        stream: request.stream.unwrap_or(false),
        usage: request.stream_options.unwrap_or_default().include_usage,
        again: header(headers, "x-stainless-retry-count")?
            .and_then(|count| count.parse::<u64>().ok())
            .is_some_and(|count| count > 0),
    })
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let text = std::str::from_utf8(value.as_bytes());
    let text = text.map_err(|_| invalid(format!("the header `{name}` is not UTF-8")))?;
    Ok(Some(text))
}

fn text(content: Option<Content>) -> Result<String, Problem> {
    match content {
        None => Err(invalid("the last message has no `content`")),
        Some(Content::Text(text)) => Ok(text),
        Some(Content::Parts(parts)) => {
            let mut all = String::new();
            for FromObject(part) in parts {
                match part.text {
                    Some(text) if part.r#type == "text" => all.push_str(&text),
                    _ => {
                        return Err(invalid(format!(
                            "a part of the last message is of type `{}`; only parts of type `text` \
                             are taken",
                            part.r#type
                        )));
                    }
                }
            }
            Ok(all)
        }
    }
}

/// Refuses fields that would be ignored although the answer's meaning depends on them.
fn refuse_meaning(name: &str, value: &Value) -> Result<(), Problem> {
    let none = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    let why = match name {
        _ if none => return Ok(()),
        "n" if *value != 1 => "a message has one turn, and a turn one answer; leave it out",
        "tools" | "functions" => {
            "tools are the plugin's own, from `[mcp]` in the configuration; leave it out"
        }
        "response_format" if value["type"] != "text" => {
            "a plugin answers in text; ask for another form in the message, and leave it out"
        }
        "audio" => "a plugin answers in text; leave it out",
        "modalities"
            if value
                .as_array()
                .is_some_and(|all| all.iter().any(|m| m != "text")) =>
        {
            "a plugin answers in text; leave it out"
        }
        "logprobs" if *value == true => "they are not known; leave it out",
        _ => return Ok(()),
    };
    Err(invalid(format!("`{name}` cannot be kept: {why}")))
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::BAD_REQUEST, detail)
}

/// Finds the latest user's message in these events. Returns none if there is no such message;
/// otherwise its id if its text is `asked`, as a repeated request is then for that message.
pub(super) fn sent_before(events: &[Event], asked: &str) -> Option<Option<MessageId>> {
    events.iter().rev().find_map(|event| match &event.body {
        EventBody::Message {
            message,
            from: Role::User,
            text,
            ..
        } => Some((text == asked).then(|| message.clone())),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::UnixMillis;

    fn read_json(
        headers: &[(&'static str, &'static str)],
        more: Value,
    ) -> Result<SessionRequest, Problem> {
        let mut body = json!({"model": "echo", "messages": [{"role": "user", "content": "hi"}]});
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        let headers = headers.iter().map(|(name, value)| {
            let name = http::HeaderName::from_static(name);
            (name, http::HeaderValue::from_static(value))
        });
        let headers = headers.collect();
        read(&headers, serde_json::from_value(body).expect("a request"))
    }

    #[test]
    fn a_session_is_named_by_header_or_user() {
        let header = [("x-abide-session", "h")];
        let both = read_json(&header, json!({"user": "u"})).expect("read");
        assert_eq!(both.session.to_string(), "h");
        let user = read_json(&[], json!({"user": "u"})).expect("read");
        assert_eq!(user.session.to_string(), "u");
        let neither = read_json(&[], json!({})).expect_err("neither");
        assert_eq!(neither.status(), 400);
        assert!(neither.detail().contains("`X-Abide-Session`"));
        assert!(neither.detail().contains("`user`"));
    }

    #[test]
    fn the_last_message_is_the_users_and_text() {
        let read = |messages: Value| read_json(&[], json!({"user": "u", "messages": messages}));
        let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        let history = json!([
            {"role": "system", "content": "x"},
            {"role": "assistant", "content": null, "tool_calls": []},
            {"role": "user", "content": parts},
        ]);
        assert_eq!(read(history).expect("read").text, "ab");
        let image = json!([{"type": "image_url", "image_url": {"url": "x"}}]);
        for (messages, reason) in [
            (json!([]), "empty"),
            (
                json!([{"role": "assistant", "content": "x"}]),
                "`assistant`",
            ),
            (json!([{"role": "user", "content": image}]), "`image_url`"),
        ] {
            let problem = read(messages).expect_err(reason);
            assert!(problem.detail().contains(reason), "{}", problem.detail());
        }
    }

    #[test]
    fn what_would_change_the_meaning_is_refused() {
        let read = |more: Value| {
            let mut more = more;
            more["user"] = json!("u");
            read_json(&[], more)
        };
        for fine in [
            json!({"n": 1, "temperature": 0.5, "max_tokens": 5, "tools": []}),
            json!({"response_format": {"type": "text"}, "seed": null}),
        ] {
            assert!(read(fine.clone()).is_ok(), "{fine}");
        }
        for (bad, name) in [
            (json!({"n": 2}), "`n`"),
            (json!({"tools": [{}]}), "`tools`"),
            (
                json!({"response_format": {"type": "json_schema"}}),
                "`response_format`",
            ),
            (json!({"logprobs": true}), "`logprobs`"),
        ] {
            let problem = read(bad).expect_err(name);
            assert!(problem.detail().contains(name), "{}", problem.detail());
        }
    }

    #[test]
    fn a_repeated_request_is_for_the_last_message_of_the_same_text() {
        let event = |cursor, from, text: &str| Event {
            cursor,
            timeline: None,
            turn: None,
            at: UnixMillis(0),
            body: EventBody::Message {
                message: MessageId::on(None, cursor),
                from,
                name: None,
                text: text.to_owned(),
                due: None,
                sender: None,
            },
        };
        let events = [
            event(1, Role::User, "a"),
            event(2, Role::User, "b"),
            event(3, Role::Assistant, "a"),
        ];
        assert_eq!(
            sent_before(&events, "b"),
            Some(Some(MessageId::on(None, 2)))
        );
        assert_eq!(sent_before(&events, "a"), Some(None));
        assert_eq!(sent_before(&events[2..], "a"), None);
        let again = read_json(&[("x-stainless-retry-count", "1")], json!({"user": "u"}));
        assert!(again.expect("read").again);
        let first = read_json(&[("x-stainless-retry-count", "0")], json!({"user": "u"}));
        assert!(!first.expect("read").again);
    }
}
