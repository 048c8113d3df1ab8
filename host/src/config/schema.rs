//! The schema of the configuration file: every key, its default and its documentation are defined
//! here, and in `limit_keys`, only. The parser, the JSON Schema and the reference are generated from these types.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::canary::Canary;
use super::given::GivenKey;
use super::limit_keys::LimitKeys;
use super::listen::Listen;
use super::units::{Size, Time};
use crate::domain::{PointRules, Retention};

/// The configuration of Abide.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "abide.toml")]
pub(super) struct ConfigFile {
    /// The daemon itself.
    pub(super) daemon: DaemonKeys,
    /// How long what is no longer needed for running is kept.
    pub(super) retention: RetentionKeys,
    /// Tuning of the embedded store.
    pub(super) store: StoreKeys,
    /// Plugins: what sessions run. At least one is needed.
    pub(super) plugins: BTreeMap<String, PluginKeys>,
    /// Model providers: any server that speaks OpenAI's chat completions.
    pub(super) llm: BTreeMap<String, LlmKeys>,
    /// Tool servers: any server that speaks MCP, started by `command` or reached at `url`.
    pub(super) mcp: BTreeMap<String, McpKeys>,
}

/// The daemon itself.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DaemonKeys {
    /// The address to listen on, or a list of them. Beyond loopback only with a token.
    pub(super) listen: Listen,
    /// The folder of all durable state, relative to this file. It cannot change while the daemon
    /// runs.
    pub(super) data_dir: PathBuf,
    /// How long a drain waits for steps in flight before it cuts them.
    pub(super) shutdown_grace_period: Time,
    /// How long the service manager waits for the daemon to stop before it kills it (systemd's
    /// `TimeoutStopSec`, Kubernetes' `terminationGracePeriodSeconds`, `docker stop -t`). Must
    /// exceed the grace period.
    pub(super) stop_timeout: Time,
    /// What a change of this file does: `auto` takes it over, at once where `abide config plan` says
    /// `hot` of all of it and by a restart otherwise, `restart` restarts for every change, `ignore`
    /// waits for `abide restart`.
    pub(super) on_config_change: OnConfigChange,
    /// How long a plugin's new component is tried on copies of its sessions, before the restart that brings
    /// it; `0s` leaves that out. Sessions that were not tried by then are tried before their next turn.
    pub(super) trial_budget: Time,
    /// What a restart does that brings a component which cannot carry on all sessions: `keep` lets those
    /// stay on the component that they run on, `refuse` refuses the whole change before anything is
    /// drained.
    pub(super) on_failed_trial: OnFailedTrial,
    /// The share of a plugin's sessions that run on a new component first, at least 10 sessions: those that
    /// have a turn first. The others follow once it has proven itself; a turn that fails on it is answered
    /// by the component before it, where no call would be made twice. `off`: all sessions run on it at once.
    pub(super) canary: Canary,
    /// How many turns must end well on a new component before it has proven itself; none may fail for
    /// `probation` meanwhile.
    pub(super) canary_turns: u32,
    /// The environment variable that holds the API's bearer token.
    pub(super) token_env: Option<String>,
    /// The file that holds the API's bearer token, relative to this file.
    pub(super) token_file: Option<PathBuf>,
    /// A session without open work is told of a restart if it ended a turn within this time
    /// before it.
    pub(super) notice_window: Time,
    /// How long a new worker must serve before it counts as good.
    pub(super) probation: Time,
    /// The least severe level that is logged.
    pub(super) log_level: LogThreshold,
    /// How log lines are written.
    pub(super) log_format: LogFormat,
    /// Lines that may wait for whoever reads the log; what does not fit is dropped and counted. Of
    /// the supervisor's own lines 256 KiB may wait.
    pub(super) log_queue: Size,
    /// Names that clients may use in `Host`, besides the addresses listened on and `localhost`.
    pub(super) allowed_hosts: Vec<String>,
    /// Origins of web pages that may call the API, like `https://console.example`.
    pub(super) allowed_origins: Vec<String>,
    /// Turns that may be in flight at a time, over all sessions; further ones wait.
    pub(super) turns_max: u32,
    /// How long a session that does nothing is held in memory.
    pub(super) resident_idle: Time,
    /// Sessions without open work that a restart brings back before somebody asks for them, those
    /// first that ended a turn last (within `notice_window`). Those with open work come back
    /// always.
    pub(super) relaunch_max: u32,
    /// What sessions may hold in memory, all together: messages that wait or are on their way,
    /// snapshots kept for the next turn, idle sessions. From half of it on, idle sessions leave
    /// memory at once; beyond it, messages are refused with 429 and `Retry-After`.
    pub(super) session_memory: Size,
    /// What all guests together may hold in memory while they run. A turn reserves what its session
    /// last used, waits if there is no room, and is run again from its journal if it outgrows what
    /// is left; one that needs more than all of this runs alone. By default half of the memory that
    /// the control group, or else the machine, allows: the other half is for the store, sessions and
    /// tool servers.
    pub(super) guest_memory: Option<Size>,
    /// How long compiling a plugin's component may take. It is compiled once, in a process of its own that
    /// yields to the daemon; a component that takes longer is refused.
    pub(super) compile_timeout: Time,
    /// The memory that compiling a plugin's component may take; one that takes more is refused.
    pub(super) compile_memory: Size,
    /// What must be free on the disk of `data_dir`: with less, new sessions and messages are refused
    /// (507), and what was accepted before goes on. Several times `store.wal`; `0B` holds nothing
    /// back.
    pub(super) disk_reserve: Size,
}

