//! The HTTP exchange below the client crate: what it must not see is set right here.

use std::time::{Duration, SystemTime};

use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use http::StatusCode;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::Value;
use tower::Service;

use super::pauses;

/// The most that is read of an answer that tells of an error.
const ERROR_MAX_BYTES: usize = 64 << 10;

/// A reply that is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Reply {
    /// An error's status. Servers send numbers for codes, texts for objects, and pages of HTML.
    #[error("{status}")]
    Refused {
        status: StatusCode,
        retry_after: Option<Duration>,
        said: Value,
    },
    /// A page of another server, most of the time.
    #[error("{kind} in place of an event stream")]
    NoStream { kind: String },
}

impl From<Reply> for OpenAIError {
    fn from(reply: Reply) -> Self {
        Self::Boxed(Box::new(reply))
    }
}

/// Sends requests with `http`; without the (empty) credentials where there is no key.
pub(super) fn service(
    http: reqwest::Client,
    has_key: bool,
) -> impl Service<HttpRequestFactory, Response = reqwest::Response, Error = OpenAIError, Future: Send>
+ Clone
+ Send
+ Sync {
    tower::service_fn(move |factory: HttpRequestFactory| {
        let http = http.clone();
        async move {
            let mut request = factory.build().await?;
            match request.headers_mut().get_mut(AUTHORIZATION) {
                Some(key) if has_key => key.set_sensitive(true),
                _ => drop(request.headers_mut().remove(AUTHORIZATION)),
            }
            let response = http.execute(request).await?;
            if response.status().is_success() {
                Ok(streamed(response)?)
            } else {
                Err(refused(response).await?.into())
            }
        }
    })
}

fn streamed(response: reqwest::Response) -> Result<reqwest::Response, Reply> {
    let kind = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or("nothing that is named");
    if kind.starts_with("text/event-stream") {
        return Ok(response);
    }
    let kind = kind.to_owned();
    Err(Reply::NoStream { kind })
}

async fn refused(mut response: reqwest::Response) -> Result<Reply, reqwest::Error> {
    let status = response.status();
    let retry_after = pauses::retry_after(response.headers(), SystemTime::now());
    let mut bytes = Vec::new();
    while bytes.len() < ERROR_MAX_BYTES
        && let Some(chunk) = response.chunk().await?
    {
        bytes.extend_from_slice(&chunk);
    }
    bytes.truncate(ERROR_MAX_BYTES);
    let said = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
    Ok(Reply::Refused {
        status,
        retry_after,
        said,
    })
}
