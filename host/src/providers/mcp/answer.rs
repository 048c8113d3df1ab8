//! Interprets an HTTP response to a request: above all, whether the request was acted on.

use http::{HeaderMap, StatusCode, header};
use reqwest::Response;
use rmcp::model::{
    ClientJsonRpcMessage, ErrorData, JsonRpcMessage, RequestId, ServerJsonRpcMessage,
};

use super::bodies::{self, AnswerKind, ByteChunks};
use super::brief::brief;
use super::delivery::DeliveryFate;
use super::jsonrpc::{JsonRpcReader, UNREADABLE, error_in};
use super::opening;
use super::requests::Requests;

/// The maximum number of bytes read of a response that rejects a request.
const REFUSAL_MAX_BYTES: usize = 64 << 10;

/// The facts about a request that are needed to interpret its response.
pub(super) struct PostedRequest<'a> {
    pub(super) server: &'a str,
    /// The server's URL in its form for messages.
    pub(super) url: &'a str,
    /// Its id; `None` for a notification or an answer of ours, which get no answer.
    pub(super) request: Option<i64>,
    /// All requests that wait for their answers.
    pub(super) requests: &'a Requests,
    pub(super) in_session: bool,
    pub(super) has_token: bool,
}

/// A usable response.
pub(super) enum PostResponse {
    /// There is no answer, or it arrives in another way.
    Accepted,
    Message(Box<ServerJsonRpcMessage>),
    /// The answer arrives in this stream.
    Events(ByteChunks),
}

/// Returns the id of a message that expects an answer.
pub(super) fn id_of(message: &ClientJsonRpcMessage) -> Option<i64> {
    match message {
        JsonRpcMessage::Request(request) => match request.id {
            RequestId::Number(id) => Some(id),
            // We only use numbers.
            RequestId::String(_) => None,
        },
        _ => None,
    }
}

/// Returns the declared content type, in lower case.
pub(super) fn kind_of(response: &Response) -> String {
    let kind = response.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok());
    kind.unwrap_or("nothing that is named").to_ascii_lowercase()
}

