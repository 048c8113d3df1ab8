//! A worker that cannot serve and stays up (see [`service_retry`](super::service_retry)): its store does
//! not open, or what sessions run with cannot be prepared. It answers each request with the reason, and
//! tries again until that succeeds, or the daemon is stopped.
//!
//! ```text
//!   cannot serve --> announce, answer 503 ---- it can ----> hand the clients over, serve
//!                      |    ^        |
//!                      |    |        +-- Stop --> Stopped, exit
//!                      v    | it cannot
//!                 pause, or Reload: try
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
use crate::api::{RefusalKind, RefusedApi, ServiceRefusal, refused_router};
use crate::config::Config;
use crate::documents::{ConfigStatus, DaemonState};
use crate::domain::{Finding, FindingKind, Generation, UnixMillis};
use crate::supervisor::{Connection, FromWorker, Link, ToWorker};

use super::announce::announce;
use super::connections::{adopt, to_pass_on};
use super::frontend::Frontend;
use super::handover::LINGER;
use super::launch_spec::LaunchSpec;
use super::open_store::{OpenedStore, StoreOpening};
use super::service_retry::{CannotServe, FIRST_PAUSE, cause_of_late_service, next_pause, remedy};
use super::standby::{Preparation, Prepared};
use super::state::Fixed;
use super::stop;

/// A worker that cannot serve.
pub(super) struct RefusedWorker<'a> {
    pub(super) link: &'a Link,
    pub(super) orders: &'a mut mpsc::UnboundedReceiver<ToWorker>,
    pub(super) frontend: &'a Frontend,
    /// The open connections of clients that it has taken over; later, those that it leaves.
    pub(super) connections: &'a mut Vec<Connection>,
}

/// What a worker tries until it can serve.
pub(super) struct ServiceAttempt {
    pub(super) preparation: Preparation,
    pub(super) opening: StoreOpening,
    /// What the preparation has led to, if it has succeeded.
    pub(super) prepared: Option<Prepared>,
}

/// How a refusal ended.
pub(super) enum RefusalEnd {
    /// The worker can serve.
    Ready(Box<(Prepared, OpenedStore)>),
    /// The worker is to exit.
    Exit(ExitCode),
}

/// Answers each request with the reason until the worker can serve or the daemon is stopped. `error` is
/// why it cannot yet.
pub(super) async fn refuse(
    worker: RefusedWorker<'_>,
    attempt: ServiceAttempt,
    error: CannotServe,
) -> anyhow::Result<RefusalEnd> {
    let RefusedWorker {
        link,
        orders,
        frontend,
        connections,
    } = worker;
    let ServiceAttempt {
        mut preparation,
        mut opening,
        prepared,
    } = attempt;
    let generation = Generation(opening.planned.unwrap_or(0));
    let since = UnixMillis::now();
    let describe =
        |error: &CannotServe, pause| refusal(&frontend.config, generation, since, error, pause);
    tracing::error!("{error}");
    opening.cause = cause_of_late_service(opening.cause, &error.to_string());
    // It may be moved away to be repaired.
    opening.options.must_exist = true;
    preparation.store.must_exist = true;
    let mut pause = FIRST_PAUSE;
    let (shows, shown) = watch::channel(describe(&error, pause));
    let spec = match &prepared {
        Some(prepared) => LaunchSpec::of(&prepared.loaded, &frontend.secrets),
        // It stays up on what an earlier worker has served on, which is whole.
        None => LaunchSpec::clone(&preparation.spec),
    };
    let server = serve(link, frontend, spec, shown)?;
    for connection in connections.drain(..) {
        adopt(&server, connection);
    }
    let retry = ServiceRetry {
        preparation,
        opening,
        at_once: Notify::new(),
        is_opening: AtomicBool::new(false),
    };
    let attempt = retry.after(pause, prepared.map(Box::new));
    tokio::pin!(attempt);
    let ready = loop {
        tokio::select! {
            // A stop comes before a worker that can just serve.
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
            tried = &mut attempt => match tried {
                Tried::Ready(ready) => break Some(ready),
                // This process is not trusted any more: the supervisor starts another.
                Tried::Failed { error, .. } if error.is_panic() => return Err(error.into()),
                Tried::Failed { error, prepared } => {
                    if *shows.borrow().reason != *error.to_string() {
                        tracing::error!("{error}");
                    }
                    pause = next_pause(pause);
                    shows.send_replace(describe(&error, pause));
                    attempt.set(retry.after(pause, prepared));
                }
            },
        }
    };
    let Some(ready) = ready else {
        server.stop(LINGER).await;
        return Ok(RefusalEnd::Exit(retry.stopped(link)));
    };
    let idle = server.hand_over(LINGER).await;
    tracing::info!("the daemon can serve now");
    connections.extend(idle.into_iter().map(to_pass_on));
    Ok(RefusalEnd::Ready(ready))
}

