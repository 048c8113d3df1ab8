//! What an HTTP answer says of the request that it answers: above all whether that was acted on.

use http::{StatusCode, header};
use reqwest::Response;
use rmcp::model::{
    ClientJsonRpcMessage, ErrorData, JsonRpcMessage, RequestId, ServerJsonRpcMessage,
};

use super::errors::brief;
use super::sending::Fate;
use crate::providers::common::{Body, causes};

/// The most that is read of an answer that turns a request away.
const REFUSAL_MAX_BYTES: usize = 64 << 10;

/// A request, as far as its answer has to do with it.
pub(super) struct Asked<'a> {
    pub(super) server: &'a str,
    /// Its id; none if it is a notification or an answer of ours, to which nothing is answered.
    pub(super) request: Option<RequestId>,
    pub(super) in_session: bool,
    pub(super) has_token: bool,
}

/// An answer that can be worked with.
pub(super) enum Answer {
    /// Nothing is answered, or it comes another way.
    Accepted,
    /// The answer.
    Message(Box<ServerJsonRpcMessage>),
    /// It comes in a stream.
    Events(Response),
}

/// The id of a message that wants an answer.
pub(super) fn id_of(message: &ClientJsonRpcMessage) -> Option<RequestId> {
    match message {
        JsonRpcMessage::Request(request) => Some(request.id.clone()),
        _ => None,
    }
}

/// What kind of content an answer says that it is, in lower case.
pub(super) fn kind_of(response: &Response) -> String {
    let kind = response.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok());
    kind.unwrap_or("nothing that is named").to_ascii_lowercase()
}

impl Asked<'_> {
    /// Takes an answer in, of at most `bound` bytes.
    pub(super) async fn take(self, response: Response, bound: usize) -> Result<Answer, Fate> {
        let status = response.status();
        if !status.is_success() {
            let refusal = Body::read(response, REFUSAL_MAX_BYTES).await;
            let refusal = refusal.map(Body::bytes).unwrap_or_default();
            return self.turned_away(status, &refusal);
        }
        let nothing = matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT);
        let Some(id) = self.request.as_ref().filter(|_| !nothing) else {
            return Ok(Answer::Accepted);
        };
        let kind = kind_of(&response);
        if kind.starts_with("text/event-stream") {
            return Ok(Answer::Events(response));
        }
        if !kind.starts_with("application/json") {
            return Err(Fate::Unclear(format!(
                "it answered with {} in place of JSON or an event stream; check `mcp.{}.url`",
                brief(&kind),
                self.server
            )));
        }
        match Body::read(response, bound).await {
            Ok(Body::Whole(bytes)) => answer_to(id, &bytes),
            Ok(Body::Beginning(_)) => Err(Fate::TooLong),
            Err(error) => {
                let why = causes(&error);
                Err(Fate::Unclear(format!("its answer broke off: {why}")))
            }
        }
    }

    /// What an answer means whose status is no success. One that the server itself gave to this
    /// request, as an error of MCP, is an answer as any other.
    fn turned_away(self, status: StatusCode, body: &[u8]) -> Result<Answer, Fate> {
        let Self {
            server,
            request,
            in_session,
            has_token,
        } = self;
        let error = match serde_json::from_slice(body) {
            Ok(JsonRpcMessage::Error(error)) => Some(error),
            Ok::<ServerJsonRpcMessage, _>(_) | Err(_) => None,
        };
        let said = match &error {
            Some(error) => brief(&error.error.message),
            None => brief(&String::from_utf8_lossy(body)),
        };
        let forgotten = match status {
            StatusCode::NOT_FOUND => true,
            // Some SDKs' servers.
            StatusCode::BAD_REQUEST => error.is_some() && said.to_lowercase().contains("session"),
            _ => false,
        };
        if in_session && forgotten {
            return Err(Fate::Forgotten);
        }
        let (status_text, key) = (status.as_str(), format!("mcp.{server}"));
        match status.as_u16() {
            401 | 403 if has_token => Err(Fate::NotTaken(format!(
                "it refused the bearer token ({status_text}); check `{key}.token_env` or \
                 `{key}.token_file`"
            ))),
            401 | 403 => Err(Fate::NotTaken(format!(
                "it wants a bearer token ({status_text}); name one with `{key}.token_env` or \
                 `{key}.token_file`"
            ))),
            300..=399 => Err(Fate::NotTaken(format!(
                "it answered with a redirect ({status_text}), and none is followed; write the \
                 address that it leads to in `{key}.url`"
            ))),
            404 | 405 if error.is_none() => Err(Fate::NotTaken(format!(
                "there is no MCP server at its URL ({status_text}); check `{key}.url`"
            ))),
            ..=499 => match (request, error) {
                (Some(id), Some(error)) => Ok(correlated(id, error.error)),
                _ => Err(Fate::NotTaken(format!(
                    "it refused the request ({status_text}): {said}"
                ))),
            },
            _ => match (request, error) {
                (Some(id), Some(error)) if error.id.as_ref().is_some_and(|to| same(to, &id)) => {
                    Ok(correlated(id, error.error))
                }
                _ => Err(Fate::Unclear(format!("it failed ({status_text}): {said}"))),
            },
        }
    }
}

