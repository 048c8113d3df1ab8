//! A worker whose store is not opened, since that would lose what was acknowledged. It stays up and
//! says so: an exit would be taken for a failed start, and an older binary would drop the rest without
//! a word.

use std::process::ExitCode;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::api::server::{CONNECTIONS_MAX, PreparedServer};
use crate::api::{RefusedApi, refused_router};
use crate::documents::{ConfigStatus, DaemonState, DaemonStatus};
use crate::domain::{Finding, FindingKind, Generation, UnixMillis};
use crate::store::OpenError;
use crate::supervisor::{FromWorker, Link, ToWorker};

use super::announce::announce;
use super::handover::LINGER;
use super::launch_spec::LaunchSpec;
use super::standby::Prepared;
use super::state::Fixed;

/// A worker whose store is not opened.
pub(super) struct RefusedStart {
    pub(super) link: Arc<Link>,
    pub(super) orders: mpsc::UnboundedReceiver<ToWorker>,
    pub(super) prepared: Prepared,
    pub(super) generation: Generation,
    pub(super) error: OpenError,
}

/// Whether a store is left closed for this reason, and the worker stays up: another start, or an older
/// binary, would not bring back what the files lack.
pub(super) fn stays_up(error: &OpenError) -> bool {
    match error {
        OpenError::Missing { .. } => true,
        // It may open at another try, under another binary, or when an operator has acted.
        OpenError::Corrupt { .. }
        | OpenError::Locked { .. }
        | OpenError::NewerFormat { .. }
        | OpenError::NewerPart { .. }
        | OpenError::NotAStore { .. }
        | OpenError::NotAFolder { .. }
        | OpenError::Gone { .. }
        | OpenError::Io(_) => false,
    }
}

/// Answers each request with the reason, until the daemon is stopped.
pub(super) async fn refuse(start: RefusedStart) -> ExitCode {
    let RefusedStart {
        link,
        mut orders,
        prepared,
        generation,
        error,
    } = start;
    let reason = format!("daemon.data_dir: {error}");
    tracing::error!("{reason}");
    let names = prepared.listeners.iter();
    let names: Vec<String> = names.map(|listener| listener.label.clone()).collect();
    let spec = LaunchSpec::of(&prepared.loaded, &prepared.secrets);
    let api = RefusedApi {
        status: Arc::new(status(&prepared, generation, &reason)),
        reason: reason.into(),
        access: prepared.access,
        metrics: prepared.metrics,
    };
    let router = refused_router(api);
    let server = match PreparedServer::of(prepared.listeners, router, CONNECTIONS_MAX) {
        Ok(server) => server,
        Err(error) => {
            tracing::error!("the listening sockets cannot be used: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = announce(&link, &prepared.config, spec, names) {
        tracing::error!(%error, "the supervisor cannot be told that this worker serves");
        return ExitCode::FAILURE;
    }
    let server = server.start();
    loop {
        match orders.recv().await {
            Some(ToWorker::Stop) => break,
            Some(ToWorker::Reload) => {
                tracing::warn!("the store is not opened, which a reload does not change");
            }
            Some(_) => {}
            None => return ExitCode::FAILURE,
        }
    }
    drop(server.hand_over(LINGER).await);
    match link.send(FromWorker::Stopped) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the supervisor is gone");
            ExitCode::FAILURE
        }
    }
}

fn status(prepared: &Prepared, generation: Generation, reason: &str) -> DaemonStatus {
    let now = UnixMillis::now();
    let config = &prepared.config;
    let fixed = Fixed {
        started_at: now,
        config: ConfigStatus {
            path: config.file.clone(),
            digest: Some(config.digest),
            loaded_at: Some(now),
            last_error: None,
        },
        plugins: Vec::new(),
    };
    let mut status = fixed.starting(generation);
    status.state = DaemonState::Refused;
    status.watchdog = Arc::new([Finding {
        kind: FindingKind::StoreRefused,
        subject: config.daemon.data_dir.display().to_string(),
        since: now,
        reason: reason.to_owned(),
        remedy:
            "stop the daemon; then move the folder away and `abide restore` a backup, or start \
                 once with `abide serve --accept-loss`"
                .to_owned(),
    }]);
    status
}
