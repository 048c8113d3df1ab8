//! Helpers that all HTTP clients of providers share: hidden values, the check for loopback servers,
//! bounded reading of bodies, and error texts.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;

use reqwest::{Response, Url};

/// A value that is or may be a secret. Its `Debug` output does not reveal it.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub(super) String, bool);

impl Hidden {
    /// Wraps a value that may be a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into(), false)
    }

    /// Wraps a value that the configuration only refers to (a variable or file): it is a secret,
    /// however short.
    pub fn named(text: impl Into<String>) -> Self {
        Self(text.into(), true)
    }

    pub(super) fn is_named(&self) -> bool {
        self.1
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(…)")
    }
}

/// Returns whether a URL refers to this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let ip = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}

/// Reads a body. Returns `None` if it has more than `bound` bytes.
pub(super) async fn read_body(
    mut response: Response,
    bound: usize,
) -> reqwest::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if chunk.len() > bound - bytes.len() {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(bytes))
}

/// Returns the causes of an error without its own text, which names the URL, which may hold a key.
pub(super) fn causes(error: &reqwest::Error) -> String {
    error
        .source()
        .map_or_else(|| "it gives no reason".to_owned(), chain)
}

/// Returns an error's text with those of its causes, since most errors name the reason only there.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let reason = error.to_string();
        if !text.contains(&reason) {
            text = format!("{text}: {reason}");
        }
        cause = error.source();
    }
    text
}
