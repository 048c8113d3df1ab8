//! A worker from its first breath to its serving.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::allocator;
use crate::config::{Config, Env, process_env};
use crate::domain::{Cause, Digest, Generation, RestartStatus, UnixMillis};
use crate::store::{Store, StoreOptions};
use crate::supervisor::{
    self, Connection, FromWorker, Link, LinkError, Mode, Start, StartCause, ToWorker,
};

use super::bootstrap;
use super::generation::{self, WorkerLife};
use super::launch_spec::LaunchSpec;
use super::standby::{self, Prepared};
use super::state::VERSION;
use super::{logging, serve};

/// How often the supervisor hears that this worker is not stuck.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The exit code for a configuration or a place that the daemon cannot run on.
const EXIT_UNUSABLE: u8 = 1;

/// A worker that opened its store and may serve.
pub(super) struct StartedWorker {
    pub(super) link: Arc<Link>,
    pub(super) orders: mpsc::UnboundedReceiver<ToWorker>,
    pub(super) prepared: Prepared,
    pub(super) env: Env,
    pub(super) store: Store,
    pub(super) life: WorkerLife,
    /// The worker before this one.
    pub(super) previous: Generation,
    /// Configurations that were rolled back, and why.
    pub(super) rejected_configs: BTreeMap<Digest, String>,
    /// Connections that it passed on.
    pub(super) connections: Vec<Connection>,
}

