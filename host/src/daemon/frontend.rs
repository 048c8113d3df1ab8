//! What a worker meets its clients with: listening sockets, the access rules, metrics. It needs no disk,
//! so a worker that lacks its store or its plugins can still say so.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::api::server::BoundListener;
use crate::api::{Access, Pages, TokenDigest};
use crate::config::{Config, Env, SecretFiles};
use crate::supervisor::{FromWorker, Link, bind_listener};

use super::launch_spec::LaunchSpec;
use super::local_socket;
use super::standby::{Secrets, Unprepared, secret};

/// How long to retry binding an address that is in use, by a process that may be about to exit, and
/// the pause between two tries.
const BIND_PATIENCE: Duration = Duration::from_secs(2);
const BIND_PAUSE: Duration = Duration::from_millis(20);

/// What a worker meets its clients with.
pub(super) struct Frontend {
    pub(super) config: Arc<Config>,
    /// The content of the secret files that the configuration names.
    pub(super) secrets: SecretFiles,
    pub(super) access: Arc<Access>,
    pub(super) metrics: PrometheusHandle,
    pub(super) listeners: Vec<BoundListener>,
}

/// The reason why a worker cannot meet clients, with the remedy.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoFrontend {
    #[error("daemon.listen: {addr} is in use by another process; stop it, or choose another port")]
    InUse { addr: SocketAddr },
    #[error("daemon.listen: {addr} cannot be bound: {source}")]
    Bind { addr: SocketAddr, source: io::Error },
    #[error(transparent)]
    Token(#[from] Unprepared),
    #[error("metrics cannot be recorded: {0}")]
    Metrics(String),
}

impl Frontend {
    /// Binds the addresses that are not among the `kept` sockets, and reads the secrets. New listening
    /// sockets are sent to the supervisor at once, so that they outlive this worker. Blocks.
    pub(super) fn prepare(
        config: Arc<Config>,
        spec: &LaunchSpec,
        env: &Env,
        mut kept: Vec<(String, OwnedFd)>,
        link: &Link,
    ) -> Result<Self, NoFrontend> {
        let mut held = kept.len();
        let mut listeners = Vec::new();
        for addr in &config.daemon.listen {
            let name = addr.to_string();
            let fd = match kept.iter().position(|(kept, _)| *kept == name) {
                Some(at) => kept.swap_remove(at).1,
                None => {
                    held += 1;
                    bind(*addr, link)?
                }
            };
            listeners.push(BoundListener {
                socket: fd,
                label: name,
            });
        }
        let local = local_socket::obtain(&mut kept, held, link);
        let local_socket = local.as_ref().map(|local| local.label.clone());
        listeners.extend(local);
        let secrets = SecretFiles::of(&config, &spec.secrets);
        let token = secret(
            "daemon.token".to_owned(),
            config.daemon.token.as_ref(),
            Secrets {
                env,
                files: &secrets,
            },
        )?;
        let access = Arc::new(Access {
            token: token.as_deref().map(TokenDigest::new),
            local_socket,
            pages: Pages {
                hosts: config.daemon.allowed_hosts.clone(),
                origins: config.daemon.allowed_origins.clone(),
            },
        });
        let metrics = PrometheusBuilder::new()
            .install_recorder()
            .map_err(|error| NoFrontend::Metrics(error.to_string()))?;
        Ok(Self {
            config,
            secrets,
            access,
            metrics,
            listeners,
        })
    }
}

fn bind(addr: SocketAddr, link: &Link) -> Result<OwnedFd, NoFrontend> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => NoFrontend::InUse { addr },
        _ => NoFrontend::Bind { addr, source },
    };
    let since = Instant::now();
    let fd = loop {
        match bind_listener(addr) {
            // The worker of a killed supervisor needs a moment to exit.
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && since.elapsed() < BIND_PATIENCE =>
            {
                std::thread::sleep(BIND_PAUSE);
            }
            bound => break bound.map_err(failed)?,
        }
    };
    let copy = fd.try_clone().map_err(failed)?;
    link.send(FromWorker::Listening {
        addr: addr.to_string(),
        fd: copy,
    })
    .map_err(|error| failed(io::Error::other(error)))?;
    Ok(fd)
}