/// The default of `daemon.data_dir`.
pub const DATA_DIR: &str = "data";

impl Default for DaemonKeys {
    fn default() -> Self {
        Self {
            listen: Listen::default(),
            data_dir: DATA_DIR.into(),
            shutdown_grace_period: Time::secs(20),
            stop_timeout: Time::secs(90),
            on_config_change: OnConfigChange::Auto,
            trial_budget: Time::secs(10),
            on_failed_trial: OnFailedTrial::Keep,
            canary: Canary(Some(500)),
            canary_turns: 20,
            token_env: None,
            token_file: None,
            notice_window: Time::secs(3600),
            probation: Time::secs(10),
            log_level: LogThreshold::Info,
            log_format: LogFormat::Text,
            log_queue: Size(1 << 20),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            turns_max: 1000,
            resident_idle: Time::secs(60),
            relaunch_max: 20_000,
            session_memory: Size(256 << 20),
            guest_memory: None,
            compile_timeout: Time::secs(100),
            compile_memory: Size(2 << 30),
            disk_reserve: Size(256 << 20),
        }
    }
}

/// What a change of the configuration file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum OnConfigChange {
    /// Applied at once where that is possible, else by a restart.
    Auto,
    /// Every change restarts.
    Restart,
    /// Nothing happens until a restart is requested.
    Ignore,
}

/// What a restart does that brings a component which cannot carry on all sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum OnFailedTrial {
    /// Those that it cannot carry on stay on the component that they run on.
    Keep,
    /// The whole change is refused.
    Refuse,
}

/// The least severe level that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum LogThreshold {
    /// No log.
    Off,
    /// Failures.
    Error,
    /// Also anything unusual.
    Warn,
    /// Also what an operator follows.
    Info,
    /// Also what a developer follows.
    Debug,
    /// Everything.
    Trace,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How long what is no longer needed for running is kept.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RetentionKeys {
    /// Events kept per session; older ones are trimmed.
    pub(super) events: u64,
    /// How long an idempotency key is known. At least 24 hours.
    pub(super) keys: Time,
    /// Dead letters kept per session; the oldest go first.
    pub(super) dead_letters: u64,
    /// How many of its last turns each session can be rewound by. The states before the last changes of
    /// its component, and before the last acts of operators on it, are kept besides.
    pub(super) points: u32,
    /// The size of the states that are kept for this, per session; the last two are kept whatever they
    /// weigh.
    pub(super) points_size: Size,
}

impl Default for RetentionKeys {
    fn default() -> Self {
        let Retention {
            events,
            keys,
            dead_letters,
            points: PointRules { turns, bytes },
        } = Retention::default();
        Self {
            events,
            keys: Time(keys),
            dead_letters,
            points: turns,
            points_size: Size(bytes),
        }
    }
}

/// Tuning of the embedded store.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct StoreKeys {
    /// The write-ahead log's size at which it is flushed. A larger one slows down the start after
    /// a crash.
    pub(super) wal: Size,
    /// Memory for blocks read from disk.
    pub(super) cache: Size,
}

impl Default for StoreKeys {
    fn default() -> Self {
        Self {
            wal: Size(16 << 20),
            cache: Size(32 << 20),
        }
    }
}

/// A plugin.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PluginKeys {
    /// Its WebAssembly component, relative to this file.
    pub(super) path: PathBuf,
    /// What it may reach outside its session. Nothing by default.
    #[serde(default)]
    pub(super) capabilities: CapabilityKeys,
    /// What each of its sessions may use.
    #[serde(default)]
    pub(super) limits: LimitKeys,
}

