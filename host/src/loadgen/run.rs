//! Runs a load: opens all connections, drives them, and collects the result.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::client::{LoadClient, OwnSession};
use super::connection::{ClientConnection, Trouble};
use super::payloads::Texts;
use super::plan::Load;
use super::probe::LoadProbe;
use super::report::Report;
use super::service::Service;
use super::sessions::LoadSessions;

/// Why a run did not begin.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The address cannot be resolved.
    #[error("`{address}` is no address to connect to ({reason}); write it like 127.0.0.1:7420")]
    Address {
        address: String,
        /// Why it cannot be resolved.
        reason: String,
    },
    /// A connection could not be made.
    #[error("connection {number} of {connections} to {address} cannot be made: {reason}")]
    Connect {
        /// From 1.
        number: usize,
        connections: usize,
        address: SocketAddr,
        reason: String,
    },
}

/// Sends turns to a service according to `load`, and checks the answers. `sessions` come from an
/// earlier run, or are [fresh ones](LoadSessions::fresh); the first `load.sessions` of them are
/// used.
///
/// Uses the threads of the runtime that it is called in.
pub async fn run<S: Service>(
    service: Arc<S>,
    load: &Load,
    mut sessions: LoadSessions,
    watch: &LoadProbe,
) -> Result<Report, RunError> {
    let address = resolve(&load.address).await?;
    let used = load.sessions.min(sessions.0.len());
    let connections = load.connections.min(used);
    let mut open = Vec::with_capacity(connections);
    for number in 1..=connections {
        let connection = ClientConnection::open(address, load.patience).await;
        open.push(connection.map_err(|trouble| RunError::Connect {
            number,
            connections,
            address,
            reason: reason(trouble),
        })?);
    }
    let mut shares: Vec<VecDeque<OwnSession>> = Vec::new();
    shares.resize_with(connections, VecDeque::new);
    for (number, session) in sessions.0[..used].iter_mut().enumerate() {
        let own = OwnSession::new(number, std::mem::take(session));
        shares[number % connections].push_back(own);
    }

    let load = Arc::new(load.clone());
    let texts = Arc::new(Texts::new(load.text_bytes));
    let counted_from = watch.begin(load.warm_up);
    let until = Instant::now() + load.warm_up + load.duration;
    let mut tasks = JoinSet::new();
    for (number, (connection, own)) in open.into_iter().zip(shares).enumerate() {
        let driver = LoadClient {
            number,
            service: service.clone(),
            load: load.clone(),
            texts: texts.clone(),
            watch: watch.clone(),
            until,
            counted_from,
        };
        tasks.spawn(driver.run(connection, own));
    }
    for share in tasks.join_all().await {
        for own in share {
            sessions.0[own.number] = own.session;
        }
    }
    Ok(Report::new(
        watch.total(),
        watch.history(),
        counted_from,
        sessions,
    ))
}

async fn resolve(address: &str) -> Result<SocketAddr, RunError> {
    let fail = |reason: String| RunError::Address {
        address: address.to_owned(),
        reason,
    };
    let mut found = tokio::net::lookup_host(address)
        .await
        .map_err(|error| fail(error.to_string()))?;
    found
        .next()
        .ok_or_else(|| fail("the name has no address".to_owned()))
}

fn reason(trouble: Trouble) -> String {
    match trouble {
        Trouble::Refused(error) => error.to_string(),
        Trouble::Reset(why) | Trouble::Garbled(why) => why,
        Trouble::Slow => "it takes too long".to_owned(),
    }
}
