//! A provider as it is configured, and a client for it.

use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::server::ProviderServer;
use crate::providers::http_body::{Hidden, chain, is_loopback};

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
    pub api_key: Option<Hidden>,
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
    /// Further headers of its requests.
    pub headers: Vec<(String, Hidden)>,
    /// Further parameters of its requests' URL.
    pub query: Vec<(String, Hidden)>,
    /// Further fields of its requests' body, in place of those of the same name.
    pub body: serde_json::Map<String, serde_json::Value>,
    /// What its requests call their sender, in place of Abide's own name.
    pub user_agent: Option<String>,
    /// How many tools a request may offer.
    pub tools_max: usize,
    /// Whether the model is shown images, as far as is known beforehand.
    pub images: bool,
}

/// Why a provider cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`llm.{name}` cannot be used: {reason}")]
pub struct BadProvider {
    pub(super) name: String,
    pub(super) reason: String,
}

/// Where its chat completions are.
fn endpoint(provider: &LlmProvider) -> Result<Url, String> {
    let mut url = Url::parse(&provider.base_url)
        .map_err(|error| format!("`base_url` is not a URL ({error})"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("`base_url` must begin with http:// or https://".to_owned());
    }
    // Some servers' base has a query, like Azure's `?api-version=…`: it stays behind the path.
    let path = format!("{}/chat/completions", url.path().trim_end_matches('/'));
    url.set_path(&path);
    if !provider.query.is_empty() {
        let query = provider.query.iter();
        url.query_pairs_mut()
            .extend_pairs(query.map(|(name, value)| (name, &value.0)));
    }
    Ok(url)
}

/// What each of its requests has in its header.
fn headers(provider: &LlmProvider) -> Result<HeaderMap, String> {
    let mut all = HeaderMap::new();
    for (name, value) in &provider.headers {
        let bad = || format!("its header `{name}` holds characters that a header cannot");
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        let mut value = HeaderValue::from_str(&value.0).map_err(|_| bad())?;
        value.set_sensitive(true);
        all.insert(header, value);
    }
    Ok(all)
}

/// A client for it. Nothing is connected yet.
pub(super) fn client(provider: &LlmProvider) -> Result<ProviderServer, String> {
    let url = endpoint(provider)?;
    let key = provider.api_key.as_ref().map_or("", |key| key.0.as_str());
    let agent = provider.user_agent.as_deref();
    let mut http = reqwest::Client::builder()
        .connect_timeout(provider.connect_timeout)
        .default_headers(headers(provider)?)
        .user_agent(agent.unwrap_or(concat!("abide/", env!("CARGO_PKG_VERSION"))))
        // A redirect would show the key to another server.
        .redirect(reqwest::redirect::Policy::none());
    if is_loopback(&url) {
        http = http.no_proxy();
    }
    let http = http.build().map_err(|error| chain(&error))?;
    ProviderServer::new(http, url, key)
}

#[cfg(test)]
impl LlmProvider {
    /// One that nobody is reached by.
    pub(super) fn example() -> Self {
        Self {
            base_url: "http://127.0.0.1:9/v1".to_owned(),
            model: "default".to_owned(),
            context_tokens: None,
            api_key: None,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            timeout: Duration::from_secs(60),
            retries: 1,
            fallback: None,
            headers: Vec::new(),
            query: Vec::new(),
            body: serde_json::Map::new(),
            user_agent: None,
            tools_max: 128,
            images: true,
        }
    }
}
