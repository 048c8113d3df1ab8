//! The daemon over HTTP: one request, one typed answer or one typed error.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// How long a connection may take. A restart leaves connections in the backlog, so those are
/// fast even then.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take, beyond what the request itself asks to wait. Longer than a
/// worker's replacement.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest part of an answer that is no problem document which an error repeats.
const FOREIGN_BODY_CHARS: usize = 200;
/// What needs no escape in a path's segment or a query's value.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Text as one segment of a path, or one value of a query.
pub(crate) fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// Why the daemon gave no answer, or not the one hoped for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nothing listens there.
    #[error("no daemon answers at {url}; start one with `abide serve`{hint}")]
    Unreachable {
        /// Where.
        url: String,
        /// What else could be wrong.
        hint: String,
        /// Why the connection failed.
        #[source]
        source: reqwest::Error,
    },
    /// The connection broke, or the answer took too long.
    #[error("the connection to {url} was lost: {reason}; try again")]
    Lost {
        /// Where.
        url: String,
        /// How.
        reason: String,
    },
    /// The daemon says no, and why.
    #[error(transparent)]
    Problem(#[from] ProblemResponse),
    /// The answer is not what the API promises.
    #[error(
        "{url} answered what this abide does not understand: {reason}; is it an abide daemon of this version?"
    )]
    Foreign {
        /// What was asked for.
        url: String,
        /// What was found.
        reason: String,
    },
    /// The address or the token cannot be used.
    #[error("{0}")]
    Setup(String),
}

impl ClientError {
    /// Whether the same request may succeed in a moment: the daemon restarts, or a connection
    /// broke.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Lost { .. } => true,
            Self::Problem(problem) => matches!(problem.status, 502..=504),
            Self::Unreachable { .. } | Self::Foreign { .. } | Self::Setup(_) => false,
        }
    }

    /// The problem's status, if it is one.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Problem(problem) => Some(problem.status),
            _ => None,
        }
    }
}

/// A problem document (RFC 9457).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, thiserror::Error)]
#[error("{}", self.text())]
pub(crate) struct ProblemResponse {
    /// A URI that names the kind.
    #[serde(default, rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) title: String,
    #[serde(default)]
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) detail: Option<String>,
    /// What to do about it.
    #[serde(default)]
    pub(crate) remedy: Option<String>,
    /// With trimmed events: the smallest cursor that can be followed from.
    #[serde(default)]
    pub(crate) oldest: Option<u64>,
}

impl ProblemResponse {
    fn text(&self) -> String {
        // The title names the kind; the detail says all of it about this case.
        let mut text = self.detail.clone().unwrap_or_else(|| self.title.clone());
        if let Some(remedy) = &self.remedy {
            text.push_str("; ");
            text.push_str(remedy);
        }
        if self.status == 401 {
            text.push_str("; set ABIDE_TOKEN, or name the token by `token_env` or `token_file` under [daemon]");
        }
        text
    }
}

/// Where the daemon is and how to be let in.
#[derive(Clone, Debug)]
pub(crate) struct DaemonAddress {
    /// `http://host:port`, without a slash at its end.
    pub(crate) url: String,
    /// The bearer token.
    pub(crate) token: Option<String>,
    /// What an unreachable daemon's error says besides.
    pub(crate) hint: String,
}

/// A daemon to talk to.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    target: DaemonAddress,
}

impl Client {
    /// A client of that daemon. Connects at the first request.
    pub(crate) fn new(target: DaemonAddress) -> Result<Self, ClientError> {
        let mut headers = header::HeaderMap::new();
        if let Some(token) = &target.token {
            let mut value =
                header::HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| {
                    ClientError::Setup(
                        "the token holds characters that no HTTP header can carry; set another"
                            .to_owned(),
                    )
                })?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let http = reqwest::Client::builder()
            .user_agent(concat!("abide/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| {
                ClientError::Setup(format!("cannot set up HTTP: {}", chain(&error)))
            })?;
        Ok(Self { http, target })
    }

    /// Where the daemon is.
    pub(crate) fn url(&self) -> &str {
        &self.target.url
    }

    /// A request for that path (with its query), not sent yet.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.target.url))
    }

    /// Asks for a document.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json(self.request(Method::GET, path)).await
    }

    /// Asks for something to be done.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<T, ClientError> {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    /// Sends and reads a JSON answer; an empty one counts as `null`.
    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<T, ClientError> {
        self.json_within(request, Duration::ZERO).await
    }

    /// As [`Client::json`], for a request that asks the daemon to wait that long.
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

    /// Sends; a status that is no success is an error.
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

    /// What a failed request means.
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

/// The problem that an unsuccessful answer tells of, whoever wrote it.
fn problem(status: StatusCode, body: &[u8]) -> ProblemResponse {
    let parsed = serde_json::from_slice::<ProblemResponse>(body)
        .ok()
        .filter(|problem| !problem.title.is_empty() || problem.detail.is_some());
    match parsed {
        Some(problem) => ProblemResponse {
            status: status.as_u16(),
            ..problem
        },
        None => {
            let text = super::text::brief(&String::from_utf8_lossy(body), FOREIGN_BODY_CHARS);
            let colon = if text.is_empty() { "" } else { ": " };
            ProblemResponse {
                title: format!("the daemon answered {status}{colon}{text}"),
                status: status.as_u16(),
                ..ProblemResponse::default()
            }
        }
    }
}

/// An error with its causes: the last of them is the one that says something.
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
        assert_eq!(problem.kind, "urn:x");
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
