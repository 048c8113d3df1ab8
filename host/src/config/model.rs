//! The resolved configuration, as the daemon uses it: typed, complete, paths absolute.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::canary::Canary;
use super::given::Given;
use super::place::Places;
use super::schema::{LogFormat, LogThreshold, OnConfigChange, OnFailedTrial};
use super::secret::SecretRef;
use crate::domain::{Capabilities, Digest, Limits, Patterns, Retention};

/// The time that a worker needs, once its turns have ended or are aborted, to persist that, close
/// the store and hand over.
pub const HAND_OVER_BUDGET: Duration = Duration::from_secs(5);

/// The time that the supervisor needs, once a worker's time is up, to kill it and its descendants
/// before the service manager kills them all.
pub const SUPERVISOR_BUDGET: Duration = Duration::from_secs(5);

/// A configuration that passed all checks of its content. Plugin files and secrets are checked only
/// by [`ConfigDraft::checked`](super::ConfigDraft::checked).
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from, absolute.
    pub file: PathBuf,
    /// The digest of the file's bytes.
    pub digest: Digest,
    pub daemon: DaemonConfig,
    /// How long data that is no longer needed for running is kept.
    pub retention: Retention,
    pub store: StoreTuning,
    /// Plugins by name; at least one.
    pub plugins: BTreeMap<String, PluginConfig>,
    /// Model providers by name.
    pub llm: BTreeMap<String, LlmProviderConfig>,
    /// Tool servers by name.
    pub mcp: BTreeMap<String, ToolServerConfig>,
    pub(super) places: Places,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonConfig {
    /// Addresses to listen on; at least one, no duplicates.
    pub listen: Vec<SocketAddr>,
    /// The directory of all durable state, absolute.
    pub data_dir: PathBuf,
    /// How long a drain waits for steps in flight.
    pub grace_period: Duration,
    /// How long the service manager waits for a stop before it kills.
    pub stop_timeout: Duration,
    /// How the daemon reacts to a change of the file.
    pub on_config_change: OnConfigChange,
    /// How long new components are tried before a restart.
    pub trial_budget: Duration,
    pub on_failed_trial: OnFailedTrial,
    /// Which share of sessions runs on a new component first.
    pub canary: Canary,
    /// How many turns must end well on it.
    pub canary_turns: u32,
    /// The API's bearer token, if the API requires one.
    pub token: Option<SecretRef>,
    /// How recently a session without open work must have committed a turn to be notified of a
    /// restart.
    pub notice_window: Duration,
    /// How long a new worker must serve before its probation is over.
    pub probation: Duration,
    /// The least severe level that is logged.
    pub log_level: LogThreshold,
    pub log_format: LogFormat,
    /// The most that waits for whoever reads the log, in bytes.
    pub log_queue_bytes: u64,
    /// Names allowed in `Host`, besides the addresses listened on and `localhost`.
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages that may call the API.
    pub allowed_origins: Vec<String>,
    /// The maximum number of turns in flight.
    pub turns_max: u32,
    /// How long an idle session stays in memory.
    pub resident_idle: Duration,
    /// The maximum number of sessions without open work that a restart brings back.
    pub relaunch_max: u32,
    /// The memory that all sessions together may hold, in bytes.
    pub session_memory_bytes: u64,
    /// The memory that all guests together may hold, in bytes; none for the default, which depends
    /// on the machine.
    pub guest_memory_bytes: Option<u64>,
    /// How long compiling a component may take.
    pub compile_timeout: Duration,
    /// The memory that compiling a component may take, in bytes.
    pub compile_memory_bytes: u64,
    /// The free disk space below which nothing new is accepted, in bytes.
    pub disk_reserve_bytes: u64,
}

