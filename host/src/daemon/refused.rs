//! A worker that has no store and stays up (see [`store_retry`](super::store_retry)). It answers each
//! request with the reason, and tries to open the store until that succeeds, or the daemon is stopped.
//!
//! ```text
//!   no store --> announce, answer 503 ---- the store opens ----> hand the clients over, serve
//!                  |    ^        |
//!                  |    |        +-- Stop --> Stopped, exit
//!                  v    | it does not
//!             pause, or Reload: try
//! ```
//!
//! To the supervisor it is a worker that serves. An exit would be taken for a failed start: clients
//! would wait for ever longer at sockets that nobody accepts from, and an older binary might drop what
//! the store lacks without a word.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{Notify, mpsc, watch};

use crate::api::server::{BoundListener, CONNECTIONS_MAX, PreparedServer, Server};
use crate::api::{RefusedApi, StoreRefusal, refused_router};
use crate::documents::{ConfigStatus, DaemonState};
use crate::domain::{Finding, FindingKind, Generation, UnixMillis};
use crate::supervisor::{Connection, FromWorker, Link, ToWorker};

use super::announce::announce;
use super::connections::{adopt, to_pass_on};
use super::handover::LINGER;
use super::launch_spec::LaunchSpec;
use super::open_store::{NoStore, OpenedStore, StoreOpening};
use super::standby::Prepared;
use super::state::Fixed;
use super::stop;
use super::store_retry::{FIRST_PAUSE, cause_once_open, next_pause, remedy};

/// A worker that has no store.
pub(super) struct RefusedWorker<'a> {
    pub(super) link: &'a Link,
    pub(super) orders: &'a mut mpsc::UnboundedReceiver<ToWorker>,
    pub(super) prepared: &'a Prepared,
    /// The open connections of clients that it has taken over; later, those that it leaves.
    pub(super) connections: &'a mut Vec<Connection>,
}

/// How a refusal ended.
pub(super) enum RefusalEnd {
    /// The store is open: the worker can serve.
    Opened(Box<OpenedStore>),
    /// The worker is to exit.
    Exit(ExitCode),
}

/// Answers each request with the reason until the store opens or the daemon is stopped. `error` is why
/// it has not opened yet.
pub(super) async fn refuse(
    worker: RefusedWorker<'_>,
    mut opening: StoreOpening,
    error: NoStore,
) -> anyhow::Result<RefusalEnd> {
    let RefusedWorker {
        link,
        orders,
        prepared,
        connections,
    } = worker;
    let generation = Generation(opening.planned.unwrap_or(0));
    let since = UnixMillis::now();
    let describe = |error: &NoStore, pause| refusal(prepared, generation, since, error, pause);
    tracing::error!("{error}");
    opening.cause = cause_once_open(opening.cause, &error.to_string());
    // It may be moved away to be repaired.
    opening.options.must_exist = true;
    let mut pause = FIRST_PAUSE;
    let (shows, shown) = watch::channel(describe(&error, pause));
    let server = serve(link, prepared, shown)?;
    for connection in connections.drain(..) {
        adopt(&server, connection);
    }
    let retry = StoreRetry {
        opening,
        at_once: Notify::new(),
        is_opening: AtomicBool::new(false),
    };
    let attempt = retry.after(pause);
    tokio::pin!(attempt);
    let opened = loop {
        tokio::select! {
            // A stop comes before a store that has just opened.
            biased;
            order = orders.recv() => match order {
                Some(ToWorker::Stop) => break None,
                // The operator may have repaired something.
                Some(ToWorker::Reload) => {
                    pause = FIRST_PAUSE;
                    retry.at_once.notify_one();
                }
                Some(ToWorker::Connection(connection)) => adopt(&server, connection),
                Some(_) => {}
                // The supervisor is gone.
                None => return Ok(RefusalEnd::Exit(ExitCode::FAILURE)),
            },
            opened = &mut attempt => match opened {
                Ok(opened) => break Some(opened),
                // This process is not trusted with the store any more: the supervisor starts another.
                Err(error @ NoStore::Panic(_)) => return Err(error.into()),
                Err(error) => {
                    if *shows.borrow().reason != *error.to_string() {
                        tracing::error!("{error}");
                    }
                    pause = next_pause(pause);
                    shows.send_replace(describe(&error, pause));
                    attempt.set(retry.after(pause));
                }
            },
        }
    };
    let idle = server.hand_over(LINGER).await;
    let Some(opened) = opened else {
        return Ok(RefusalEnd::Exit(retry.stopped(link)));
    };
    tracing::info!("the store is open now");
    connections.extend(idle.into_iter().map(to_pass_on));
    Ok(RefusalEnd::Opened(Box::new(opened)))
}

