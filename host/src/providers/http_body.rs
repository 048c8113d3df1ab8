//! What all HTTP clients of providers have in common: values that are not shown, which servers are
//! this machine, how much of a body is read, and what an error says.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;

use reqwest::{Response, Url};

/// A secret, or what may be one. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub(super) String, bool);

impl Hidden {
    /// Takes it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into(), false)
    }

    /// One that the configuration names and does not hold: it is a secret, however short.
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

/// Whether nobody but this machine is meant.
pub(super) fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let ip = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}

/// Reads a body; none if it has more than `bound` bytes.
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

/// What lies behind an error: its own text names the URL, which may hold a key.
pub(super) fn causes(error: &reqwest::Error) -> String {
    error
        .source()
        .map_or_else(|| "it gives no reason".to_owned(), chain)
}

/// An error with its causes, which is where most say what happened.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