/// Runs `abide worker`, which the supervisor starts, to its end. At the first boot it runs on the
/// file, or on what last proved itself if `last_good`.
pub fn run(config_path: &Path, last_good: bool) -> ExitCode {
    let (link, start) = match supervisor::connect() {
        Ok(connected) => connected,
        Err(error) => {
            eprintln!("abide: {error}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_park(allocator::purge_if_requested)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("abide: the worker's threads cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run_async(
        Arc::new(link),
        start,
        config_path.to_owned(),
        last_good,
    ));
    // What still runs (a step's connection, a blocking read) has nothing left to say.
    runtime.shutdown_background();
    code
}

async fn run_async(
    link: Arc<Link>,
    start: Start,
    config_path: PathBuf,
    last_good: bool,
) -> ExitCode {
    let standby = start.mode == Mode::Standby;
    match start_up(link.clone(), start, config_path, last_good).await {
        Ok(Some(worker)) => serve::serve(worker).await,
        Ok(None) => ExitCode::SUCCESS,
        Err(lines) => {
            let reason = lines.join("\n");
            let last_word = if standby {
                FromWorker::StandbyFailed { reason }
            } else {
                for line in &lines {
                    eprintln!("{line}");
                }
                FromWorker::Fatal {
                    reason,
                    code: EXIT_UNUSABLE,
                }
            };
            // An error means that the supervisor is gone, and so are we.
            let _ = link.send(last_word);
            ExitCode::from(EXIT_UNUSABLE)
        }
    }
}

/// Everything up to the open store; none if the daemon was stopped before.
async fn start_up(
    link: Arc<Link>,
    start: Start,
    config_path: PathBuf,
    last_good: bool,
) -> Result<Option<StartedWorker>, Vec<String>> {
    let Start {
        mode,
        mut cause,
        generation,
        config,
        listeners,
        ..
    } = start;
    let mut orders = listen(link.clone());
    let env = process_env();
    let handed = match config {
        Some(bytes) => bytes
            .read()
            .map_err(|error| error.to_string())
            .and_then(|bytes| LaunchSpec::decode(&bytes))
            .map_err(|error| vec![format!("the handed-over configuration: {error}")])?,
        None => bootstrap::handed(&config_path, &env, last_good)?,
    };
    let config = match cause {
        StartCause::First => {
            let config = Config::validate(&handed.config, &config_path, &env).map_err(|error| {
                bootstrap::with_fallback_hint(error.to_string(), &handed, &config_path, &env)
            })?;
            bootstrap::announce_fallback(&config, &env, &link)?;
            config
        }
        StartCause::Planned => Config::validate(&handed.config, &config_path, &env)
            .map_err(|error| vec![error.to_string()])?,
        // It has served: what has become of the files that it names must not keep it down.
        StartCause::Crash { .. } | StartCause::Rollback { .. } => {
            Config::parse(&handed.config, &config_path, &env)
                .map_err(|error| vec![error.to_string()])?
        }
    };
    logging::start(config.daemon.log_level, config.daemon.log_format);
    let config = Arc::new(config);
    let prepared = {
        let (config, link, env) = (config.clone(), link.clone(), env.clone());
        let preparing = tokio::task::spawn_blocking(move || {
            standby::prepare(config, &handed, &env, listeners, &link)
        });
        async move {
            preparing
                .await
                .map_err(|error| vec![format!("the preparation ended early: {error}")])?
                .map_err(|error| vec![format!("{}: {error}", config_path.display())])
        }
    };
    let mut connections = Vec::new();
    let (prepared, opened) = match mode {
        Mode::Serve
            if matches!(
                cause,
                StartCause::Crash { .. } | StartCause::Rollback { .. }
            ) =>
        {
            // Clients wait. A worker has served on this configuration, and the supervisor has seen
            // its end: the store's opening waits for nothing.
            let (prepared, opened, ()) = tokio::join!(
                prepared,
                open(&config, generation, &cause),
                standby::end_leftovers(&config)
            );
            (prepared?, opened?)
        }
        Mode::Serve | Mode::Standby => {
            let prepared = prepared.await?;
            if mode == Mode::Standby {
                send(&link, FromWorker::StandbyReady)?;
                match stand_by(&mut orders, &mut connections).await {
                    Some(why) => cause = why,
                    None => return Ok(None),
                }
            }
            let opened = open(&config, generation, &cause).await?;
            if opened.life.record.cause == Cause::Crash {
                // The store is ours, so whoever owned it is dead. A worker that hands over has
                // seen to this itself.
                standby::end_leftovers(&config).await;
            }
            (prepared, opened)
        }
    };
    let OpenedStore {
        store,
        life,
        previous,
        rejected_configs,
    } = opened;
    Ok(Some(StartedWorker {
        link,
        orders,
        prepared,
        env,
        store,
        life,
        previous,
        rejected_configs,
        connections,
    }))
}

/// Waits for the word to take over, with its cause, and for what the worker that leaves passes on;
/// none if the daemon stops instead.
async fn stand_by(
    orders: &mut mpsc::UnboundedReceiver<ToWorker>,
    connections: &mut Vec<Connection>,
) -> Option<StartCause> {
    loop {
        match orders.recv().await? {
            ToWorker::Go { cause } => return Some(cause),
            ToWorker::Connection(connection) => connections.push(connection),
            ToWorker::Stop => return None,
            _ => {}
        }
    }
}

/// An open store, and what it says of this worker.
struct OpenedStore {
    store: Store,
    life: WorkerLife,
    previous: Generation,
    rejected_configs: BTreeMap<Digest, String>,
}

async fn open(
    config: &Arc<Config>,
    planned: Option<u64>,
    cause: &StartCause,
) -> Result<OpenedStore, Vec<String>> {
    let (config, cause) = (config.clone(), cause.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let options = StoreOptions {
            wal_bytes: config.store.wal_bytes,
            cache_bytes: usize::try_from(config.store.cache_bytes).unwrap_or(usize::MAX),
            retention: config.retention,
            ..StoreOptions::default()
        };
        let store = Store::open(&config.daemon.data_dir, options).map_err(|e| e.to_string())?;
        let told = |error: crate::store::StoreError| error.to_string();
        let planned = match planned {
            Some(generation) => store.restart(Generation(generation)).map_err(told)?,
            None => None,
        };
        let recent = store.restarts(RECENT).map_err(told)?;
        let last = recent.first().cloned();
        let life = generation::life(last, planned, &cause, VERSION, UnixMillis::now());
        let told: Vec<_> = life.abandoned.iter().chain(&recent).cloned().collect();
        let rejected_configs = generation::rejected_configs(&told);
        let served = |status| matches!(status, RestartStatus::Completed | RestartStatus::Probation);
        let mut before = recent
            .iter()
            .filter(|record| record.generation < life.record.generation);
        let previous = before.find(|record| served(record.status));
        let previous = previous.map_or(Generation(0), |record| record.generation);
        Ok::<_, String>(OpenedStore {
            store,
            life,
            previous,
            rejected_configs,
        })
    });
    match opened.await {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(reason)) => Err(vec![format!("daemon.data_dir: {reason}")]),
        Err(error) => Err(vec![format!("the store's opening ended early: {error}")]),
    }
}

/// Restart records that are looked at for the worker before this one.
const RECENT: usize = 32;

/// Passes the supervisor's words on; the end of the channel is the end of the supervisor.
fn listen(link: Arc<Link>) -> mpsc::UnboundedReceiver<ToWorker> {
    let (sender, orders) = mpsc::unbounded_channel();
    let ears = link.clone();
    // A thread: the link blocks. It ends with the link, at the latest with the process.
    std::thread::spawn(move || {
        loop {
            match ears.recv() {
                Ok(order) => {
                    if sender.send(order).is_err() {
                        return;
                    }
                }
                Err(LinkError::Wire(error)) => {
                    tracing::error!(%error, "the supervisor was not understood")
                }
                Err(_) => return,
            }
        }
    });
    tokio::spawn(async move {
        // On the runtime that does all the work: if that hangs, so does the beat.
        while link.send(FromWorker::Alive).is_ok() {
            tokio::time::sleep(HEARTBEAT).await;
        }
    });
    orders
}

pub(super) fn send(link: &Link, message: FromWorker) -> Result<(), Vec<String>> {
    link.send(message).map_err(|error| vec![error.to_string()])
}
