//! Abide as a service under load: writes requests for turns and reads the answers. It reads only the
//! fields that it checks, borrowed from the body: the load shares the CPUs with the daemon.

use std::borrow::Cow;

use serde::Deserialize;

use super::setup::SessionNames;
use crate::loadgen::{Reply, Service, TurnRequest, Wrong, write_post};

/// How long the daemon may wait for a turn before it answers that the turn is pending. Shorter than
/// the load's timeout.
const WAIT: &str = "?wait=20s";

/// A daemon under load.
pub(super) struct Abide {
    names: SessionNames,
    /// `host:port`, the value of the `Host` header.
    host: String,
    /// Headers of every request.
    headers: String,
    wait: bool,
    keys: bool,
    /// Whether the plugin is `echo`, whose answers can be checked.
    echo: bool,
}

/// The fields of an answer that the check reads.
#[derive(Deserialize)]
struct TurnResponse<'a> {
    message: &'a str,
    turn: Option<u64>,
    #[serde(borrow)]
    outcome: Option<&'a str>,
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    output: Vec<OutputEvent<'a>>,
}

/// One event of a turn's output.
#[derive(Deserialize)]
struct OutputEvent<'a> {
    kind: &'a str,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
}

impl Abide {
    /// Creates the service of the daemon at `host`, with its bearer token.
    pub(super) fn new(
        names: SessionNames,
        host: &str,
        token: Option<&str>,
        wait: bool,
        keys: bool,
        plugin: &str,
    ) -> Self {
        let headers = token.map(|token| format!("authorization: Bearer {token}\r\n"));
        Self {
            names,
            host: host.to_owned(),
            headers: headers.unwrap_or_default(),
            wait,
            keys,
            echo: plugin == "echo",
        }
    }
}

impl Service for Abide {
    fn request(&self, turn: &TurnRequest<'_>, to: &mut Vec<u8>) {
        let (session, message) = (turn.session, turn.message);
        let (prefix, wait) = (self.names.prefix(), if self.wait { WAIT } else { "" });
        let headers = &self.headers;
        let path = format_args!("/v1/sessions/{prefix}{session}/messages{wait}");
        let body = ["{\"text\":\"", turn.text, "\"}"];
        if self.keys {
            // Unique within the session, as idempotency keys must be.
            let headers = format_args!("{headers}idempotency-key: {message}\r\n");
            write_post(to, &self.host, path, headers, &body);
        } else {
            write_post(to, &self.host, path, format_args!("{headers}"), &body);
        }
    }

    fn read(&self, turn: &TurnRequest<'_>, status: u16, body: &[u8]) -> Result<Reply, Wrong> {
        let wrong = |why: &str| {
            let body = String::from_utf8_lossy(body);
            Wrong(format!("{why}: {status} {body}"))
        };
        let response: TurnResponse<'_> = serde_json::from_slice(body)
            .map_err(|error| wrong(&format!("an answer that is none ({error})")))?;
        if response.message.is_empty() {
            return Err(wrong("an acknowledgement of nothing"));
        }
        match (status, response.turn, response.outcome) {
            (202, None, None) if self.wait => Ok(Reply::Pending),
            (202, None, None) => Ok(Reply::Accepted),
            (200, Some(number), Some("completed")) => {
                if self.echo && !is_echo(&response.output, number, turn.text) {
                    return Err(wrong("not an echo of what was said"));
                }
                Ok(Reply::Done(number))
            }
            (200, Some(number), Some("failed")) => {
                let reason = response.reason.unwrap_or(Cow::Borrowed("no reason given"));
                Ok(Reply::Failed(number, reason.into_owned()))
            }
            _ => Err(wrong("neither accepted nor ended")),
        }
    }

    fn is_keyed(&self) -> bool {
        self.keys
    }
}

