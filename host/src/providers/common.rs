//! What all HTTP clients of providers have in common: values that are not shown, which servers are
//! this machine, how much of a body is read, and what an error says.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;

use reqwest::{Response, Url};

/// A secret, or what may be one. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub(super) String);

impl Hidden {
    /// Takes it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
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

/// What was read of a body.
pub(super) enum Body {
    Whole(Vec<u8>),
    /// It is longer than what may be read of it.
    Beginning(Vec<u8>),
}

impl Body {
    /// Reads at most `bound` bytes.
    pub(super) async fn read(mut response: Response, bound: usize) -> reqwest::Result<Self> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            let room = bound - bytes.len();
            if chunk.len() > room {
                bytes.extend_from_slice(&chunk[..room]);
                return Ok(Self::Beginning(bytes));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Self::Whole(bytes))
    }

    /// All that was read.
    pub(super) fn bytes(self) -> Vec<u8> {
        match self {
            Self::Whole(bytes) | Self::Beginning(bytes) => bytes,
        }
    }
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
