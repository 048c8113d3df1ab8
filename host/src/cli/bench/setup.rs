//! Creates the sessions before the load and closes them after it. Neither is measured.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use rand::Rng as _;
use reqwest::Method;
use serde_json::Value;

use super::progress::BenchProgress;
use crate::cli::calls::{RetryPause, session_path};
use crate::cli::client::{Client, ClientError};
use crate::cli::error::CliError;
use crate::domain::SessionId;

/// Concurrent requests.
const AT_ONCE: usize = 64;
/// Tries of one request, while it fails for a transient reason.
const TRIES_MAX: usize = 20;

/// The names of a run's sessions, which are unique to the run.
#[derive(Clone, Debug)]
pub(super) struct SessionNames(String);

impl SessionNames {
    /// Draws a random prefix for the names.
    pub(super) fn draw() -> Self {
        Self(format!("bench-{:08x}-", rand::rng().random::<u32>()))
    }

    /// Returns the common prefix of the names.
    pub(super) fn prefix(&self) -> &str {
        &self.0
    }

    /// Returns the name of a session; `session` counts from 0.
    pub(super) fn of(&self, session: usize) -> SessionId {
        SessionId::new(format!("{}{session}", self.0))
            .expect("letters, digits and dashes, and few of them")
    }
}

pub(super) async fn create(
    client: &Client,
    names: &SessionNames,
    sessions: usize,
    plugin: &str,
    args: Option<&Value>,
    progress: &BenchProgress,
) -> Result<(), CliError> {
    each(sessions, progress, async |session| {
        let id = names.of(session);
        patiently(async || client.create(&id, plugin, args).await).await?;
        Ok(())
    })
    .await
}

pub(super) async fn close(
    client: &Client,
    names: &SessionNames,
    sessions: usize,
    progress: &BenchProgress,
) -> Result<(), CliError> {
    each(sessions, progress, async |session| {
        let path = session_path(&names.of(session), "");
        let closed = patiently(async || {
            client
                .json::<Value>(client.request(Method::DELETE, &path))
                .await
        });
        match closed.await {
            // An earlier try whose answer was lost has closed it.
            Err(error) if error.status() == Some(410) => Ok(()),
            closed => closed.map(drop),
        }
    })
    .await
}

/// Calls `what` for every session, [`AT_ONCE`] at a time.
async fn each(
    sessions: usize,
    progress: &BenchProgress,
    what: impl AsyncFn(usize) -> Result<(), ClientError>,
) -> Result<(), CliError> {
    stream::iter(0..sessions)
        .map(|session| what(session))
        .buffer_unordered(AT_ONCE)
        .try_for_each(|()| {
            progress.step();
            std::future::ready(Ok(()))
        })
        .await?;
    Ok(())
}

/// Retries a request while it fails for a transient reason, with growing pauses.
pub(super) async fn patiently<T>(
    what: impl AsyncFn() -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let mut backoff = RetryPause::new();
    for _ in 1..TRIES_MAX {
        match what().await {
            Err(error) if error.is_passing() || error.status() == Some(429) => {}
            done => return done,
        }
        backoff.pause().await;
    }
    what().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_do_not_share_sessions() {
        let (one, other) = (SessionNames::draw(), SessionNames::draw());
        assert_ne!(one.of(1), other.of(1));
        assert_ne!(one.of(1), one.of(11));
        assert!(one.of(1).as_str().starts_with(one.prefix()));
    }
}