/// What a plugin may reach outside its sessions: names, or patterns with `*`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CapabilityKeys {
    /// Model providers, by the name of their `[llm.NAME]`.
    pub(super) llm: Vec<String>,
    /// Tools, by name: `SERVER__TOOL`, with the name of a tool server. That name alone grants all
    /// of the server's tools.
    pub(super) tools: Vec<String>,
    /// Hosts for outgoing HTTP, as `[SCHEME://]HOST[:PORT]`: https unless the entry says `http://`,
    /// the scheme's own port unless it names one (`:*` for any). A host may hold `*`, which matches
    /// names and never addresses. Private addresses are reached only where the entry is that address,
    /// or `localhost`, or by `http_private`.
    pub(super) http: Vec<String>,
    /// Of those hosts the names, or patterns, that may resolve to private addresses: loopback,
    /// private networks, link-local, cloud metadata.
    pub(super) http_private: Vec<String>,
}

/// A model provider.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LlmKeys {
    /// Where its API begins, like `http://127.0.0.1:8080/v1`.
    pub(super) base_url: String,
    /// The model to ask for where a guest names none.
    pub(super) model: String,
    /// How many tokens that model takes in all, request and answer together. A request that has
    /// more (by an estimate that the provider's own counts make better) is refused before it is
    /// sent, so that the plugin shortens the conversation; left out, it is as the provider has it,
    /// and some forget a conversation's beginning without a word.
    #[serde(default)]
    pub(super) context_tokens: Option<u32>,
    /// The environment variable that holds its API key, which is sent as a bearer token. For another
    /// header see `headers`.
    #[serde(default)]
    pub(super) api_key_env: Option<String>,
    /// The file that holds its API key, relative to this file.
    #[serde(default)]
    pub(super) api_key_file: Option<PathBuf>,
    /// How long a connection may take to come about.
    #[serde(default = "LlmKeys::connect_timeout")]
    pub(super) connect_timeout: Time,
    /// How long the server may say nothing, before and within an answer.
    #[serde(default = "LlmKeys::idle_timeout")]
    pub(super) idle_timeout: Time,
    /// How long one answer may take, from the request to its end. Below a plugin's
    /// `limits.step_timeout` it leaves time for the fallback.
    #[serde(default = "LlmKeys::timeout")]
    pub(super) timeout: Time,
    /// How often a request is sent again that failed for a reason that may pass: a connection that
    /// does not come about or breaks, 429, 5xx, an answer that is cut off or makes no sense. The
    /// pauses are those that the provider asks for (in `Retry-After` or in its error, up to 60 s), or
    /// grow from 0.25 s to 8 s and up to twice that at random. A server that is starting (it says so,
    /// or nothing listens yet) is asked again for up to a minute, unless this is 0 or there is a
    /// `fallback`.
    #[serde(default = "LlmKeys::retries")]
    pub(super) retries: u32,
    /// The provider, `[llm.NAME]`, that is asked for its own model where this one gives no answer or
    /// refuses the request. What a plugin may ask this one, it may so ask that one.
    #[serde(default)]
    pub(super) fallback: Option<String>,
    /// Further headers of each request: `{ api-key = { env = "AZURE_KEY" }, X-Title = "Abide" }`. A
    /// value is a text, or a table with `env` (the variable that holds it) or `file` (the file that
    /// does, relative to this one): a secret is never written here.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, GivenKey>,
    /// Further parameters of each request's URL, behind those that `base_url` has; values as in
    /// `headers`.
    #[serde(default)]
    pub(super) query: BTreeMap<String, GivenKey>,
    /// Further fields of each request's body, in place of those of the same name that Abide would
    /// send: `{ reasoning_effort = "low" }`.
    #[serde(default)]
    pub(super) body: BTreeMap<String, serde_json::Value>,
    /// What requests call their sender; `abide/VERSION` if left out.
    #[serde(default)]
    pub(super) user_agent: Option<String>,
    /// How many tools a request may offer. Of more, the last ones are left out, and the log names
    /// them.
    #[serde(default = "LlmKeys::tools_max")]
    pub(super) tools_max: u32,
    /// Whether the model is shown images (of tools; see a tool server's `images`). One that refuses
    /// them is shown their type and size instead, as with `false`.
    #[serde(default = "LlmKeys::images")]
    pub(super) images: bool,
}

impl LlmKeys {
    fn connect_timeout() -> Time {
        Time::secs(10)
    }
    fn idle_timeout() -> Time {
        Time::secs(120)
    }
    fn timeout() -> Time {
        Time::secs(300)
    }
    fn retries() -> u32 {
        2
    }
    /// OpenAI's limit.
    fn tools_max() -> u32 {
        128
    }
    fn images() -> bool {
        true
    }
}

