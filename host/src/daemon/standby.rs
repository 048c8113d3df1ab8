//! Everything that can be prepared before the store is opened. A standby does it while the old
//! worker still serves, so that a failure there interrupts nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::api::server::BoundListener;
use crate::api::{Access, TokenDigest};
use crate::config::{
    BadSecret, Config, Env, Given, Observed, SecretFiles, SecretRef, Transport, plugin_bytes,
};
use crate::domain::Digest;
use crate::engine::{Component, Engine, EngineOptions};
use crate::providers::{
    BadProvider, Endpoint, Hidden, HttpSender, LlmProvider, LlmProviders, NoHttp, Program,
    ToolServer, ToolServerAt, ToolServers,
};
use crate::session::{LiveConfig, Plugin, Plugins};
use crate::supervisor::{FromWorker, Link, bind_listener};

use super::launch_spec::LaunchSpec;
use super::memory_limit::guest_memory_bytes;

/// How long to retry binding an address that is in use, by a process that may be about to exit, and
/// the pause between two tries.
const BIND_PATIENCE: Duration = Duration::from_secs(2);
const BIND_PAUSE: Duration = Duration::from_millis(20);

/// A worker that lacks only its store.
pub(super) struct Prepared {
    pub(super) config: Arc<Config>,
    /// The configuration file, and the files that it names, as they were loaded.
    pub(super) loaded: Observed,
    pub(super) secrets: SecretFiles,
    pub(super) engine: Engine,
    pub(super) parts: LiveConfig,
    pub(super) access: Arc<Access>,
    pub(super) metrics: PrometheusHandle,
    pub(super) listeners: Vec<BoundListener>,
}

/// The sources of secrets.
#[derive(Clone, Copy)]
pub(super) struct Secrets<'a> {
    pub(super) env: &'a Env,
    pub(super) files: &'a SecretFiles,
}