impl PostedRequest<'_> {
    /// Reads a response, of at most `bound` bytes.
    pub(super) async fn take(
        self,
        response: Response,
        bound: usize,
    ) -> Result<PostResponse, DeliveryFate> {
        let status = response.status();
        if !status.is_success() {
            let oauth = wants_oauth(status, response.headers());
            let refusal = bodies::read(bodies::chunks(response), REFUSAL_MAX_BYTES).await;
            let (refusal, _) = refusal.unwrap_or_default();
            return self.turned_away(status, &refusal, oauth);
        }
        let nothing = matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT);
        let Some(id) = self.request.filter(|_| !nothing) else {
            return Ok(PostResponse::Accepted);
        };
        let named = kind_of(&response);
        let broke = |why| DeliveryFate::Unclear(format!("its answer broke off: {why}"));
        let (kind, chunks) = bodies::classify_body(response, &named)
            .await
            .map_err(broke)?;
        match kind {
            AnswerKind::Events => Ok(PostResponse::Events(chunks)),
            AnswerKind::Json => match bodies::read(chunks, bound).await.map_err(broke)? {
                (bytes, true) => self.answer_to(id, &bytes),
                (_, false) => Err(DeliveryFate::TooLong),
            },
            AnswerKind::Strange => Err(DeliveryFate::Unclear(format!(
                "it answered with {} in place of JSON or an event stream; check `mcp.{}.url`",
                brief(&named),
                self.server
            ))),
        }
    }

    /// Interprets a response whose status is not a success. A JSON-RPC error from the server itself
    /// to this request is an answer like any other.
    fn turned_away(
        &self,
        status: StatusCode,
        body: &[u8],
        oauth: bool,
    ) -> Result<PostResponse, DeliveryFate> {
        let error = error_in(body);
        let said = match &error {
            Some((_, error)) => brief(&error.message),
            None => brief(&String::from_utf8_lossy(body)),
        };
        // An error that names our request comes from the tool, unless it is clearly about the
        // session: a call that has happened must not be sent again.
        let ours = self.request.is_some() && error.as_ref().is_some_and(|e| e.0 == self.request);
        let forgotten = match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => !ours || is_of_session(&said),
            // The status that servers built on some SDKs use.
            StatusCode::BAD_REQUEST => is_of_session(&said),
            _ => false,
        };
        if self.in_session && forgotten {
            return Err(DeliveryFate::Forgotten);
        }
        let Some(id) = self.request else {
            // No one waits for a notification; the next request will show what is wrong.
            tracing::debug!(server = self.server, %status, said, "a notification was refused");
            return Ok(PostResponse::Accepted);
        };
        let (status_text, key) = (status.as_str(), format!("mcp.{}", self.server));
        match status.as_u16() {
            401 if oauth => Err(DeliveryFate::NotTaken(opening::wants_oauth(
                self.server,
                self.url,
            ))),
            401 | 403 if self.has_token => Err(DeliveryFate::NotTaken(format!(
                "it refused the bearer token ({status_text}); check `{key}.token_env`, \
                 `{key}.token_file` or `{key}.headers`"
            ))),
            401 | 403 => Err(DeliveryFate::NotTaken(format!(
                "it wants a bearer token ({status_text}); name one with `{key}.token_env` or \
                 `{key}.token_file`, or what else it wants with `{key}.headers`"
            ))),
            300..=399 => Err(DeliveryFate::NotTaken(format!(
                "it answered with a redirect ({status_text}), and none is followed; write the \
                 address that it leads to in `{key}.url`"
            ))),
            404 | 405 if error.is_none() => Err(DeliveryFate::NotTaken(format!(
                "there is no MCP server at its URL ({status_text}); check `{key}.url`"
            ))),
            // A proxy in front of the server gave up waiting; the request may still have been acted
            // on.
            408 | 424 | 499 if error.is_none() => Err(DeliveryFate::Unclear(format!(
                "it was not done in time ({status_text}): {said}"
            ))),
            ..=499 => match error {
                Some((_, error)) => Ok(self.correlated(id, error)),
                None => Err(DeliveryFate::NotTaken(format!(
                    "it refused the request ({status_text}): {said}"
                ))),
            },
            _ => match error {
                Some((Some(to), error)) if to == id => Ok(self.correlated(id, error)),
                _ => Err(DeliveryFate::Unclear(format!(
                    "it failed ({status_text}): {said}"
                ))),
            },
        }
    }

    fn answer_to(&self, id: i64, bytes: &[u8]) -> Result<PostResponse, DeliveryFate> {
        let reader = JsonRpcReader {
            requests: self.requests,
            posted: Some(id),
        };
        let answers = reader.read(bytes, || Some(id)).into_iter();
        let mut answers = answers.filter(|message| match message {
            JsonRpcMessage::Response(answer) => answer.id == RequestId::Number(id),
            JsonRpcMessage::Error(answer) => answer.id == Some(RequestId::Number(id)),
            _ => false,
        });
        match answers.next() {
            Some(JsonRpcMessage::Error(answer)) if answer.error.code.0 == UNREADABLE => {
                Err(DeliveryFate::Unclear(answer.error.message.into_owned()))
            }
            Some(answer) => Ok(PostResponse::Message(Box::new(answer))),
            None => Err(DeliveryFate::Unclear(
                "it answered another request than this one".to_owned(),
            )),
        }
    }

    fn correlated(&self, id: i64, error: ErrorData) -> PostResponse {
        self.requests.forget(id);
        let id = Some(RequestId::Number(id));
        PostResponse::Message(Box::new(ServerJsonRpcMessage::error(error, id)))
    }
}

