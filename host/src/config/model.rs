//! The configuration as the daemon uses it: typed, complete, paths absolute.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::diagnostics::{ConfigError, ConfigProblem, Place};
use super::document::{self, Places};
use super::given::Given;
use super::schema::{LogFormat, LogThreshold, OnConfigChange};
use super::secret::{Env, SecretRef};
use super::{preflight, resolve};
use crate::domain::{Capabilities, Digest, Limits, Patterns, Retention};

/// The largest configuration file, in bytes.
pub(super) const FILE_MAX_BYTES: u64 = 1 << 20;

/// What a worker needs, once its turns have ended or are cut, to write that down, close the store
/// and hand over.
pub const HAND_OVER_BUDGET: Duration = Duration::from_secs(5);

/// What the supervisor needs, once a worker's time is up, to end it and its descendants before the
/// service manager does.
pub const SUPERVISOR_BUDGET: Duration = Duration::from_secs(5);

/// A configuration that is sound in itself.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it came from, absolute.
    pub file: PathBuf,
    /// The digest of that file's bytes.
    pub digest: Digest,
    /// The daemon itself.
    pub daemon: DaemonConfig,
    /// How long what is no longer needed is kept.
    pub retention: Retention,
    /// Tuning of the store.
    pub store: StoreTuning,
    /// Plugins by name; at least one.
    pub plugins: BTreeMap<String, PluginConfig>,
    /// Model providers by name.
    pub llm: BTreeMap<String, LlmProviderConfig>,
    /// Tool servers by name.
    pub mcp: BTreeMap<String, ToolServerConfig>,
    pub(super) places: Places,
}

/// The daemon itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonConfig {
    /// Addresses to listen on; at least one, none twice.
    pub listen: Vec<SocketAddr>,
    /// The folder of all durable state, absolute.
    pub data_dir: PathBuf,
    /// How long a drain waits for steps in flight.
    pub grace_period: Duration,
    /// How long the service manager waits for a stop.
    pub stop_timeout: Duration,
    /// What a change of the file does.
    pub on_config_change: OnConfigChange,
    /// The API's bearer token, where one is wanted.
    pub token: Option<SecretRef>,
    /// How recent a committed turn must be for a session without open work to be told of a
    /// restart.
    pub notice_window: Duration,
    /// How long a new worker must serve before it counts as good.
    pub probation: Duration,
    /// The least severe level that is logged.
    pub log_level: LogThreshold,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// Names allowed in `Host`, besides the addresses listened on and `localhost`.
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages that may call the API.
    pub allowed_origins: Vec<String>,
    /// Turns in flight at a time.
    pub turns_max: u32,
    /// How long a session that does nothing is held in memory.
    pub resident_idle: Duration,
    /// Sessions without open work that a restart brings back.
    pub relaunch_max: u32,
    /// What sessions may hold in memory together, in bytes.
    pub session_memory_bytes: u64,
    /// What must be free on the disk for anything new to be accepted, in bytes.
    pub disk_reserve_bytes: u64,
}

impl DaemonConfig {
    /// How long the supervisor lets a worker take to stop, from the drain's beginning: longer than
    /// the grace period, shorter than the service manager's patience.
    pub fn stop_budget(&self) -> Duration {
        self.stop_timeout.saturating_sub(SUPERVISOR_BUDGET)
    }
}

/// Tuning of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreTuning {
    /// The write-ahead log's size at which it is flushed.
    pub wal_bytes: u64,
    /// Memory for blocks read from disk.
    pub cache_bytes: u64,
}

/// A plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginConfig {
    /// Its component, absolute.
    pub path: PathBuf,
    /// What it may reach.
    pub capabilities: Capabilities,
    /// What its sessions may use.
    pub limits: Limits,
}

/// A model provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LlmProviderConfig {
    /// Where its API begins, without a slash at its end.
    pub base_url: String,
    /// The model to ask for where a guest names none.
    pub model: String,
    /// How many tokens that model takes in all.
    pub context_tokens: Option<u32>,
    /// Its API key.
    pub api_key: Option<SecretRef>,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long the server may say nothing.
    pub idle_timeout: Duration,
    /// How long one answer may take.
    pub timeout: Duration,
    /// How often a request that failed for a reason that may pass is sent again.
    pub retries: u32,
    /// The provider that is asked where this one gives no answer.
    pub fallback: Option<String>,
    /// Further headers of its requests.
    pub headers: BTreeMap<String, Given>,
    /// Further parameters of its requests' URL.
    pub query: BTreeMap<String, Given>,
    /// Further fields of its requests' body.
    pub body: BTreeMap<String, serde_json::Value>,
    /// What its requests call their sender.
    pub user_agent: Option<String>,
    /// How many tools a request may offer.
    pub tools_max: u32,
    /// Whether the model is shown images.
    pub images: bool,
}

/// A tool server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolServerConfig {
    /// How it is reached.
    pub transport: Transport,
    /// How long it may take to become usable.
    pub start_timeout: Duration,
    /// How long it may be silent during a call.
    pub call_timeout: Duration,
    /// The largest image that a model is shown, in bytes.
    pub image_bytes: u64,
    /// Tools that may be called again where it is unknown whether a call happened.
    pub repeatable: Patterns,
    /// Tools that may not, whatever the server says of them. Wins over `repeatable`.
    pub once: Patterns,
    /// Tools that are called only once a human has approved.
    pub ask: Patterns,
    /// How long an approval waits for its answer.
    pub ask_timeout: Duration,
}

/// How a tool server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// As a child, over its standard input and output.
    Command {
        /// The program.
        program: String,
        /// Its arguments.
        args: Vec<String>,
        /// What it finds in its environment.
        env: BTreeMap<String, Given>,
    },
    /// Over HTTP.
    Http {
        /// Where.
        url: String,
        /// The bearer token.
        token: Option<SecretRef>,
        /// Further headers of its requests.
        headers: BTreeMap<String, Given>,
    },
}

