//! Where a provider's requests go, and how they are sent.

use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderValue};
use reqwest::{Client, RequestBuilder, Url};
use serde::Serialize;

/// As it is.
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// One provider's server. Nothing is connected before the first request.
pub(super) struct ProviderServer {
    http: Client,
    url: Url,
    /// What `Authorization` says, where there is a key.
    key: Option<HeaderValue>,
}

impl ProviderServer {
    /// Sends to `url`, with this API key if it is not empty.
    pub(super) fn new(http: Client, url: Url, key: &str) -> Result<Self, String> {
        let key = match key {
            "" => None,
            key => {
                let key = HeaderValue::from_str(&format!("Bearer {key}"))
                    .map_err(|_| "its API key holds characters that a header cannot".to_owned())?;
                Some(key)
            }
        };
        let key = key.map(|mut key| {
            key.set_sensitive(true);
            key
        });
        Ok(Self { http, url, key })
    }

    /// A request with this body.
    pub(super) fn post(&self, body: &impl Serialize) -> RequestBuilder {
        // A stream that is compressed is a stream that is held back.
        let request = self.http.post(self.url.clone()).json(body);
        let request = request.header(ACCEPT_ENCODING, IDENTITY);
        match &self.key {
            Some(key) => request.header(AUTHORIZATION, key.clone()),
            None => request,
        }
    }
}
