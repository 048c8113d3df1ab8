//! The server of a provider: its URL, its key and the HTTP client that sends requests to it.

use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderValue};
use reqwest::{Client, RequestBuilder, Url};
use serde::Serialize;

const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// One provider's server. The first request opens the connection.
pub(super) struct ProviderServer {
    http: Client,
    url: Url,
    /// The value of the `Authorization` header, if there is an API key.
    key: Option<HeaderValue>,
}

impl ProviderServer {
    /// Creates a server at `url`. An empty `key` means that there is no API key.
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

    /// Builds a request with this body.
    pub(super) fn post(&self, body: &impl Serialize) -> RequestBuilder {
        // Compression would buffer the stream and so delay it.
        let request = self.http.post(self.url.clone()).json(body);
        let request = request.header(ACCEPT_ENCODING, IDENTITY);
        match &self.key {
            Some(key) => request.header(AUTHORIZATION, key.clone()),
            None => request,
        }
    }
}
