//! The HTTP client of the daemon: one request, one typed answer or one typed error.

use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::documents::ProblemDocument;
use crate::domain::{EventId, TimelineName};

/// The time limit for connecting. During a restart, connections wait in the listen backlog, so
/// connecting is fast even then.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The time limit for an answer, beyond what the request itself asks to wait. Longer than the
/// replacement of a worker takes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// The length to which an answer that is not a problem document is cut in an error.
const FOREIGN_BODY_CHARS: usize = 200;
/// The characters that are escaped in a segment of a path or a value of a query: all but the
/// unreserved ones.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Escapes text as one segment of a path, or one value of a query.
pub(crate) fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nothing listens at the address.
    #[error("no daemon answers at {url}; start one with `abide serve`{hint}")]
    Unreachable {
        url: String,
        /// What else could be wrong, appended to the message.
        hint: String,
        #[source]
        source: reqwest::Error,
    },
    /// The connection broke, or the answer took too long.
    #[error("the connection to {url} was lost: {reason}; try again")]
    Lost {
        url: String,
        /// The error of the connection.
        reason: String,
    },
    /// The daemon refused the request, with a reason.
    #[error(transparent)]
    Problem(#[from] ProblemResponse),
    /// The answer is not what the API promises.
    #[error(
        "{url} answered what this abide does not understand: {reason}; is it an abide daemon of this version?"
    )]
    Foreign {
        url: String,
        /// How the answer differs.
        reason: String,
    },
    /// The address or the token cannot be used.
    #[error("{0}")]
    Setup(String),
}

impl ClientError {
    /// Returns whether the same request may succeed in a moment: the daemon restarts, or a
    /// connection broke.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Lost { .. } => true,
            Self::Problem(problem) => matches!(problem.0.status, 502..=504),
            Self::Unreachable { .. } | Self::Foreign { .. } | Self::Setup(_) => false,
        }
    }

    /// Returns the HTTP status, if the daemon answered with a problem.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Problem(problem) => Some(problem.0.status),
            _ => None,
        }
    }
}

/// A problem that the daemon reports, with what the command line knows to do about it.
#[derive(Clone, Debug, Default, thiserror::Error)]
#[error("{}", self.text())]
pub(crate) struct ProblemResponse(pub(crate) ProblemDocument);

impl ProblemResponse {
    /// With trimmed events: the smallest cursor that can be followed from.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.0.facts.get("oldest")?.as_u64()
    }

    /// The session's history was cut before the position that was asked for: the position to follow
    /// from instead.
    pub(crate) fn ahead(&self) -> Option<EventId> {
        let last = self.0.facts.get("last")?.as_u64()?;
        if !self.0.r#type.ends_with(":cursor-ahead") {
            return None;
        }
        let timeline = self.0.facts.get("timeline").and_then(Value::as_str);
        Some(EventId {
            timeline: timeline.and_then(TimelineName::parse),
            cursor: last,
        })
    }

    /// The abstract name of the local socket by which the daemon's user may do what was refused.
    pub(crate) fn local_socket(&self) -> Option<String> {
        let name = self.0.facts.get("socket")?.as_str()?;
        Some(name.strip_prefix('@')?.to_owned())
    }

    fn text(&self) -> String {
        // The title names the kind only; the detail describes this case completely.
        let ProblemDocument { title, detail, .. } = &self.0;
        let mut text = if detail.is_empty() { title } else { detail }.clone();
        if let Some(remedy) = self.0.facts.get("remedy").and_then(|value| value.as_str()) {
            text.push_str("; ");
            text.push_str(remedy);
        }
        if self.0.status == 401 {
            text.push_str("; set ABIDE_TOKEN, or name the token by `token_env` or `token_file` under [daemon]");
        }
        text
    }
}

/// The daemon's address, and the credentials for it.
#[derive(Clone, Debug)]
pub(crate) struct DaemonAddress {
    /// `http://host:port`, without a trailing slash.
    pub(crate) url: String,
    pub(crate) token: Option<String>,
    /// Appended to the error if the daemon is unreachable.
    pub(crate) hint: String,
}

/// A client of one daemon.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    target: DaemonAddress,
}

impl Client {
    /// Creates a client. It connects at the first request.
    pub(crate) fn new(target: DaemonAddress) -> Result<Self, ClientError> {
        let http = http(&target, None)?;
        Ok(Self { http, target })
    }

    /// Returns a client of the same daemon that connects to the local socket with this abstract name. It
    /// sends no token: such a daemon asks for none.
    pub(crate) fn by_local_socket(&self, name: &str) -> Result<Self, ClientError> {
        let target = DaemonAddress {
            token: None,
            ..self.target.clone()
        };
        let http = http(&target, Some(name))?;
        Ok(Self { http, target })
    }