/// Returns whether the output is the echo `#N user: TEXT`, which may follow an echo of a recovery
/// message.
fn is_echo(output: &[OutputEvent<'_>], turn: u64, text: &str) -> bool {
    let is_line = |output: &OutputEvent<'_>, from: &str, text: Option<&str>| {
        let rest = output.text.as_deref().and_then(|line| {
            let line = line.strip_prefix('#')?;
            let digits = line.find(' ')?;
            let (number, line) = line.split_at(digits);
            (number.parse() == Ok(turn)).then_some(())?;
            line.strip_prefix(' ')?
                .strip_prefix(from)?
                .strip_prefix(": ")
        });
        output.kind == "message" && rest.is_some_and(|rest| text.is_none_or(|text| text == rest))
    };
    match output {
        [echo] => is_line(echo, "user", Some(text)),
        [notice, echo] => is_line(notice, "system", None) && is_line(echo, "user", Some(text)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn abide(wait: bool, keys: bool, token: Option<&str>) -> Abide {
        Abide::new(SessionNames::draw(), "h:1", token, wait, keys, "echo")
    }

    const TURN: TurnRequest<'static> = TurnRequest {
        session: 3,
        message: 12,
        text: "hello",
    };

    #[test]
    fn requests_are_what_the_api_wants() {
        let write = |abide: &Abide| {
            let mut bytes = Vec::new();
            abide.request(&TURN, &mut bytes);
            String::from_utf8(bytes).expect("ASCII")
        };
        let plain = write(&abide(false, false, None));
        assert!(
            plain.contains("-3/messages HTTP/1.1\r\nhost: h:1\r\n"),
            "{plain}"
        );
        assert!(plain.ends_with("\r\n\r\n{\"text\":\"hello\"}"), "{plain}");
        let full = write(&abide(true, true, Some("secret")));
        for part in [
            "/messages?wait=",
            "\r\nidempotency-key: 12\r\n",
            "\r\nauthorization: Bearer secret\r\n",
            "\r\ncontent-length: 16\r\n",
        ] {
            assert!(full.contains(part), "{part:?} in {full}");
        }
    }

    fn read(abide: &Abide, status: u16, body: &str) -> Result<Reply, Wrong> {
        abide.read(&TURN, status, body.as_bytes())
    }

    #[test]
    fn acknowledgements_are_told_from_turns() {
        let accepted = r#"{"message":"m1","cursor":1,"duplicate":false}"#;
        assert_eq!(
            read(&abide(false, false, None), 202, accepted),
            Ok(Reply::Accepted)
        );
        assert_eq!(
            read(&abide(true, false, None), 202, accepted),
            Ok(Reply::Pending)
        );
        assert!(read(&abide(true, false, None), 200, accepted).is_err());
        for nonsense in ["", "{}", "[]", r#"{"message":""}"#] {
            assert!(
                read(&abide(false, false, None), 202, nonsense).is_err(),
                "{nonsense}"
            );
        }
        let failed = r#"{"message":"m1","turn":4,"outcome":"failed","reason":"a \"trap\""}"#;
        let reply = Reply::Failed(4, "a \"trap\"".to_owned());
        assert_eq!(read(&abide(true, false, None), 200, failed), Ok(reply));
    }

    #[test]
    fn echoes_are_compared_to_the_letter() {
        let ended = |texts: &[&str]| {
            let output: Vec<_> = texts
                .iter()
                .map(|text| serde_json::json!({"kind": "message", "from": "assistant", "text": text}))
                .collect();
            serde_json::json!({
                "message": "m1", "cursor": 1, "turn": 7, "outcome": "completed", "output": output,
            })
            .to_string()
        };
        let system = "#7 system: [system] The daemon\nrestarted.";
        for (texts, fine) in [
            (&["#7 user: hello"][..], true),
            (&[system, "#7 user: hello"], true),
            (&["#7 user: hellO"], false),
            (&["#8 user: hello"], false),
            (&["#7 user: hello", "#7 user: hello"], false),
            (&[system], false),
            (&[], false),
        ] {
            let reply = read(&abide(true, true, None), 200, &ended(texts));
            assert_eq!(reply.is_ok(), fine, "{texts:?}: {reply:?}");
        }
        let other = Abide::new(SessionNames::draw(), "h:1", None, true, false, "poet");
        assert_eq!(read(&other, 200, &ended(&["a rhyme"])), Ok(Reply::Done(7)));
    }
}
