//! The request for a turn in each server's format, and the checks of its response.

use abide::loadgen::{Reply, Service, TurnRequest, Wrong, write_post};
use serde::Deserialize;

/// Number of recent messages that a session keeps.
pub(crate) const KEPT: u64 = 20;
/// Length of a message.
pub(crate) const TEXT_BYTES: usize = 200;

/// The format of a server's requests and responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Abide's: a message to a session, answered with the events of its turn.
    Messages,
    /// A call of a Restate virtual object.
    Object,
    /// A POST to the session's path, as workerd's worker expects.
    Path,
}

/// A chat server as a target of the load generator.
#[derive(Clone, Debug)]
pub(crate) struct ChatTarget {
    pub(crate) host: String,
    pub(crate) shape: Shape,
}

/// Returns the name of a session; all names have the same length.
pub(crate) fn name(session: usize) -> String {
    format!("s{session:05}")
}

/// A turn's output.
#[derive(Deserialize)]
struct TurnOutput {
    turn: u64,
    kept: u64,
}

/// The fields of Abide's response that are checked.
#[derive(Deserialize)]
struct EndedTurn<'a> {
    turn: u64,
    #[serde(borrow)]
    outcome: &'a str,
    output: Vec<Output>,
}

#[derive(Deserialize)]
struct Output {
    text: String,
}

impl Service for ChatTarget {
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
        let output: TurnOutput = match self.shape {
            Shape::Messages => {
                let ended: EndedTurn<'_> =
                    serde_json::from_slice(body).map_err(|error| shown(&error))?;
                let [Output { text }] = &ended.output[..] else {
                    return Err(shown(&"a turn says one thing"));
                };
                if ended.outcome != "completed" {
                    return Err(shown(&"a turn completes"));
                }
                let output: TurnOutput =
                    serde_json::from_str(text).map_err(|error| shown(&error))?;
                if output.turn != ended.turn {
                    return Err(shown(&"daemon and guest count the same turns"));
                }
                output
            }
            Shape::Object | Shape::Path => {
                serde_json::from_slice(body).map_err(|error| shown(&error))?
            }
        };
        if output.kept != output.turn.min(KEPT) {
            return Err(shown(&"the last 20 messages are kept"));
        }
        Ok(Reply::Done(output.turn))
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

    fn chat(shape: Shape) -> ChatTarget {
        ChatTarget {
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
        let text = r#"{"turn":3,"kept":3}"#;
        assert_eq!(ended(3, "completed", text), Ok(Reply::Done(3)));
        assert!(ended(3, "failed", text).is_err());
        assert!(ended(4, "completed", text).is_err());
    }
}
