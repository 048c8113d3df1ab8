//! What sessions run with, apart from the store: plugins, models, tool servers. A standby prepares it
//! while the old worker still serves, so that a failure there interrupts nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::config::{
    BadSecret, Config, DaemonConfig, Env, Given, Observed, SecretFiles, SecretRef, Transport,
    plugin_bytes,
};
use crate::domain::{CanaryRule, Digest};
use crate::engine::{CompileLimits, Compiler, Component, Engine, EngineOptions, LoadError};
use crate::providers::{
    BadProvider, Endpoint, Hidden, HttpSender, LlmProvider, LlmProviders, NoHttp, Program,
    ToolServer, ToolServerAt, ToolServers,
};
use crate::session::{LiveConfig, Plugin, Plugins};
use crate::store::{OpenError, StoreOptions, find_store};

use super::launch_spec::LaunchSpec;
use super::memory_limit::guest_memory_bytes;

/// What a worker runs sessions with, apart from its store.
pub(super) struct Prepared {
    /// The configuration file, and the files that it names, as they were loaded.
    pub(super) loaded: Observed,
    pub(super) engine: Engine,
    pub(super) parts: LiveConfig,
}

/// The sources of secrets.
#[derive(Clone, Copy)]
pub(super) struct Secrets<'a> {
    pub(super) env: &'a Env,
    pub(super) files: &'a SecretFiles,
}

/// The reason why nothing can run on a configuration, with the remedy.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unprepared {
    #[error("{key}: {source}")]
    Plugin { key: String, source: LoadError },
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
    #[error("daemon.data_dir: {} cannot be used: {source}", path.display())]
    DataDir {
        path: PathBuf,
        source: std::io::Error,
    },
    /// There is no store where there was one.
    #[error("daemon.data_dir: {0}")]
    NoStore(#[from] OpenError),
    #[error("{key}: {source}")]
    Secret { key: String, source: BadSecret },
    #[error("the preparation ended early: {0}")]
    Panic(#[from] tokio::task::JoinError),
}

impl Unprepared {
    /// Returns the error of a plugin whose component cannot be loaded.
    pub(super) fn component(plugin: &str, source: LoadError) -> Self {
        Self::Plugin {
            key: format!("plugins.{plugin}.path"),
            source,
        }
    }
}

/// What is to be prepared, once or until it succeeds.
#[derive(Clone)]
pub(super) struct Preparation {
    pub(super) config: Arc<Config>,
    pub(super) spec: Arc<LaunchSpec>,
    pub(super) env: Arc<Env>,
    /// The content of the secret files that the configuration names.
    pub(super) secrets: SecretFiles,
    /// With which the store is to be opened.
    pub(super) store: StoreOptions,
    /// Whether another worker serves meanwhile, which compiling must not slow down.
    pub(super) beside_another: bool,
    /// Rises while a plugin is compiled, which the supervisor is told.
    pub(super) progress: Arc<AtomicU64>,
}

impl Preparation {
    /// Compiles the plugins and resolves what the configuration names. Waits for the disk on a thread
    /// of its own.
    pub(super) async fn run(&self) -> Result<Prepared, Unprepared> {
        let preparation = self.clone();
        tokio::task::spawn_blocking(move || preparation.run_blocking()).await?
    }

    fn run_blocking(&self) -> Result<Prepared, Unprepared> {
        let Self {
            config,
            spec,
            env,
            secrets,
            store,
            beside_another,
            progress,
        } = self;
        let data_dir = &config.daemon.data_dir;
        // Made anew where one is expected, the folder would hide that the store is gone.
        if !find_store(data_dir, store)? {
            let mut builder = fs::DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(data_dir);
            made.map_err(|source| Unprepared::DataDir {
                path: data_dir.clone(),
                source,
            })?;
        }
        let limits = compile_limits(&config.daemon);
        let engine = Engine::new(EngineOptions {
            cache_dir: data_dir.join("cache"),
            components_dir: data_dir.join("components"),
            turns_max: config.daemon.turns_max,
            guest_memory_bytes: guest_memory_bytes(&config.daemon),
            compiler: Compiler::OwnProcess(progress.clone()),
            compile_limits: CompileLimits {
                yields: *beside_another,
                ..limits
            },
        })?;
        let (mut components, mut digests) = (BTreeMap::new(), BTreeMap::new());
        for (name, plugin) in &config.plugins {
            let component = component(&engine, name, &plugin.path, spec)?;
            digests.insert(plugin.path.clone(), Some(component.digest()));
            components.insert(name.clone(), component);
        }
        // From now on there are sessions.
        engine.set_compile_limits(limits);
        // For secret files in the launch spec, record the digest that was handed over, not the current
        // one: the watch then detects what has changed since.
        for file in spec.secrets.files() {
            digests.insert(file.clone(), spec.files.get(file).copied());
        }
        let loaded = Observed::with(spec.config.clone(), digests).narrowed(config.files());
        let secrets = Secrets {
            env,
            files: secrets,
        };
        let parts = parts(config, secrets, &components, None)?;
        Ok(Prepared {
            loaded,
            engine,
            parts,
        })
    }
}

/// Returns the limits of compiling a plugin's component.
pub(super) fn compile_limits(config: &DaemonConfig) -> CompileLimits {
    CompileLimits {
        timeout: config.compile_timeout,
        memory_bytes: config.compile_memory_bytes,
        yields: true,
    }
}

/// Loads a plugin's component: from its file, unless the launch spec names another content that has
/// been kept.
fn component(
    engine: &Engine,
    name: &str,
    path: &Path,
    spec: &LaunchSpec,
) -> Result<Arc<Component>, Unprepared> {
    let failed = |source| Unprepared::component(name, source);
    let bytes = plugin_bytes(path);
    if let Some(wanted) = spec.files.get(path)
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
        canaries: canary_rule(&config.daemon),
        notice_window: config.daemon.notice_window,
        resident_idle: config.daemon.resident_idle,
        relaunch_max: config.daemon.relaunch_max as usize,
    })
}

/// How new components are rolled out.
fn canary_rule(daemon: &DaemonConfig) -> CanaryRule {
    CanaryRule {
        share: daemon.canary.0,
        turns: daemon.canary_turns,
        probation_ms: u64::try_from(daemon.probation.as_millis()).unwrap_or(u64::MAX),
    }
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
            Transport::Command {
                program,
                args,
                env,
                user,
                sandbox,
            } => ToolServerAt::Command(Program {
                program: program.clone(),
                args: args.clone(),
                env: values(&format!("mcp.{name}.env"), env, secrets)?,
                user: user.clone(),
                hidden: sandbox.then(|| config.private_paths()),
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

pub(super) fn secret(
    key: String,
    secret: Option<&SecretRef>,
    Secrets { env, files }: Secrets<'_>,
) -> Result<Option<String>, Unprepared> {
    let read = secret.map(|secret| files.read(secret, env)).transpose();
    let read = read.map_err(|source| Unprepared::Secret { key, source })?;
    Ok(read.map(|secret| secret.expose().to_owned()))
}
