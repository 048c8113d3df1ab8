//! A provider as it is configured, and a client for it.

use std::fmt;
use std::time::Duration;

use super::server::Server;
use crate::providers::common::{chain, is_loopback};

/// A provider's secret. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(pub(super) String);

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
    /// How many tokens its model takes in all, request and answer together: a request over it is
    /// not sent.
    pub context_tokens: Option<u64>,
    /// Its secret, if it wants one.
    pub api_key: Option<ApiKey>,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long the server may say nothing, before and within an answer.
    pub idle_timeout: Duration,
    /// How long one answer may take, from the request to its end.
    pub timeout: Duration,
    /// How often a request is sent again that was not answered to its end for a reason that may
    /// pass.
    pub retries: u32,
    /// The provider that is asked in this one's place where it gives no answer.
    pub fallback: Option<String>,
}

/// Why a provider cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`llm.{name}` cannot be used: {reason}")]
pub struct BadProvider {
    pub(super) name: String,
    pub(super) reason: String,
}

/// A client for it. Nothing is connected yet.
pub(super) fn client(provider: &LlmProvider) -> Result<Server, String> {
    let mut url = reqwest::Url::parse(&provider.base_url)
        .map_err(|error| format!("`base_url` is not a URL ({error})"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("`base_url` must begin with http:// or https://".to_owned());
    }
    let path = format!("{}/chat/completions", url.path().trim_end_matches('/'));
    url.set_path(&path);
    let mut http = reqwest::Client::builder()
        .connect_timeout(provider.connect_timeout)
        // A redirect would show the key to another server.
        .redirect(reqwest::redirect::Policy::none());
    if is_loopback(&url) {
        http = http.no_proxy();
    }
    let http = http.build().map_err(|error| chain(&error))?;
    let key = provider.api_key.as_ref().map_or("", |key| key.0.as_str());
    Server::new(http, url, key)
}