/// A tool server.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct McpKeys {
    /// The program to start, then its arguments; it runs in this file's folder.
    pub(super) command: Vec<String>,
    /// Where the server is, instead of `command`: it speaks MCP over HTTP (streamable). Redirects are
    /// not followed, and a loopback URL is reached without a proxy.
    pub(super) url: Option<String>,
    /// What the program finds in its environment: its variable's name, then the name of the
    /// daemon's variable that holds the value, or a table: `{ value = "the value itself" }`,
    /// `{ env = "VARIABLE" }` or `{ file = "the file that holds it, relative to this one" }`. Of the
    /// daemon's own environment it finds only PATH, LANG, LC_*, TZ, and as the daemon's user HOME,
    /// TMPDIR, USER and SHELL.
    pub(super) env: BTreeMap<String, GivenKey>,
    /// The user that the program runs as, if it is not the daemon's: a name, or two ids (`UID:GID`). Then
    /// it can read and write nothing that is the daemon user's alone, such as the data folder and the files
    /// of secrets. The daemon has to be root, or to have the capabilities CAP_SETUID, CAP_SETGID and
    /// CAP_KILL. The program gets no rights by set-user-id files; HOME, USER, LOGNAME and SHELL are that
    /// user's.
    pub(super) user: Option<String>,
    /// Whether the data folder, this file, and the files of secrets are hidden from the program and all
    /// that it starts, by Landlock. In the folders above these it can list nothing, make nothing, and use
    /// nothing that was made after its start; deeper ones, and all others, are as ever. It can send no
    /// signal to the daemon, and gets no rights by set-user-id files. Where the kernel has no Landlock
    /// (Linux 5.13), the program is not started; `abide status` names what an older kernel does not hold.
    pub(super) sandbox: bool,
    /// Further headers of each request to `url`: `{ X-API-Key = { env = "KEY" }, X-Tenant = "acme" }`.
    /// A value is a text, or a table with `env` or `file` as in `env`: a secret is never written here.
    pub(super) headers: BTreeMap<String, GivenKey>,
    /// The environment variable that holds the bearer token for `url`.
    pub(super) token_env: Option<String>,
    /// The file that holds the bearer token for `url`, relative to this file.
    pub(super) token_file: Option<PathBuf>,
    /// How long a turn waits for the server to become usable: to start or to be connected to, and to
    /// list its tools. A start that takes longer goes on in the background, for up to ten times as
    /// long: programs are downloaded at their first one. Meanwhile turns go on without the server's
    /// tools. A server that fails is tried again after pauses that grow from 250 ms to 30 s, as soon
    /// as a turn wants it.
    pub(super) start_timeout: Time,
    /// How long the server may be silent during a call of a tool. Each progress that it tells of
    /// begins that anew, up to `limits.step_timeout`.
    pub(super) call_timeout: Time,
    /// The largest image in a tool's result that a model is shown: PNG, JPEG, GIF or WebP. In base64,
    /// which is a third longer, it has to fit into `limits.event`. Of larger ones, and of other data,
    /// a model is told what there was. By default it is shown none.
    pub(super) images: Size,
    /// Tools, by the server's own name or pattern, that may be called again where it is unknown
    /// whether a call happened. Without an entry here or in `once`, what the server says of a tool
    /// counts: those that only read, or that are idempotent, may.
    pub(super) repeatable: Vec<String>,
    /// Tools, by the server's own name or pattern, that are never called again by themselves,
    /// whatever the server says of them. Wins over `repeatable`.
    pub(super) once: Vec<String>,
    /// Tools, by the server's own name or pattern, that are called only once a human has approved.
    /// Until then the turn is parked, over any number of restarts; `abide approvals` answers.
    pub(super) ask: Vec<String>,
    /// How long an approval waits for its answer, by the wall clock, before it counts as denied. What
    /// is asked already keeps the time that it was asked with.
    pub(super) ask_timeout: Time,
}

impl Default for McpKeys {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            url: None,
            env: BTreeMap::new(),
            user: None,
            sandbox: false,
            headers: BTreeMap::new(),
            token_env: None,
            token_file: None,
            start_timeout: Time::secs(30),
            call_timeout: Time::secs(60),
            images: Size(0),
            repeatable: Vec::new(),
            once: Vec::new(),
            ask: Vec::new(),
            ask_timeout: Time::secs(7 * 24 * 60 * 60),
        }
    }
}