/// A configuration with the bytes it was read from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What they mean.
    pub config: Config,
    /// What a standby is started on.
    pub bytes: Vec<u8>,
}

/// What was read of a configuration, which may not be sound.
#[derive(Clone, Debug)]
pub struct ConfigDraft {
    config: Config,
    problems: Vec<ConfigProblem>,
}

impl Config {
    /// Reads and parses a file. Plugin files and secrets are not looked at ([`Draft::checked`]).
    ///
    /// # Errors
    /// Where it cannot be read, or its content is not sound.
    pub fn load(path: &Path, env: &Env) -> Result<Loaded, ConfigError> {
        let bytes = read(path)?;
        let config = Self::parse(&bytes, path, env)?;
        Ok(Loaded { config, bytes })
    }

    /// Parses the bytes of `file`, whose folder its paths are relative to.
    ///
    /// # Errors
    /// Everything about the content that is not sound in itself.
    pub fn parse(bytes: &[u8], file: &Path, env: &Env) -> Result<Self, ConfigError> {
        let ConfigDraft { config, problems } = Self::draft(bytes, file, env)?;
        refuse(problems)?;
        Ok(config)
    }

    /// Parses as [`Config::parse`] and checks as [`Draft::checked`] in one, so that all problems
    /// are told at once.
    ///
    /// # Errors
    /// All that either of them finds.
    pub fn validate(bytes: &[u8], file: &Path, env: &Env) -> Result<Self, ConfigError> {
        Self::draft(bytes, file, env)?.checked(env)
    }

    /// The files that the configuration names, besides its own: plugins and secrets. New bytes in
    /// any of them are a change.
    pub fn files(&self) -> BTreeSet<PathBuf> {
        let plugins = self.plugins.values().map(|plugin| plugin.path.clone());
        let secrets = self.secrets().into_iter();
        plugins
            .chain(secrets.filter_map(|(_, secret)| match secret {
                SecretRef::File(file) => Some(file.clone()),
                SecretRef::Env(_) => None,
            }))
            .collect()
    }

    /// All secrets, by the key that names them.
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

    /// Reads the bytes of `file` as far as they can be understood.
    ///
    /// # Errors
    /// Where they are no configuration at all.
    pub fn draft(bytes: &[u8], file: &Path, env: &Env) -> Result<ConfigDraft, ConfigError> {
        if bytes.len() as u64 > FILE_MAX_BYTES {
            return Err(ConfigError::Invalid(vec![ConfigProblem {
                key: String::new(),
                place: Place::File(file.to_owned()),
                reason: format!("it has more than {FILE_MAX_BYTES} bytes"),
                remedy: "make it smaller".to_owned(),
            }]));
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
            Err(error) => {
                let line = 1 + bytes[..error.valid_up_to()]
                    .iter()
                    .filter(|b| **b == b'\n')
                    .count();
                return Err(ConfigError::Invalid(vec![ConfigProblem {
                    key: String::new(),
                    place: Place::File(file.to_owned()),
                    reason: format!("line {line} is not UTF-8"),
                    remedy: "save the file as UTF-8".to_owned(),
                }]));
            }
        };
        let (keys, places) = document::read(file, text, env).map_err(ConfigError::Invalid)?;
        let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let (config, problems) = resolve::understand(keys, absolute, Digest::of(bytes), places);
        Ok(ConfigDraft { config, problems })
    }
}

impl ConfigDraft {
    /// The files that it names ([`Config::files`]).
    pub fn files(&self) -> BTreeSet<PathBuf> {
        self.config.files()
    }

    /// The configuration, if it is sound. Also checks what only this machine can tell, and what a
    /// start would stumble over: plugin files are there and are components, secrets are there and
    /// not empty. Compiling plugins and opening the store are left to those who can.
    ///
    /// # Errors
    /// All that is not sound, missing or unusable.
    pub fn checked(self, env: &Env) -> Result<Config, ConfigError> {
        let Self {
            config,
            mut problems,
        } = self;
        problems.extend(preflight::problems(&config, env));
        refuse(problems)?;
        Ok(config)
    }
}

/// Reads a configuration file, whatever is in it.
fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let unreadable = |reason, remedy| ConfigError::Unreadable {
        file: path.to_owned(),
        reason,
        remedy,
    };
    let file = std::fs::File::open(path).map_err(|reason| {
        let remedy = match reason.kind() {
            std::io::ErrorKind::NotFound => {
                "`abide init` writes one, `--config FILE` names another"
            }
            std::io::ErrorKind::PermissionDenied => "let the daemon's user read it",
            _ => "make it a readable file",
        };
        unreadable(reason, remedy)
    })?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|reason| unreadable(reason, "make it a readable file"))?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        let reason = std::io::Error::other(format!("it has more than {FILE_MAX_BYTES} bytes"));
        return Err(unreadable(reason, "make it smaller"));
    }
    Ok(bytes)
}

fn refuse(problems: Vec<ConfigProblem>) -> Result<(), ConfigError> {
    if problems.is_empty() {
        Ok(())
    } else {
        Err(ConfigError::Invalid(problems))
    }
}

/// A secret that one of two keys names: `KEY_env` or `KEY_file`.
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

/// Those of a table's values that are named.
fn named_by<'a>(
    table: &str,
    values: &'a BTreeMap<String, Given>,
) -> impl Iterator<Item = (String, &'a SecretRef)> {
    values
        .iter()
        .filter_map(move |(name, value)| Some((format!("{table}.{name}"), value.secret_ref()?)))
}