/// The reason why a worker cannot run on a configuration, with the remedy.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unprepared {
    #[error("{key}: {source}")]
    Plugin {
        key: String,
        source: crate::engine::LoadError,
    },
    #[error("plugins.{name}.path: {} cannot be read: {source}", path.display())]
    PluginFile {
        name: String,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    Engine(#[from] crate::engine::EngineError),
    #[error(transparent)]
    Provider(#[from] BadProvider),
    #[error(transparent)]
    Http(#[from] NoHttp),
    #[error("metrics cannot be recorded: {0}")]
    Metrics(String),
    #[error("daemon.listen: {addr} is in use by another process; stop it, or choose another port")]
    InUse { addr: SocketAddr },
    #[error("daemon.listen: {addr} cannot be bound: {source}")]
    Bind {
        addr: SocketAddr,
        source: std::io::Error,
    },
    #[error("daemon.data_dir: {} cannot be used: {source}", path.display())]
    DataDir {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{key}: {source}")]
    Secret { key: String, source: BadSecret },
}

/// Compiles the plugins, binds the addresses and checks the configuration. New listening sockets
/// are sent to the supervisor at once, so that they outlive this worker. Blocks.
pub(super) fn prepare(
    config: Arc<Config>,
    handed: &LaunchSpec,
    env: &Env,
    mut kept: Vec<(String, OwnedFd)>,
    link: &Link,
) -> Result<Prepared, Unprepared> {
    let mut listeners = Vec::new();
    for addr in &config.daemon.listen {
        let name = addr.to_string();
        let fd = match kept.iter().position(|(kept, _)| *kept == name) {
            Some(at) => kept.swap_remove(at).1,
            None => bind(*addr, link)?,
        };
        listeners.push(BoundListener {
            socket: fd.into(),
            label: name,
        });
    }
    let data_dir = config.daemon.data_dir.clone();
    let private = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&data_dir);
    private.map_err(|source| Unprepared::DataDir {
        path: data_dir.clone(),
        source,
    })?;
    let engine = Engine::new(EngineOptions {
        cache_dir: data_dir.join("cache"),
        components_dir: data_dir.join("components"),
        turns_max: config.daemon.turns_max,
        guest_memory_bytes: guest_memory_bytes(&config.daemon),
    })?;
    let (mut components, mut digests) = (BTreeMap::new(), BTreeMap::new());
    for (name, plugin) in &config.plugins {
        let component = component(&engine, name, &plugin.path, handed)?;
        digests.insert(plugin.path.clone(), Some(component.digest()));
        components.insert(name.clone(), component);
    }
    // For secret files in the launch spec, record the digest that was handed over, not the current
    // one: the watch then detects what has changed since.
    for file in handed.secrets.files() {
        digests.insert(file.clone(), handed.files.get(file).copied());
    }
    let loaded = Observed::with(handed.config.clone(), digests).narrowed(config.files());
    let secrets = SecretFiles::of(&config, &handed.secrets);
    let secret_source = Secrets {
        env,
        files: &secrets,
    };
    let token = secret(
        "daemon.token".to_owned(),
        config.daemon.token.as_ref(),
        secret_source,
    )?;
    let parts = parts(&config, secret_source, &components, None)?;
    let access = Arc::new(Access {
        token: token.as_deref().map(TokenDigest::new),
        hosts: config.daemon.allowed_hosts.clone(),
        origins: config.daemon.allowed_origins.clone(),
    });
    let metrics = PrometheusBuilder::new()
        .install_recorder()
        .map_err(|error| Unprepared::Metrics(error.to_string()))?;
    Ok(Prepared {
        config,
        loaded,
        secrets,
        engine,
        parts,
        access,
        metrics,
        listeners,
    })
}

/// Loads a plugin's component: from its file, unless the launch spec names another content that has
/// been kept.
fn component(
    engine: &Engine,
    name: &str,
    path: &Path,
    handed: &LaunchSpec,
) -> Result<Arc<Component>, Unprepared> {
    let failed = |source| Unprepared::Plugin {
        key: format!("plugins.{name}.path"),
        source,
    };
    let bytes = plugin_bytes(path);
    if let Some(wanted) = handed.files.get(path)
        && !matches!(&bytes, Ok(bytes) if Digest::of(bytes) == *wanted)
        && let Some(kept) = engine.kept(*wanted).map_err(failed)?
    {
        return Ok(kept);
    }
    let bytes = bytes.map_err(|source| Unprepared::PluginFile {
        name: name.to_owned(),
        path: path.to_owned(),
        source,
    })?;
    let component = engine.load(&bytes).map_err(failed)?;
    engine.keep(&bytes).map_err(failed)?;
    Ok(component)
}

/// Ends the processes that the tool servers of a dead worker have left behind: none of them may act
/// any more.
pub(super) async fn end_leftovers(config: &Config) {
    ToolServers::end_leftovers(&owner(config)).await;
}

/// Returns the owner name that marks the tool servers of all workers of this data directory.
fn owner(config: &Config) -> String {
    Digest::of(config.daemon.data_dir.as_os_str().as_encoded_bytes()).to_string()
}

/// Builds the live configuration of sessions. `components` are the plugins' components by name. The
/// tool servers of `before` whose configuration is unchanged are kept running, and so is its HTTP
/// client.
pub(super) fn parts(
    config: &Config,
    secrets: Secrets<'_>,
    components: &BTreeMap<String, Arc<Component>>,
    before: Option<&LiveConfig>,
) -> Result<LiveConfig, Unprepared> {
    let plugins = config.plugins.iter().filter_map(|(name, plugin)| {
        let plugin = Plugin {
            component: components.get(name)?.clone(),
            limits: plugin.limits.clone(),
            grants: plugin.capabilities.clone(),
        };
        Some((name.clone(), Arc::new(plugin)))
    });
    let servers = tool_servers(config, secrets)?;
    Ok(LiveConfig {
        plugins: Plugins(plugins.collect()),
        llm: Arc::new(llm(config, secrets)?),
        tools: match before {
            Some(before) => before.tools.with(servers),
            None => ToolServers::new(servers),
        },
        http: match before {
            Some(before) => before.http.clone(),
            None => Arc::new(HttpSender::new()?),
        },
        notice_window: config.daemon.notice_window,
        resident_idle: config.daemon.resident_idle,
        relaunch_max: config.daemon.relaunch_max as usize,
    })
}

fn llm(config: &Config, secrets: Secrets<'_>) -> Result<LlmProviders, Unprepared> {
    let mut providers = BTreeMap::new();
    for (name, provider) in &config.llm {
        let key = format!("llm.{name}.api_key");
        let api_key = secret(key, provider.api_key.as_ref(), secrets)?;
        providers.insert(
            name.clone(),
            LlmProvider {
                base_url: provider.base_url.clone(),
                model: provider.model.clone(),
                context_tokens: provider.context_tokens.map(u64::from),
                api_key: api_key.map(Hidden::new),
                connect_timeout: provider.connect_timeout,
                idle_timeout: provider.idle_timeout,
                timeout: provider.timeout,
                retries: provider.retries,
                fallback: provider.fallback.clone(),
                headers: givens(&format!("llm.{name}.headers"), &provider.headers, secrets)?,
                query: givens(&format!("llm.{name}.query"), &provider.query, secrets)?,
                body: provider.body.clone().into_iter().collect(),
                user_agent: provider.user_agent.clone(),
                tools_max: provider.tools_max as usize,
                images: provider.images,
            },
        );
    }
    Ok(LlmProviders::new(providers)?)
}

fn tool_servers(
    config: &Config,
    secrets: Secrets<'_>,
) -> Result<BTreeMap<String, ToolServer>, Unprepared> {
    let mut servers = BTreeMap::new();
    for (name, server) in &config.mcp {
        let at = match &server.transport {
            Transport::Command { program, args, env } => ToolServerAt::Command(Program {
                program: program.clone(),
                args: args.clone(),
                env: values(&format!("mcp.{name}.env"), env, secrets)?,
                cwd: config.file.parent().unwrap_or(Path::new("/")).to_owned(),
                owner: owner(config),
            }),
            Transport::Http {
                url,
                token,
                headers,
            } => ToolServerAt::Url(Endpoint {
                url: url.clone(),
                token: secret(format!("mcp.{name}.token"), token.as_ref(), secrets)?,
                headers: values(&format!("mcp.{name}.headers"), headers, secrets)?,
            }),
        };
        let server = ToolServer {
            at,
            start_timeout: server.start_timeout,
            call_timeout: server.call_timeout,
            image_bytes: server.image_bytes,
            repeatable: server.repeatable.clone(),
            once: server.once.clone(),
            ask: server.ask.clone(),
            ask_timeout: server.ask_timeout,
        };
        servers.insert(name.clone(), server);
    }
    Ok(servers)
}

/// Returns the values of a table; reads those that name a secret.
fn values(
    table: &str,
    given: &BTreeMap<String, Given>,
    secrets: Secrets<'_>,
) -> Result<Vec<(String, String)>, Unprepared> {
    let mut all = Vec::new();
    for (name, given) in given {
        let value = match given {
            Given::Value(value) => Some(value.expose().to_owned()),
            Given::Named(named) => secret(format!("{table}.{name}"), Some(named), secrets)?,
        };
        all.extend(value.map(|value| (name.clone(), value)));
    }
    Ok(all)
}

/// Like [`values`], with values that are never shown.
fn givens(
    table: &str,
    given: &BTreeMap<String, Given>,
    secrets: Secrets<'_>,
) -> Result<Vec<(String, Hidden)>, Unprepared> {
    let values = values(table, given, secrets)?.into_iter();
    let hidden = values.map(|(name, value)| {
        let value = match given.get(&name) {
            Some(Given::Named(_)) => Hidden::named(value),
            Some(Given::Value(_)) | None => Hidden::new(value),
        };
        (name, value)
    });
    Ok(hidden.collect())
}

fn secret(
    key: String,
    secret: Option<&SecretRef>,
    Secrets { env, files }: Secrets<'_>,
) -> Result<Option<String>, Unprepared> {
    let read = secret.map(|secret| files.read(secret, env)).transpose();
    let read = read.map_err(|source| Unprepared::Secret { key, source })?;
    Ok(read.map(|secret| secret.expose().to_owned()))
}

fn bind(addr: SocketAddr, link: &Link) -> Result<OwnedFd, Unprepared> {
    let failed = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AddrInUse => Unprepared::InUse { addr },
        _ => Unprepared::Bind { addr, source },
    };
    let since = Instant::now();
    let fd = loop {
        match bind_listener(addr) {
            // The worker of a killed supervisor needs a moment to exit.
            Err(error)
                if error.kind() == std::io::ErrorKind::AddrInUse
                    && since.elapsed() < BIND_PATIENCE =>
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
    .map_err(|error| failed(std::io::Error::other(error)))?;
    Ok(fd)
}