impl DaemonConfig {
    /// Returns how long the supervisor lets a worker take to stop, from the beginning of the drain:
    /// longer than the grace period, shorter than the service manager's timeout.
    pub fn stop_budget(&self) -> Duration {
        self.stop_timeout.saturating_sub(SUPERVISOR_BUDGET)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreTuning {
    /// The size of the write-ahead log at which it is flushed.
    pub wal_bytes: u64,
    /// The cache for blocks read from disk.
    pub cache_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginConfig {
    /// The component's file, absolute.
    pub path: PathBuf,
    pub capabilities: Capabilities,
    pub limits: Limits,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LlmProviderConfig {
    /// The base URL of its API, without a trailing slash.
    pub base_url: String,
    /// The model to request if a guest names none.
    pub model: String,
    /// The model's context window in tokens, request and answer together.
    pub context_tokens: Option<u32>,
    pub api_key: Option<SecretRef>,
    /// The time limit for connecting.
    pub connect_timeout: Duration,
    /// How long the server may send nothing, before and within an answer.
    pub idle_timeout: Duration,
    /// The time limit for one answer.
    pub timeout: Duration,
    /// How often a request that failed for a transient reason is retried.
    pub retries: u32,
    /// The provider that is tried if this one gives no answer.
    pub fallback: Option<String>,
    /// Additional headers of its requests.
    pub headers: BTreeMap<String, Given>,
    /// Additional query parameters of its requests.
    pub query: BTreeMap<String, Given>,
    /// Additional fields of its requests' body.
    pub body: BTreeMap<String, serde_json::Value>,
    /// The `User-Agent` of its requests; `None` for Abide's own.
    pub user_agent: Option<String>,
    /// The maximum number of tools that a request offers.
    pub tools_max: u32,
    /// Whether images are sent to the model.
    pub images: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolServerConfig {
    pub transport: Transport,
    /// How long a turn waits for it to become usable.
    pub start_timeout: Duration,
    /// How long it may be silent during a call.
    pub call_timeout: Duration,
    /// The size limit of an image that is sent to a model, in bytes.
    pub image_bytes: u64,
    /// Tools that may be called again if it is unknown whether a call was executed.
    pub repeatable: Patterns,
    /// Tools that are never called again automatically, whatever the server declares. Takes
    /// precedence over `repeatable`.
    pub once: Patterns,
    /// Tools that are called only after a human has approved.
    pub ask: Patterns,
    /// How long an approval waits for an answer.
    pub ask_timeout: Duration,
}

/// The transport to a tool server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A child process, over its standard input and output.
    Command {
        program: String,
        args: Vec<String>,
        /// The environment variables set for it.
        env: BTreeMap<String, Given>,
        /// The user that it runs as, if it is not the daemon's.
        user: Option<String>,
        /// Whether the daemon's files are hidden from it.
        sandbox: bool,
    },
    /// MCP over HTTP.
    Http {
        url: String,
        token: Option<SecretRef>,
        /// Additional headers of its requests.
        headers: BTreeMap<String, Given>,
    },
}

impl Config {
    /// Returns the files that the configuration names, besides its own: plugins and secrets. New
    /// bytes in any of them count as a change.
    pub fn files(&self) -> BTreeSet<PathBuf> {
        let plugins = self.plugins.values().map(|plugin| plugin.path.clone());
        plugins.chain(self.secret_files()).collect()
    }

    fn secret_files(&self) -> impl Iterator<Item = PathBuf> {
        let secrets = self.secrets().into_iter();
        secrets.filter_map(|(_, secret)| match secret {
            SecretRef::File(file) => Some(file.clone()),
            SecretRef::Env(_) => None,
        })
    }

    /// Returns what holds that which is the daemon's alone: the data folder, the configuration, and the
    /// files of secrets.
    pub fn private_paths(&self) -> Vec<PathBuf> {
        let own = [self.daemon.data_dir.clone(), self.file.clone()];
        let files: BTreeSet<PathBuf> = self
            .secret_files()
            .filter(|file| !own.contains(file))
            .collect();
        own.into_iter().chain(files).collect()
    }

    /// Returns all secrets, by the key that names them.
    pub(super) fn secrets(&self) -> Vec<(String, &SecretRef)> {
        let mut all = Vec::new();
        all.extend(pair_of_keys("daemon.token", &self.daemon.token));
        for (name, provider) in &self.llm {
            let key = |last: &str| format!("llm.{name}.{last}");
            all.extend(pair_of_keys(&key("api_key"), &provider.api_key));
            all.extend(named_by(&key("headers"), &provider.headers));
            all.extend(named_by(&key("query"), &provider.query));
        }
        for (name, server) in &self.mcp {
            match &server.transport {
                Transport::Command { env, .. } => {
                    all.extend(named_by(&format!("mcp.{name}.env"), env));
                }
                Transport::Http { token, headers, .. } => {
                    all.extend(pair_of_keys(&format!("mcp.{name}.token"), token));
                    all.extend(named_by(&format!("mcp.{name}.headers"), headers));
                }
            }
        }
        all
    }
}

/// Returns a secret with the key that names it, which is one of two: `KEY_env` or `KEY_file`.
fn pair_of_keys<'a>(
    key: &str,
    secret: &'a Option<SecretRef>,
) -> impl Iterator<Item = (String, &'a SecretRef)> {
    secret.iter().map(move |secret| {
        let last = match secret {
            SecretRef::Env(_) => "env",
            SecretRef::File(_) => "file",
        };
        (format!("{key}_{last}"), secret)
    })
}

/// Returns the values of a table that are references, by key.
fn named_by<'a>(
    table: &str,
    values: &'a BTreeMap<String, Given>,
) -> impl Iterator<Item = (String, &'a SecretRef)> {
    values
        .iter()
        .filter_map(move |(name, value)| Some((format!("{table}.{name}"), value.secret_ref()?)))
}
