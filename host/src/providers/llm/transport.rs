//! The HTTP exchange below the client crate: what it must not see is set right here.

use std::time::{Duration, SystemTime};

use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use http::StatusCode;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::Value;
use tower::Service;

use super::pauses;
use crate::providers::common::Body;

/// The most that is read of an answer that tells of an error.
const ERROR_MAX_BYTES: usize = 64 << 10;
/// The most that is read of an answer in one piece. What the guest may be given is bounded further
/// on.
const WHOLE_MAX_BYTES: usize = 16 << 20;

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
    /// An answer in one piece that makes no sense.
    #[error("{error}: {text}")]
    Malformed { error: String, text: String },
    /// An answer in one piece that is too long.
    #[error("it has more than {limit} bytes")]
    TooLong { limit: usize },
}

impl From<Reply> for OpenAIError {
    fn from(reply: Reply) -> Self {
        Self::Boxed(Box::new(reply))
    }
}

/// Sends requests with `http` to `url`; without the (empty) credentials where there is no key.
pub(super) fn service(
    http: reqwest::Client,
    url: reqwest::Url,
    has_key: bool,
) -> impl Service<HttpRequestFactory, Response = reqwest::Response, Error = OpenAIError, Future: Send>
+ Clone
+ Send
+ Sync {
    tower::service_fn(move |factory: HttpRequestFactory| {
        let (http, url) = (http.clone(), url.clone());
        async move {
            let mut request = factory.build().await?;
            *request.url_mut() = url;
            match request.headers_mut().get_mut(AUTHORIZATION) {
                Some(key) if has_key => key.set_sensitive(true),
                _ => drop(request.headers_mut().remove(AUTHORIZATION)),
            }
            let response = http.execute(request).await?;
            if response.status().is_success() {
                streamed(response).await
            } else {
                Err(refused(response).await?.into())
            }
        }
    })
}

/// An answer as a stream. Some servers, and gateways in front of others, give it in one piece.
async fn streamed(response: reqwest::Response) -> Result<reqwest::Response, OpenAIError> {
    let kind = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or("nothing that is named")
        .to_ascii_lowercase();
    if kind.starts_with("text/event-stream") {
        return Ok(response);
    }
    if !kind.starts_with("application/json") {
        return Err(Reply::NoStream { kind }.into());
    }
    let Body::Whole(bytes) = Body::read(response, WHOLE_MAX_BYTES).await? else {
        let limit = WHOLE_MAX_BYTES;
        return Err(Reply::TooLong { limit }.into());
    };
    let mut whole: Value = serde_json::from_slice(&bytes).map_err(|error| Reply::Malformed {
        error: error.to_string(),
        text: String::from_utf8_lossy(&bytes).into_owned(),
    })?;
    into_chunk(&mut whole);
    let mut response = http::Response::new(format!("data: {whole}\n\ndata: [DONE]\n\n"));
    let kind = http::HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response.into())
}

/// Makes a whole answer the one chunk of a stream.
fn into_chunk(whole: &mut Value) {
    let choices = whole.get_mut("choices").and_then(Value::as_array_mut);
    for choice in choices.into_iter().flatten() {
        let Some(mut message) = choice.get_mut("message").map(Value::take) else {
            continue;
        };
        let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
        for (index, call) in calls.into_iter().flatten().enumerate() {
            if let Some(call) = call.as_object_mut() {
                call.insert("index".to_owned(), index.into());
            }
        }
        choice["delta"] = message;
    }
}

async fn refused(response: reqwest::Response) -> Result<Reply, reqwest::Error> {
    let status = response.status();
    let retry_after = pauses::retry_after(response.headers(), SystemTime::now());
    let bytes = Body::read(response, ERROR_MAX_BYTES).await?.bytes();
    let said = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
    Ok(Reply::Refused {
        status,
        retry_after,
        said,
    })
}
