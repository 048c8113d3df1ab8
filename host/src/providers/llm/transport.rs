//! The HTTP exchange below the client crate: what it must not see is set right here.

use std::sync::Arc;

use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::{Value, json};
use tower::Service;

use super::errors;
use crate::domain::StepError;

/// The most that is read of an answer that tells of an error.
const ERROR_MAX_BYTES: usize = 64 << 10;

/// Sends requests with `http`; without the (empty) credentials where there is no key.
pub(super) fn service(
    http: reqwest::Client,
    provider: Arc<str>,
    has_key: bool,
) -> impl Service<HttpRequestFactory, Response = reqwest::Response, Error = OpenAIError, Future: Send>
+ Clone
+ Send
+ Sync {
    tower::service_fn(move |factory: HttpRequestFactory| {
        let (http, provider) = (http.clone(), provider.clone());
        async move {
            let mut request = factory.build().await?;
            match request.headers_mut().get_mut(AUTHORIZATION) {
                Some(key) if has_key => key.set_sensitive(true),
                _ => drop(request.headers_mut().remove(AUTHORIZATION)),
            }
            let response = http.execute(request).await?;
            if response.status().is_success() {
                streamed(response, &provider)
            } else {
                Ok(normal(response).await?)
            }
        }
    })
}

/// Refuses what is no event stream: a page of another server, most of the time.
fn streamed(response: reqwest::Response, provider: &str) -> Result<reqwest::Response, OpenAIError> {
    let kind = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or("nothing that is named")
        .to_owned();
    if kind.starts_with("text/event-stream") {
        return Ok(response);
    }
    let reason = format!(
        "model provider `{provider}` answered with {kind} in place of an event stream; check `llm.{provider}.base_url` (most end in /v1)"
    );
    Err(OpenAIError::Boxed(Box::new(StepError::Failed(reason))))
}

/// An error's answer in the one form that the client crate reads: servers send numbers for codes,
/// texts for objects, and pages of HTML.
async fn normal(mut response: reqwest::Response) -> Result<reqwest::Response, reqwest::Error> {
    let mut bytes = Vec::new();
    while bytes.len() < ERROR_MAX_BYTES
        && let Some(chunk) = response.chunk().await?
    {
        bytes.extend_from_slice(&chunk);
    }
    bytes.truncate(ERROR_MAX_BYTES);
    let value = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
    let status = response.status();
    let message = errors::message(&value);
    let body = if status.is_server_error() {
        message
    } else {
        json!({"error": {"message": message, "type": value["error"]["type"].as_str()}}).to_string()
    };
    let mut normal = http::Response::new(Bytes::from(body));
    *normal.status_mut() = status;
    *normal.headers_mut() = response.headers().clone();
    Ok(normal.into())
}
