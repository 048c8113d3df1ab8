//! The configuration of a provider, and the HTTP client that is built from it.

use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::server::ProviderServer;
use crate::providers::http_body::{Hidden, chain, is_loopback};

/// One `[llm.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LlmProvider {
    /// The base URL of its API, like `http://127.0.0.1:8080/v1`.
    pub base_url: String,
    /// The model that is used if a guest names none.
    pub model: String,
    /// The context window of its model in tokens, request and answer together. A request that
    /// exceeds it is not sent.
    pub context_tokens: Option<u64>,
    pub api_key: Option<Hidden>,
    /// How long establishing a connection may take.
    pub connect_timeout: Duration,
    /// How long the server may stay silent, before and within an answer.
    pub idle_timeout: Duration,
    /// How long one answer may take, from the request to its end.
    pub timeout: Duration,
    /// How many times a request is retried after a failure that may be transient.
    pub retries: u32,
    /// The name of the provider that is asked if this one gives no answer.
    pub fallback: Option<String>,
    /// Additional request headers.
    pub headers: Vec<(String, Hidden)>,
    /// Additional query parameters of the URL.
    pub query: Vec<(String, Hidden)>,
    /// Additional fields of the request body. They replace fields of the same name.
    pub body: serde_json::Map<String, serde_json::Value>,
    /// The `User-Agent` header, in place of Abide's own.
    pub user_agent: Option<String>,
    /// How many tools a request may offer.
    pub tools_max: usize,
    /// Whether requests may contain images, unless the server is found to refuse them.
    pub images: bool,
}

/// Why a provider cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`llm.{name}` cannot be used: {reason}")]
pub struct BadProvider {
    pub(super) name: String,
    pub(super) reason: String,
}

/// Returns the URL of the provider's chat completions.
fn endpoint(provider: &LlmProvider) -> Result<Url, String> {
    let mut url = Url::parse(&provider.base_url)
        .map_err(|error| format!("`base_url` is not a URL ({error})"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("`base_url` must begin with http:// or https://".to_owned());
    }
    // Some base URLs have a query, like Azure's `?api-version=…`, which must stay behind the path.
    let path = format!("{}/chat/completions", url.path().trim_end_matches('/'));
    url.set_path(&path);
    if !provider.query.is_empty() {
        let query = provider.query.iter();
        url.query_pairs_mut()
            .extend_pairs(query.map(|(name, value)| (name, &value.0)));
    }
    Ok(url)
}

/// Returns the additional headers of each request.
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

/// Builds a client for the provider, without connecting.
pub(super) fn client(provider: &LlmProvider) -> Result<ProviderServer, String> {
    let url = endpoint(provider)?;
    let key = provider.api_key.as_ref().map_or("", |key| key.0.as_str());
    let agent = provider.user_agent.as_deref();
    let mut http = reqwest::Client::builder()
        .connect_timeout(provider.connect_timeout)
        .default_headers(headers(provider)?)
        .user_agent(agent.unwrap_or(concat!("abide/", env!("CARGO_PKG_VERSION"))))
        // Following a redirect would reveal the key to another server.
        .redirect(reqwest::redirect::Policy::none());
    if is_loopback(&url) {
        http = http.no_proxy();
    }
    let http = http.build().map_err(|error| chain(&error))?;
    ProviderServer::new(http, url, key)
}

#[cfg(test)]
impl LlmProvider {
    /// Returns a provider at an address where no server listens.
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
