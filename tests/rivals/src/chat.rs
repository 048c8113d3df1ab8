//! How each server is asked for a turn of the chat, and what its answer must say.

use abide::loadgen::{Reply, Service, TurnRequest, Wrong, write_post};
use serde::Deserialize;

/// Messages that a session keeps.
pub(crate) const KEPT: u64 = 20;
/// How long a message is.
pub(crate) const TEXT_BYTES: usize = 200;

/// The shape of a server's requests and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Abide's: a message to a session, and the events of its turn.
    Messages,
    /// A call of an object of Restate.
    Object,
    /// As the worker of workerd has it.
    Path,
}

/// A server of the chat, for the load engine.
#[derive(Clone, Debug)]
pub(crate) struct Chat {
    pub(crate) host: String,
    pub(crate) shape: Shape,
}

/// The name of a session; all are equally long.
pub(crate) fn name(session: usize) -> String {
    format!("s{session:05}")
}

/// What a turn says.
#[derive(Deserialize)]
struct Said {
    turn: u64,
    kept: u64,
}

/// As much of Abide's answer as is looked at.
#[derive(Deserialize)]
struct Ended<'a> {
    turn: u64,
    #[serde(borrow)]
    outcome: &'a str,
    output: Vec<Output>,
}

#[derive(Deserialize)]
struct Output {
    text: String,
}

impl Service for Chat {
    fn request(&self, turn: &TurnRequest<'_>, to: &mut Vec<u8>) {
        let session = turn.session;
        let body = ["{\"text\":\"", turn.text, "\"}"];
        let path = match self.shape {
            Shape::Messages => format_args!("/v1/sessions/s{session:05}/messages?wait=30s"),
            Shape::Object => format_args!("/Chat/s{session:05}/say"),
            Shape::Path => format_args!("/chat/s{session:05}"),
        };
        write_post(to, &self.host, path, format_args!(""), &body);
    }

    fn read(&self, _: &TurnRequest<'_>, _: u16, body: &[u8]) -> Result<Reply, Wrong> {
        let shown = |why: &dyn std::fmt::Display| {
            Wrong(format!("{why}: {}", String::from_utf8_lossy(body)))
        };
        let said: Said = match self.shape {
            Shape::Messages => {
                let ended: Ended<'_> =
                    serde_json::from_slice(body).map_err(|error| shown(&error))?;
                let [Output { text }] = &ended.output[..] else {
                    return Err(shown(&"a turn says one thing"));
                };
                if ended.outcome != "completed" {
                    return Err(shown(&"a turn completes"));
                }
                let said: Said = serde_json::from_str(text).map_err(|error| shown(&error))?;
                if said.turn != ended.turn {
                    return Err(shown(&"daemon and guest count the same turns"));
                }
                said
            }
            Shape::Object | Shape::Path => {
                serde_json::from_slice(body).map_err(|error| shown(&error))?
            }
        };
        if said.kept != said.turn.min(KEPT) {
            return Err(shown(&"the last 20 messages are kept"));
        }
        Ok(Reply::Done(said.turn))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: TurnRequest<'_> = TurnRequest {
        session: 7,
        message: 1,
        text: "hello",
    };

    fn chat(shape: Shape) -> Chat {
        Chat {
            host: "h:1".to_owned(),
            shape,
        }
    }

    #[test]
    fn requests_name_the_session_and_say_the_text() {
        for (shape, path) in [
            (Shape::Messages, "/v1/sessions/s00007/messages?wait=30s"),
            (Shape::Object, "/Chat/s00007/say"),
            (Shape::Path, "/chat/s00007"),
        ] {
            let mut bytes = Vec::new();
            chat(shape).request(&TURN, &mut bytes);
            let text = String::from_utf8(bytes).unwrap();
            assert!(
                text.starts_with(&format!("POST {path} HTTP/1.1\r\n")),
                "{text}"
            );
            assert!(text.ends_with("\r\n\r\n{\"text\":\"hello\"}"), "{text}");
        }
        assert_eq!(name(7), "s00007");
    }

    #[test]
    fn answers_are_checked() {
        let plain = |body: &str| chat(Shape::Path).read(&TURN, 200, body.as_bytes());
        assert_eq!(plain(r#"{"turn":3,"kept":3}"#), Ok(Reply::Done(3)));
        assert_eq!(plain(r#"{"turn":30,"kept":20}"#), Ok(Reply::Done(30)));
        for wrong in [
            r#"{"turn":3,"kept":2}"#,
            r#"{"turn":30,"kept":30}"#,
            "{}",
            "",
        ] {
            assert!(plain(wrong).is_err(), "{wrong}");
        }
        let ended = |turn: u64, outcome: &str, text: &str| {
            let body = serde_json::json!({
                "message": "m1", "turn": turn, "outcome": outcome, "output": [{"text": text}],
            });
            chat(Shape::Messages).read(&TURN, 200, body.to_string().as_bytes())
        };
        let said = r#"{"turn":3,"kept":3}"#;
        assert_eq!(ended(3, "completed", said), Ok(Reply::Done(3)));
        assert!(ended(3, "failed", said).is_err());
        assert!(ended(4, "completed", said).is_err());
    }
}