/// Opens the store later.
struct StoreRetry {
    opening: StoreOpening,
    /// Ends the pause.
    at_once: Notify,
    /// Whether a thread is in the store.
    is_opening: AtomicBool,
}

impl StoreRetry {
    /// Opens the store after a pause.
    async fn after(&self, pause: Duration) -> Result<OpenedStore, NoStore> {
        // An error is the pause's end.
        let _ = tokio::time::timeout(pause, self.at_once.notified()).await;
        self.is_opening.store(true, Ordering::Relaxed);
        let opened = self.opening.open().await;
        self.is_opening.store(false, Ordering::Relaxed);
        opened
    }

    /// Tells the supervisor that the daemon has stopped.
    fn stopped(&self, link: &Link) -> ExitCode {
        if let Err(error) = link.send(FromWorker::Stopped) {
            tracing::error!(%error, "the supervisor is gone");
            return ExitCode::FAILURE;
        }
        if self.is_opening.load(Ordering::Relaxed) {
            // Nothing was acknowledged meanwhile, and an exit in order would wait for the disk.
            stop::end_at_once();
        }
        ExitCode::SUCCESS
    }
}

/// Begins to answer on the worker's listeners, which stay usable to serve on later.
fn serve(
    link: &Link,
    prepared: &Prepared,
    refusal: watch::Receiver<StoreRefusal>,
) -> anyhow::Result<Server> {
    let router = refused_router(RefusedApi {
        refusal,
        access: prepared.access.clone(),
        metrics: prepared.metrics.clone(),
    });
    let listeners = prepared.listeners.iter().map(BoundListener::try_clone);
    let server = listeners
        .collect::<io::Result<_>>()
        .and_then(|listeners| PreparedServer::of(listeners, router, CONNECTIONS_MAX))
        .context("the listening sockets cannot be used")?;
    let names = prepared.listeners.iter();
    let names = names.map(|listener| listener.label.clone()).collect();
    let spec = LaunchSpec::of(&prepared.loaded, &prepared.secrets);
    announce(link, &prepared.config, spec, names)
        .context("the supervisor cannot be told that this worker serves")?;
    Ok(server.start())
}

fn refusal(
    prepared: &Prepared,
    generation: Generation,
    since: UnixMillis,
    error: &NoStore,
    pause: Duration,
) -> StoreRefusal {
    let config = &prepared.config;
    let reason = error.to_string();
    let fixed = Fixed {
        started_at: since,
        config: ConfigStatus {
            path: config.file.clone(),
            digest: Some(config.digest),
            loaded_at: Some(since),
            last_error: None,
        },
        plugins: Vec::new(),
    };
    let mut status = fixed.starting(generation);
    status.state = DaemonState::Refused;
    status.watchdog = Arc::new([Finding {
        kind: FindingKind::StoreRefused,
        subject: config.daemon.data_dir.display().to_string(),
        since,
        reason: reason.clone(),
        remedy: remedy(error).to_owned(),
    }]);
    StoreRefusal {
        status: Arc::new(status),
        reason: reason.into(),
        retry_after: pause.as_secs().try_into().unwrap_or(u16::MAX),
    }
}