fn answer_to(id: &RequestId, bytes: &[u8]) -> Result<Answer, Fate> {
    let answer: ServerJsonRpcMessage = serde_json::from_slice(bytes)
        .map_err(|error| Fate::Unclear(format!("what it answered is no JSON-RPC ({error})")))?;
    match answer {
        JsonRpcMessage::Response(response) if same(&response.id, id) => Ok(Answer::Message(
            Box::new(JsonRpcMessage::Response(response)),
        )),
        // It could not read the id, or did not care.
        JsonRpcMessage::Error(error) if error.id.as_ref().is_none_or(|to| same(to, id)) => {
            Ok(correlated(id.clone(), error.error))
        }
        _ => Err(Fate::Unclear(
            "it answered another request than this one".to_owned(),
        )),
    }
}

fn correlated(id: RequestId, error: ErrorData) -> Answer {
    Answer::Message(Box::new(ServerJsonRpcMessage::error(error, Some(id))))
}

/// Servers give numbers back as texts.
fn same(a: &RequestId, b: &RequestId) -> bool {
    a == b || a.to_string() == b.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn turned_away(in_session: bool, has_token: bool, status: u16, body: &str) -> Result<(), Fate> {
        let asked = Asked {
            server: "web",
            request: Some(RequestId::Number(7)),
            in_session,
            has_token,
        };
        let status = StatusCode::from_u16(status).expect("a status");
        match asked.turned_away(status, body.as_bytes())? {
            Answer::Message(message) => {
                let message = serde_json::to_value(message).expect("JSON");
                assert_eq!(message["id"], 7, "{message}");
                Ok(())
            }
            Answer::Accepted | Answer::Events(_) => panic!("it was turned away"),
        }
    }

    fn error(id: serde_json::Value) -> String {
        json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32602, "message": "no such thing"}})
            .to_string()
    }

    #[test]
    fn only_what_was_turned_away_has_certainly_not_happened() {
        for status in [302, 307, 400, 401, 403, 404, 405, 409, 413, 429, 499] {
            let fate = turned_away(false, true, status, "no");
            assert!(matches!(fate, Err(Fate::NotTaken(_))), "{status}: {fate:?}");
        }
        for status in [500, 502, 503, 504, 529] {
            for body in ["no", "", &error(json!(null)), &error(json!(8))] {
                let fate = turned_away(true, true, status, body);
                assert!(matches!(fate, Err(Fate::Unclear(_))), "{status}: {fate:?}");
            }
        }
        // An error that the server answers with is an answer.
        for (status, id) in [
            (400, json!(7)),
            (400, json!(null)),
            (500, json!(7)),
            (500, json!("7")),
        ] {
            assert_eq!(turned_away(true, false, status, &error(id)), Ok(()));
        }
    }

    #[test]
    fn a_session_that_is_forgotten_is_told_from_a_wrong_url() {
        assert_eq!(turned_away(true, false, 404, ""), Err(Fate::Forgotten));
        let text = "Bad Request: No valid session ID provided";
        let body =
            json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32000, "message": text}});
        let body = body.to_string();
        assert_eq!(turned_away(true, false, 400, &body), Err(Fate::Forgotten));
        let fate = turned_away(false, false, 404, "nothing here");
        assert!(
            matches!(&fate, Err(Fate::NotTaken(why)) if why.contains("`mcp.web.url`")),
            "{fate:?}"
        );
    }

    #[test]
    fn a_refused_token_is_told_with_its_keys() {
        for status in [401, 403] {
            for (has_token, part) in [
                (true, "refused the bearer token"),
                (false, "wants a bearer"),
            ] {
                let fate = turned_away(false, has_token, status, &error(json!(7)));
                let Err(Fate::NotTaken(why)) = fate else {
                    panic!("{fate:?}");
                };
                for part in [part, "`mcp.web.token_env`", "`mcp.web.token_file`"] {
                    assert!(why.contains(part), "{part} in {why}");
                }
            }
        }
    }

    #[test]
    fn an_answer_to_another_request_is_none() {
        let to = |id: serde_json::Value| {
            let answer = json!({"jsonrpc": "2.0", "id": id, "result": {"content": []}});
            answer_to(&RequestId::Number(7), answer.to_string().as_bytes()).is_ok()
        };
        assert!(to(json!(7)) && to(json!("7")));
        assert!(!to(json!(8)) && !to(json!("x")));
        for garbage in [
            "",
            "{",
            "[]",
            "<html>",
            "{\"jsonrpc\":\"2.0\",\"method\":\"ping\",\"id\":7}",
        ] {
            let fate = answer_to(&RequestId::Number(7), garbage.as_bytes()).err();
            assert!(
                matches!(fate, Some(Fate::Unclear(_))),
                "{garbage}: {fate:?}"
            );
        }
    }
}