/// Returns whether a text is about an unknown MCP session.
fn is_of_session(text: &str) -> bool {
    let text = text.to_lowercase();
    let words = [
        "session not found",
        "session id",
        "session-id",
        "sessionid",
        "session expired",
        "session has expired",
        "no valid session",
        "invalid session",
        "unknown session",
        "missing session",
        "session terminated",
        "session has been terminated",
        "session was terminated",
        "session does not exist",
        "server not initialized",
    ];
    words.iter().any(|words| text.contains(words))
}

/// Returns whether an error answer means that the server no longer knows the MCP session.
pub(super) fn is_lost_session(error: &ErrorData) -> bool {
    // The codes that SDKs and gateways use for it. A tool that ran returns a result instead.
    matches!(error.code.0, -32_000 | -32_001 | -32_600 | -32_603) && is_of_session(&error.message)
}

/// Returns whether the response names where a human has to log in.
fn wants_oauth(status: StatusCode, headers: &HeaderMap) -> bool {
    let challenges = headers.get_all(header::WWW_AUTHENTICATE).iter();
    let mut challenges = challenges.filter_map(|challenge| challenge.to_str().ok());
    let names = |challenge: &str| {
        let challenge = challenge.to_ascii_lowercase();
        challenge.contains("resource_metadata") || challenge.contains("authorization_uri")
    };
    status == StatusCode::UNAUTHORIZED && challenges.any(names)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::jsonrpc_tests::requests;
    use super::*;

    fn asked(requests: &Requests, in_session: bool, has_token: bool) -> PostedRequest<'_> {
        PostedRequest {
            server: "web",
            url: "http://web/mcp",
            request: Some(5),
            requests,
            in_session,
            has_token,
        }
    }

    fn turned_away(
        in_session: bool,
        has_token: bool,
        status: u16,
        body: &str,
    ) -> Result<(), DeliveryFate> {
        let requests = requests();
        let asked = asked(&requests, in_session, has_token);
        let status = StatusCode::from_u16(status).expect("a status");
        match asked.turned_away(status, body.as_bytes(), false)? {
            PostResponse::Message(message) => {
                let message = serde_json::to_value(message).expect("JSON");
                assert_eq!(message["id"], 5, "{message}");
                Ok(())
            }
            PostResponse::Accepted | PostResponse::Events(_) => panic!("it was turned away"),
        }
    }

    fn error(id: serde_json::Value) -> String {
        json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32602, "message": "no such thing"}})
            .to_string()
    }

    #[test]
    fn only_what_was_turned_away_has_certainly_not_happened() {
        for status in [302, 307, 400, 401, 403, 404, 405, 409, 413, 429] {
            let fate = turned_away(false, true, status, "no");
            assert!(
                matches!(fate, Err(DeliveryFate::NotTaken(_))),
                "{status}: {fate:?}"
            );
        }
        // A gateway gave up waiting.
        for status in [408, 424, 499] {
            let fate = turned_away(false, true, status, "upstream timed out");
            assert!(
                matches!(fate, Err(DeliveryFate::Unclear(_))),
                "{status}: {fate:?}"
            );
        }
        for status in [500, 502, 503, 504, 529] {
            for body in ["no", "", &error(json!(null)), &error(json!(8))] {
                let fate = turned_away(true, true, status, body);
                assert!(
                    matches!(fate, Err(DeliveryFate::Unclear(_))),
                    "{status}: {fate:?}"
                );
            }
        }
        // An error from the server itself is an answer.
        for (status, id) in [
            (400, json!(5)),
            (400, json!(null)),
            (500, json!(5)),
            (500, json!("5")),
        ] {
            assert_eq!(turned_away(true, false, status, &error(id)), Ok(()));
        }
    }

    #[test]
    fn a_session_that_is_forgotten_is_told_from_a_wrong_url() {
        assert_eq!(
            turned_away(true, false, 404, ""),
            Err(DeliveryFate::Forgotten)
        );
        let text = "Bad Request: No valid session ID provided";
        let body =
            json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32000, "message": text}});
        let body = body.to_string();
        assert_eq!(
            turned_away(true, false, 400, &body),
            Err(DeliveryFate::Forgotten)
        );
        for (status, text) in [
            (400, "Invalid session ID"),
            (400, "Invalid or missing session ID"),
            (410, "gone"),
        ] {
            assert_eq!(
                turned_away(true, false, status, text),
                Err(DeliveryFate::Forgotten),
                "{text}"
            );
        }
        let body = json!({"jsonrpc": "2.0", "id": null,
            "error": {"code": -32000, "message": "Bad Request: Server not initialized"}});
        let fate = turned_away(true, false, 400, &body.to_string());
        assert_eq!(fate, Err(DeliveryFate::Forgotten));
        // A tool's own session is not an MCP session, and its error is an answer.
        for (status, text, forgotten) in [
            (400, "browser session crashed after submit", false),
            (404, "browser session crashed after submit", false),
            (404, "no such file", false),
            (400, "Session not found", true),
            (404, "Session not found", true),
        ] {
            let body =
                json!({"jsonrpc": "2.0", "id": 5, "error": {"code": -32000, "message": text}});
            let expected = match forgotten {
                true => Err(DeliveryFate::Forgotten),
                false => Ok(()),
            };
            let found = turned_away(true, false, status, &body.to_string());
            assert_eq!(found, expected, "{status} {text}");
        }
        let fate = turned_away(false, false, 404, "nothing here");
        assert!(
            matches!(&fate, Err(DeliveryFate::NotTaken(why)) if why.contains("`mcp.web.url`")),
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
                let fate = turned_away(false, has_token, status, &error(json!(5)));
                let Err(DeliveryFate::NotTaken(why)) = fate else {
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
        let answered = |text: &str| {
            let requests = requests();
            asked(&requests, true, false).answer_to(5, text.as_bytes())
        };
        let to = |id: serde_json::Value| {
            let answer = json!({"jsonrpc": "2.0", "id": id, "result": {"content": []}});
            answered(&answer.to_string()).is_ok()
        };
        assert!(to(json!(5)) && to(json!("5")));
        assert!(!to(json!(8)) && !to(json!("x")));
        for garbage in [
            "",
            "{",
            "[]",
            "<html>",
            "{\"jsonrpc\":\"2.0\",\"method\":\"ping\",\"id\":5}",
        ] {
            let fate = answered(garbage).err();
            assert!(
                matches!(fate, Some(DeliveryFate::Unclear(_))),
                "{garbage}: {fate:?}"
            );
        }
    }

    #[test]
    fn what_is_no_request_needs_no_answer() {
        let requests = requests();
        for (status, in_session, body) in [(400, true, "no"), (404, false, ""), (500, true, "no")] {
            let notification = PostedRequest {
                request: None,
                ..asked(&requests, in_session, false)
            };
            let status = StatusCode::from_u16(status).expect("a status");
            let answer = notification.turned_away(status, body.as_bytes(), false);
            assert!(matches!(answer, Ok(PostResponse::Accepted)), "{status}");
        }
    }

    #[test]
    fn a_login_that_is_wanted_is_named_with_the_remedy() {
        let mut headers = HeaderMap::new();
        let challenge = "Bearer error=\"x\", resource_metadata=\"https://web/.well-known/x\"";
        headers.insert(
            header::WWW_AUTHENTICATE,
            challenge.parse().expect("a header"),
        );
        assert!(wants_oauth(StatusCode::UNAUTHORIZED, &headers));
        assert!(!wants_oauth(StatusCode::FORBIDDEN, &headers));
        assert!(!wants_oauth(StatusCode::UNAUTHORIZED, &HeaderMap::new()));
        let requests = requests();
        let asked = asked(&requests, false, true);
        let fate = asked.turned_away(StatusCode::UNAUTHORIZED, b"", true);
        let Err(DeliveryFate::NotTaken(why)) = fate else {
            panic!("it was turned away");
        };
        for part in ["OAuth", "`mcp.web.token_env`", "`headers`", "mcp-remote"] {
            assert!(why.contains(part), "{part} in {why}");
        }
    }
}