/// Tries later.
struct ServiceRetry {
    preparation: Preparation,
    opening: StoreOpening,
    /// Ends the pause.
    at_once: Notify,
    /// Whether a thread is in the store.
    is_opening: AtomicBool,
}

/// What came of a try.
enum Tried {
    Ready(Box<(Prepared, OpenedStore)>),
    Failed {
        error: CannotServe,
        /// What need not be prepared again.
        prepared: Option<Box<Prepared>>,
    },
}

impl ServiceRetry {
    /// Tries after a pause to prepare what is not prepared, and to open the store.
    async fn after(&self, pause: Duration, prepared: Option<Box<Prepared>>) -> Tried {
        // An error is the pause's end.
        let _ = tokio::time::timeout(pause, self.at_once.notified()).await;
        let prepared = match prepared {
            Some(prepared) => prepared,
            None => match self.preparation.run().await {
                Ok(prepared) => Box::new(prepared),
                Err(source) => {
                    return Tried::Failed {
                        error: CannotServe::unprepared(&self.preparation.config, source),
                        prepared: None,
                    };
                }
            },
        };
        self.is_opening.store(true, Ordering::Relaxed);
        let opened = self.opening.open().await;
        self.is_opening.store(false, Ordering::Relaxed);
        match opened {
            Ok(opened) => Tried::Ready(Box::new((*prepared, opened))),
            Err(error) => Tried::Failed {
                error: error.into(),
                prepared: Some(prepared),
            },
        }
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

/// Begins to answer on the worker's listeners, which stay usable to serve on later. A worker after this
/// one starts with `spec`.
fn serve(
    link: &Link,
    frontend: &Frontend,
    spec: LaunchSpec,
    refusal: watch::Receiver<ServiceRefusal>,
) -> anyhow::Result<Server> {
    let router = refused_router(RefusedApi {
        refusal,
        access: frontend.access.clone(),
        metrics: frontend.metrics.clone(),
    });
    let listeners = frontend.listeners.iter().map(BoundListener::try_clone);
    let server = listeners
        .collect::<io::Result<_>>()
        .and_then(|listeners| PreparedServer::of(listeners, router, CONNECTIONS_MAX))
        .context("the listening sockets cannot be used")?;
    let names = frontend.listeners.iter();
    let names = names.map(|listener| listener.label.clone()).collect();
    announce(link, &frontend.config, spec, names)
        .context("the supervisor cannot be told that this worker serves")?;
    Ok(server.start())
}

fn refusal(
    config: &Config,
    generation: Generation,
    since: UnixMillis,
    error: &CannotServe,
    pause: Duration,
) -> ServiceRefusal {
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
    let (kind, finding, subject) = match error {
        CannotServe::Store(_) => (
            RefusalKind::Store,
            FindingKind::StoreRefused,
            &config.daemon.data_dir,
        ),
        CannotServe::Unprepared { config, .. } => {
            (RefusalKind::Preparation, FindingKind::NotPrepared, config)
        }
    };
    let mut status = fixed.starting(generation);
    status.state = DaemonState::Refused;
    status.watchdog = Arc::new([Finding {
        kind: finding,
        subject: subject.display().to_string(),
        since,
        reason: reason.clone(),
        remedy: remedy(error).to_owned(),
    }]);
    ServiceRefusal {
        kind,
        status: Arc::new(status),
        reason: reason.into(),
        retry_after: pause.as_secs().try_into().unwrap_or(u16::MAX),
    }
}
