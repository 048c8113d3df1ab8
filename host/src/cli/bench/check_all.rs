//! Checks the sessions' logs against what the daemon acknowledged.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::{Method, header};

use super::check_log::{Audit, EventPageView, LogTotals};
use super::progress::BenchProgress;
use super::setup::{SessionNames, patiently};
use crate::cli::calls::session_path;
use crate::cli::client::{Client, ClientError};
use crate::cli::error::CliError;
use crate::loadgen::{LoadSession, LoadSessions, Texts};

/// Sessions whose logs are read concurrently.
const AT_ONCE: usize = 8;
/// Events per page, the API's maximum.
const PAGE: usize = 1000;
/// The time limit for a page.
const PAGE_MAX: Duration = Duration::from_secs(60);

/// Checks the logs of `count` sessions, spread evenly over all.
pub(super) async fn verify(
    client: &Client,
    names: &SessionNames,
    texts: &Texts,
    sessions: &LoadSessions,
    count: usize,
    progress: &BenchProgress,
) -> Result<LogTotals, CliError> {
    let total = sessions.0.len();
    let found = stream::iter(0..count)
        .map(async |nth| {
            let session = nth * total / count;
            let found = one(client, names, texts, session, &sessions.0[session]).await;
            progress.step();
            found
        })
        .buffer_unordered(AT_ONCE)
        .try_fold(LogTotals::default(), async |mut all, one| {
            all.add(one);
            Ok(all)
        })
        .await?;
    Ok(found)
}

async fn one(
    client: &Client,
    names: &SessionNames,
    texts: &Texts,
    session: usize,
    known: &LoadSession,
) -> Result<LogTotals, ClientError> {
    let mut audit = Audit::new(session, known, texts);
    loop {
        let below = format!("/events?after={}&limit={PAGE}", audit.cursor());
        let path = session_path(&names.of(session), &below);
        let page = patiently(async || {
            let request = client
                .request(Method::GET, &path)
                .header(header::ACCEPT, "application/json")
                .timeout(PAGE_MAX);
            let response = client.send(request).await?;
            response.bytes().await.map_err(|error| client.broken(error))
        });
        let bytes = match page.await {
            Ok(bytes) => bytes,
            Err(ClientError::Problem(problem)) if problem.oldest().is_some() => {
                audit.trimmed(problem.oldest().unwrap_or_default());
                continue;
            }
            // The session itself is missing or closed: all its acknowledged messages count as lost.
            Err(error) if matches!(error.status(), Some(404 | 410)) => return Ok(audit.finish()),
            Err(error) => return Err(error),
        };
        let page: EventPageView<'_> =
            serde_json::from_slice(&bytes).map_err(|error| client.foreign(error))?;
        if page.items.is_empty() {
            return Ok(audit.finish());
        }
        audit.read(&page.items);
    }
}