    /// Returns the daemon's URL.
    pub(crate) fn url(&self) -> &str {
        &self.target.url
    }

    /// Builds a request for a path (with its query) without sending it.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.target.url))
    }

    /// Gets a document.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json(self.request(Method::GET, path)).await
    }

    /// Posts a JSON document.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<T, ClientError> {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    /// Sends a request and parses the JSON answer; an empty answer counts as `null`.
    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<T, ClientError> {
        self.json_within(request, Duration::ZERO).await
    }

    /// Like [`Client::json`], for a request that asks the daemon to wait that long.
    pub(crate) async fn json_within<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
        wait: Duration,
    ) -> Result<T, ClientError> {
        let request = request
            .header(header::ACCEPT, "application/json")
            .timeout(ANSWER_TIMEOUT + wait);
        let response = self.send(request).await?;
        let bytes = response.bytes().await.map_err(|error| self.broken(error))?;
        let bytes: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(bytes).map_err(|error| ClientError::Foreign {
            url: self.target.url.clone(),
            reason: error.to_string(),
        })
    }

    /// Sends a request. A status other than success is an error.
    pub(crate) async fn send(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, ClientError> {
        let response = request.send().await.map_err(|error| self.broken(error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = response.bytes().await.map_err(|error| self.broken(error))?;
        Err(problem(status, &bytes).into())
    }

    /// Classifies a failed request.
    pub(crate) fn broken(&self, error: reqwest::Error) -> ClientError {
        let url = self.target.url.clone();
        if error.is_builder() {
            ClientError::Setup(format!("`{url}` is no URL to talk to: {}", chain(&error)))
        } else if error.is_connect() {
            ClientError::Unreachable {
                url,
                hint: self.target.hint.clone(),
                source: error,
            }
        } else {
            ClientError::Lost {
                url,
                reason: chain(&error),
            }
        }
    }
}

/// Builds what sends requests to a daemon with its token: to its address, or to the local socket with an
/// abstract name.
fn http(
    target: &DaemonAddress,
    local_socket: Option<&str>,
) -> Result<reqwest::Client, ClientError> {
    let mut headers = header::HeaderMap::new();
    if let Some(token) = &target.token {
        let mut value = header::HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| {
            ClientError::Setup(
                "the token holds characters that no HTTP header can carry; set another".to_owned(),
            )
        })?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("abide/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none());
    if let Some(name) = local_socket {
        builder = builder.unix_socket(PathBuf::from(format!("\0{name}")));
    }
    builder
        .build()
        .map_err(|error| ClientError::Setup(format!("cannot set up HTTP: {}", chain(&error))))
}

/// Parses the problem of an unsuccessful answer, also of one that the daemon did not write.
fn problem(status: StatusCode, body: &[u8]) -> ProblemResponse {
    let parsed = serde_json::from_slice::<ProblemDocument>(body)
        .ok()
        .filter(|problem| !problem.title.is_empty() || !problem.detail.is_empty());
    let document = parsed.unwrap_or_else(|| {
        let text = super::text::brief(&String::from_utf8_lossy(body), FOREIGN_BODY_CHARS);
        let colon = if text.is_empty() { "" } else { ": " };
        ProblemDocument {
            title: format!("the daemon answered {status}{colon}{text}"),
            ..ProblemDocument::default()
        }
    });
    ProblemResponse(ProblemDocument {
        status: status.as_u16(),
        ..document
    })
}

/// Formats an error with all its causes: the last one is the informative one.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_become_one_segment() {
        assert_eq!(escape("a/b c%ä"), "a%2Fb%20c%25%C3%A4");
        assert_eq!(escape("plain-id_1.x~"), "plain-id_1.x~");
    }

    #[test]
    fn problems_name_reason_and_remedy() {
        let body = br#"{"type":"urn:x","title":"Inbox full","status":429,"detail":"64 messages wait","remedy":"send later"}"#;
        let problem = problem(StatusCode::TOO_MANY_REQUESTS, body);
        assert_eq!(problem.to_string(), "64 messages wait; send later");
        assert_eq!(problem.0.r#type, "urn:x");
    }

    #[test]
    fn answers_of_strangers_are_problems_too() {
        let problem = problem(StatusCode::BAD_GATEWAY, b"<html>\n bad gateway</html>");
        assert_eq!(
            problem.to_string(),
            "the daemon answered 502 Bad Gateway: <html> bad gateway</html>"
        );
        assert!(ClientError::from(problem).is_passing());
    }
}
