//! Chat completions by any server that speaks OpenAI's API, streamed.

mod answer;
mod errors;
mod request;
#[cfg(test)]
mod tests;
mod transport;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::middleware::retry::OpenAIRetryLayer;
use futures::StreamExt as _;

use crate::domain::{ChatRequest, Completion, StepError};
use answer::{Answer, Chunk};

/// A provider's secret. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// Takes a key.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// One `[llm.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LlmProvider {
    /// Where its API begins, like `http://127.0.0.1:8080/v1`.
    pub base_url: String,
    /// The model where a guest names none.
    pub model: String,
    /// How many tokens its model takes in all, request and answer together; passed on to guests.
    pub context_tokens: Option<u64>,
    /// Its secret, if it wants one.
    pub api_key: Option<ApiKey>,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long the server may say nothing, before and within an answer.
    pub idle_timeout: Duration,
    /// How often a request is sent again whose connection failed, or that was answered with 429
    /// or 5xx.
    pub retries: u32,
}

/// Why a provider cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`llm.{name}` cannot be used: {reason}")]
pub struct BadProvider {
    name: String,
    reason: String,
}

struct Ready {
    provider: LlmProvider,
    client: Client<OpenAIConfig>,
}

/// All providers, by name.
pub struct LlmProviders(BTreeMap<String, Ready>);

impl LlmProviders {
    /// Prepares a client for each. Nothing is connected yet.
    ///
    /// # Errors
    /// A base URL that is none, a key that cannot stand in a header, or no TLS.
    pub fn new(providers: BTreeMap<String, LlmProvider>) -> Result<Self, BadProvider> {
        // An error means that one is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ready = providers.into_iter().map(|(name, provider)| {
            let client = client(&name, &provider).map_err(|reason| BadProvider {
                name: name.clone(),
                reason,
            })?;
            Ok((name, Ready { provider, client }))
        });
        ready.collect::<Result<_, _>>().map(Self)
    }

    /// One chat completion. `on_delta` is told of each piece of text as it arrives. Dropping the
    /// future ends the request on the wire.
    ///
    /// # Errors
    /// `Denied` without a provider, `Invalid` where the request makes no sense to the server,
    /// `Unavailable` where it cannot be reached or is overloaded, `Timeout` where it says nothing
    /// for the idle timeout, `TooLarge` where the answer has more than `limit_bytes` of text and
    /// tool calls, `Failed` for the rest.
    pub async fn chat(
        &self,
        request: &ChatRequest,
        limit_bytes: u64,
        mut on_delta: impl FnMut(&str),
    ) -> Result<Completion, StepError> {
        let name = request.provider.as_deref().unwrap_or_default();
        let Ready { provider, client } = self.0.get(name).ok_or_else(|| {
            StepError::Denied(format!(
                "there is no model provider `{name}`; add `[llm.{name}]` to the configuration"
            ))
        })?;
        let idle = provider.idle_timeout;
        let silent = || {
            StepError::Timeout(format!(
                "model provider `{name}` at {} said nothing for {}; \
                 raise `llm.{name}.idle_timeout` if it is slow",
                provider.base_url,
                humantime::format_duration(idle)
            ))
        };
        let explain = |error| errors::explain(name, provider, error);
        let body = request::body(request, &provider.model)?;
        let chat = client.chat();
        let begin = chat.create_stream_byot::<_, Chunk>(body);
        let mut chunks = tokio::time::timeout(idle, begin)
            .await
            .map_err(|_| silent())?
            .map_err(explain)?;
        let mut answer = Answer::new(limit_bytes);
        while let Some(chunk) = tokio::time::timeout(idle, chunks.next())
            .await
            .map_err(|_| silent())?
        {
            if let Some(delta) = answer.take(chunk.map_err(explain)?)? {
                on_delta(&delta);
            }
        }
        let asked = request.model.as_deref().unwrap_or(&provider.model);
        // What the operator says is said of the provider's own model.
        let context_tokens = provider.context_tokens.filter(|_| asked == provider.model);
        answer.complete(asked, context_tokens)
    }
}

fn client(name: &str, provider: &LlmProvider) -> Result<Client<OpenAIConfig>, String> {
    let url = reqwest::Url::parse(&provider.base_url)
        .map_err(|error| format!("`base_url` is not a URL ({error})"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("`base_url` must begin with http:// or https://".to_owned());
    }
    let key = provider.api_key.as_ref().map_or("", |key| key.0.as_str());
    if reqwest::header::HeaderValue::from_str(key).is_err() {
        return Err("its API key holds characters that a header cannot".to_owned());
    }
    let mut http = reqwest::Client::builder()
        .connect_timeout(provider.connect_timeout)
        // A redirect would show the key to another server.
        .redirect(reqwest::redirect::Policy::none());
    if is_loopback(&url) {
        http = http.no_proxy();
    }
    let http = http.build().map_err(|error| errors::chain(&error))?;
    let config = OpenAIConfig::new()
        .with_api_base(provider.base_url.trim_end_matches('/'))
        .with_api_key(key)
        .with_org_id("")
        .with_project_id("");
    let retry = OpenAIRetryLayer::new(provider.retries as usize);
    let service = tower::ServiceBuilder::new()
        .layer(retry)
        .service(transport::service(
            http.clone(),
            name.into(),
            !key.is_empty(),
        ));
    Ok(Client::build(http, config).with_http_service(service))
}

fn is_loopback(url: &reqwest::Url) -> bool {
    url.host_str().is_some_and(|host| {
        let ip = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || ip
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.is_loopback())
    })
}
