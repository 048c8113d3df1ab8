//! Resolves keys to the configuration they describe, and records every problem that the file alone
//! reveals.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::diagnostics::ConfigProblem;
use super::given::Given;
use super::grants;
use super::limit_keys::LimitKeys;
use super::listen::{collide, is_loopback};
use super::model::{
    Config, DaemonConfig, HAND_OVER_BUDGET, LlmProviderConfig, PluginConfig, SUPERVISOR_BUDGET,
    StoreTuning,
};
use super::place::Places;
use super::resolve_tools::tool_server;
use super::schema::{ConfigFile, DaemonKeys, LlmKeys, PluginKeys, StoreKeys};
use super::secret::Secret;
use super::units::{Size, Time};
use super::value_checks::Notes;
use crate::domain::{Capabilities, Digest, Limits, Patterns, PointRules, Retention, ToolName};

/// The API promises that idempotency keys are remembered for at least a day.
const KEYS_MIN: Duration = Duration::from_secs(24 * 3600);
/// The most turns that a session can be rewound by: its points are read together.
const POINTS_MAX: u32 = 1000;
/// The least memory in which a guest starts.
const MEMORY_MIN_BYTES: u64 = 1 << 20;
/// The address space of a 32-bit guest.
const MEMORY_MAX_BYTES: u64 = 4 << 30;
/// The size limit of messages, events, snapshots and arguments: each is one record of the store.
const RECORD_MAX_BYTES: u64 = 256 << 20;
/// The size limit of a turn's journal: it is read into memory when the turn is resumed.
const JOURNAL_MAX_BYTES: u64 = 1 << 30;
/// Headers that Abide sets on requests to model servers, or that belong to the connection.
const MODEL_HEADERS: [&str; 8] = [
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
];
/// Fields of a request's body that Abide sets itself.
const MODEL_FIELDS: [&str; 5] = ["messages", "model", "n", "stream", "tools"];
/// More turns in flight would exhaust the memory mappings of the address space.
const TURNS_MAX: u32 = 10_000;
/// More would never be reached.
const CANARY_TURNS_MAX: u32 = 1_000_000;

/// Resolves the keys. A value that is recorded as a problem may have been replaced in the result.
pub(super) fn understand(
    keys: ConfigFile,
    file: PathBuf,
    digest: Digest,
    places: Places,
) -> (Config, Vec<ConfigProblem>) {
    let ConfigFile {
        daemon,
        retention,
        store,
        plugins,
        llm,
        mcp,
    } = keys;
    let folder = file.parent().unwrap_or(Path::new("/")).to_owned();
    let mut notes = Notes::new(places.clone());
    notes.names("plugins", plugins.keys());
    notes.names("llm", llm.keys());
    notes.names("mcp", mcp.keys());
    for name in mcp.keys().filter(|name| !ToolName::can_name_server(name)) {
        notes.add(
            &format!("mcp.{name}"),
            "a tool server's name cannot hold `__` or end in `_`: its tools are named SERVER__TOOL",
            "choose a name with single underscores within, like `my_files`",
        );
    }
    if plugins.is_empty() {
        notes.add(
            "plugins",
            "no plugin is configured (an empty or half-written file is not taken for a change)",
            "add [plugins.NAME] with its `path`",
        );
    }
    let providers: Vec<&str> = llm.keys().map(String::as_str).collect();
    for (name, plugin) in &plugins {
        grants::llm(&mut notes, name, &plugin.capabilities.llm, &providers);
    }
    let fallbacks = llm.iter();
    let fallbacks = fallbacks
        .filter_map(|(name, keys)| Some((name.as_str(), keys.fallback.as_deref()?)))
        .collect();
    grants::fallbacks(&mut notes, &fallbacks, &providers);
    let retention = Retention {
        events: retention.events,
        keys: notes.time("retention.keys", retention.keys, KEYS_MIN),
        dead_letters: retention.dead_letters,
        points: PointRules {
            turns: notes.count("retention.points", retention.points, 0, POINTS_MAX),
            bytes: notes.size("retention.points_size", retention.points_size, 0, 1 << 30),
        },
    };
    if retention.events == 0 {
        notes.add(
            "retention.events",
            "`0` would keep nothing",
            "choose 1 or more",
        );
    }
    let StoreKeys { wal, cache } = store;
    let store = StoreTuning {
        wal_bytes: notes.size("store.wal", wal, 1 << 20, 1 << 30),
        cache_bytes: notes.size("store.cache", cache, 1 << 20, 1 << 40),
    };
    let config = Config {
        daemon: understand_daemon(&mut notes, daemon, &folder),
        retention,
        store,
        plugins: named(plugins, |name, keys| {
            plugin(&mut notes, name, keys, &folder)
        }),
        llm: named(llm, |name, keys| provider(&mut notes, name, keys, &folder)),
        mcp: named(mcp, |name, keys| {
            tool_server(&mut notes, name, keys, &folder)
        }),
        file,
        digest,
        places,
    };
    (config, notes.problems)
}

fn named<K, T>(
    keys: BTreeMap<String, K>,
    mut understand: impl FnMut(&str, K) -> T,
) -> BTreeMap<String, T> {
    keys.into_iter()
        .map(|(name, keys)| {
            let understood = understand(&name, keys);
            (name, understood)
        })
        .collect()
}

fn understand_daemon(notes: &mut Notes, keys: DaemonKeys, folder: &Path) -> DaemonConfig {
    let zero = Duration::ZERO;
    let second = Duration::from_secs(1);
    let daemon = DaemonConfig {
        listen: keys.listen.0,
        data_dir: folder.join(keys.data_dir),
        grace_period: notes.time(
            "daemon.shutdown_grace_period",
            keys.shutdown_grace_period,
            zero,
        ),
        stop_timeout: notes.time("daemon.stop_timeout", keys.stop_timeout, second),
        on_config_change: keys.on_config_change,
        trial_budget: notes.time("daemon.trial_budget", keys.trial_budget, zero),
        on_failed_trial: keys.on_failed_trial,
        canary: keys.canary,
        canary_turns: notes.count(
            "daemon.canary_turns",
            keys.canary_turns,
            1,
            CANARY_TURNS_MAX,
        ),
        token: notes.secret("daemon.token", keys.token_env, keys.token_file, folder),
        notice_window: notes.time("daemon.notice_window", keys.notice_window, zero),
        probation: notes.time("daemon.probation", keys.probation, zero),
        log_level: keys.log_level,
        log_format: keys.log_format,
        log_queue_bytes: notes.size("daemon.log_queue", keys.log_queue, 4 << 10, 1 << 30),
        allowed_hosts: keys.allowed_hosts,
        allowed_origins: keys.allowed_origins,
        turns_max: notes.count("daemon.turns_max", keys.turns_max, 1, TURNS_MAX),
        resident_idle: notes.time("daemon.resident_idle", keys.resident_idle, zero),
        relaunch_max: keys.relaunch_max,
        session_memory_bytes: notes.size(
            "daemon.session_memory",
            keys.session_memory,
            16 << 20,
            1 << 40,
        ),
        guest_memory_bytes: keys
            .guest_memory
            .map(|size| notes.size("daemon.guest_memory", size, 1 << 20, 1 << 50)),
        compile_timeout: notes.time("daemon.compile_timeout", keys.compile_timeout, second),
        compile_memory_bytes: notes.size(
            "daemon.compile_memory",
            keys.compile_memory,
            64 << 20,
            1 << 40,
        ),
        disk_reserve_bytes: notes.size("daemon.disk_reserve", keys.disk_reserve, 0, 1 << 50),
    };
    listening(notes, &daemon.listen, daemon.token.is_some());
    chain(notes, &daemon);
    for origin in &daemon.allowed_origins {
        let is_origin = origin
            .parse::<http::Uri>()
            .is_ok_and(|uri| uri.scheme().is_some() && uri.path().trim_matches('/').is_empty());
        if !is_origin {
            notes.add(
                "daemon.allowed_origins",
                format!("`{origin}` is not an origin"),
                "write it like \"https://console.example\"",
            );
        }
    }
    daemon
}

fn listening(notes: &mut Notes, listen: &[SocketAddr], has_token: bool) {
    let key = "daemon.listen";
    if listen.is_empty() {
        notes.add(
            key,
            "there is no address",
            "write one like \"127.0.0.1:7420\"",
        );
    }
    for (i, address) in listen.iter().enumerate() {
        if let Some(earlier) = listen[..i].iter().find(|earlier| collide(earlier, address)) {
            let reason = if earlier == address {
                format!("`{address}` is listed twice")
            } else {
                format!("`{address}` and `{earlier}` overlap, and the system binds only one")
            };
            notes.add(key, reason, "keep one of them");
        }
    }
    if let Some(open) = listen.iter().find(|address| !is_loopback(address))
        && !has_token
    {
        notes.add(
            key,
            format!("`{open}` can be reached from other machines, and there is no token"),
            "name one with `token_env` or `token_file` in [daemon], or listen on 127.0.0.1 only",
        );
    }
}

/// Checks grace period < supervisor's budget < service manager's timeout, each with time left for
/// the stage that follows it.
fn chain(notes: &mut Notes, daemon: &DaemonConfig) {
    let needed = daemon
        .grace_period
        .saturating_add(HAND_OVER_BUDGET)
        .saturating_add(SUPERVISOR_BUDGET);
    if needed > daemon.stop_timeout {
        let most = daemon
            .stop_timeout
            .saturating_sub(HAND_OVER_BUDGET + SUPERVISOR_BUDGET);
        let lower = if most.is_zero() {
            String::new()
        } else {
            format!(", or lower the grace period to {}", Time(most))
        };
        notes.add(
            "daemon.shutdown_grace_period",
            format!(
                "a grace period of {} with {} to hand over and {} for the supervisor makes {}, \
                 but the service manager kills after stop_timeout = {}",
                Time(daemon.grace_period),
                Time(HAND_OVER_BUDGET),
                Time(SUPERVISOR_BUDGET),
                Time(needed),
                Time(daemon.stop_timeout),
            ),
            format!(
                "raise stop_timeout (and the manager's own setting) to {}{lower}",
                Time(needed)
            ),
        );
    }
}

fn plugin(notes: &mut Notes, name: &str, keys: PluginKeys, folder: &Path) -> PluginConfig {
    let PluginKeys {
        path,
        capabilities,
        limits,
    } = keys;
    PluginConfig {
        path: folder.join(path),
        capabilities: Capabilities {
            llm: Patterns(capabilities.llm),
            tools: Patterns(capabilities.tools),
            http: grants::http(notes, name, capabilities.http, capabilities.http_private),
        },
        limits: understand_limits(notes, name, limits),
    }
}

fn understand_limits(notes: &mut Notes, name: &str, keys: LimitKeys) -> Limits {
    let key = |last: &str| format!("plugins.{name}.limits.{last}");
    let least = Duration::from_millis(10);
    let mut record =
        |last: &str, size: Size, min: u64| notes.size(&key(last), size, min, RECORD_MAX_BYTES);
    let snapshot_bytes = record("snapshot", keys.snapshot, 1);
    let message_bytes = record("message", keys.message, 1);
    let args_bytes = record("args", keys.args, 0);
    let event_bytes = record("event", keys.event, 1);
    let output_bytes = record("output", keys.output, 1);
    let journal_bytes = notes.size(&key("journal"), keys.journal, 1, JOURNAL_MAX_BYTES);
    Limits {
        memory_bytes: notes.size(
            &key("memory"),
            keys.memory,
            MEMORY_MIN_BYTES,
            MEMORY_MAX_BYTES,
        ),
        turn_timeout: notes.time(&key("turn_timeout"), keys.turn_timeout, least),
        compute: notes.time(&key("compute"), keys.compute, least),
        step_timeout: notes.time(&key("step_timeout"), keys.step_timeout, least),
        snapshot_bytes,
        message_bytes,
        args_bytes,
        inbox: notes.count(&key("inbox"), keys.inbox, 1, 1_000_000),
        events: notes.count(&key("events"), keys.events, 1, 1_000_000),
        event_bytes,
        output_bytes,
        timers: notes.count(&key("timers"), keys.timers, 0, 100_000),
        log_lines: notes.count(&key("log_lines"), keys.log_lines, 0, 1_000_000),
        steps: notes.count(&key("steps"), keys.steps, 0, 1_000_000),
        journal_bytes,
    }
}

fn provider(notes: &mut Notes, name: &str, keys: LlmKeys, folder: &Path) -> LlmProviderConfig {
    let key = |last: &str| format!("llm.{name}.{last}");
    let least = Duration::from_millis(10);
    notes.url(&key("base_url"), &keys.base_url);
    if keys.model.trim().is_empty() {
        notes.add(
            &key("model"),
            "the model's name is empty",
            "name the model to ask for",
        );
    }
    let headers = notes.headers(&key("headers"), keys.headers, folder, &MODEL_HEADERS);
    let api_key = notes.secret(&key("api_key"), keys.api_key_env, keys.api_key_file, folder);
    let authorization = headers.keys();
    let mut authorization = authorization.filter(|name| name.eq_ignore_ascii_case("authorization"));
    if let (Some(name), Some(_)) = (authorization.next(), &api_key) {
        notes.add(
            &key(&format!("headers.{name}")),
            "the API key is sent in this header already",
            "keep one of them",
        );
    }
    let mut query = BTreeMap::new();
    for (parameter, given) in keys.query {
        let given = notes.given(
            &key(&format!("query.{parameter}")),
            given,
            folder,
            |_, text| Some(Given::Value(Secret::new(text))),
        );
        query.extend(given.map(|given| (parameter, given)));
    }
    for field in keys
        .body
        .keys()
        .filter(|field| MODEL_FIELDS.contains(&field.as_str()))
    {
        notes.add(
            &key(&format!("body.{field}")),
            "Abide makes this field of a request itself",
            "remove it",
        );
    }
    for (field, value) in &keys.body {
        if holds_date(value) {
            notes.add(
                &key(&format!("body.{field}")),
                "JSON has no dates",
                "write it as a text, in quotes",
            );
        }
    }
    if let Some(agent) = &keys.user_agent
        && http::HeaderValue::from_str(agent).is_err()
    {
        notes.add(
            &key("user_agent"),
            "this text cannot stand in a header",
            "write it in printable ASCII",
        );
    }
    LlmProviderConfig {
        base_url: keys.base_url.trim_end_matches('/').to_owned(),
        model: keys.model,
        context_tokens: keys
            .context_tokens
            .map(|count| notes.count(&key("context_tokens"), count, 256, 100_000_000)),
        api_key,
        connect_timeout: notes.time(&key("connect_timeout"), keys.connect_timeout, least),
        idle_timeout: notes.time(&key("idle_timeout"), keys.idle_timeout, least),
        timeout: notes.time(&key("timeout"), keys.timeout, least),
        retries: notes.count(&key("retries"), keys.retries, 0, 100),
        fallback: keys.fallback,
        headers,
        query,
        body: keys.body,
        user_agent: keys.user_agent,
        tools_max: notes.count(&key("tools_max"), keys.tools_max, 1, 100_000),
        images: keys.images,
    }
}

/// Returns whether a value contains a TOML date. The parser passes one to other formats as a table
/// with a key that starts with `$__toml_private`.
fn holds_date(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Array(items) => items.iter().any(holds_date),
        serde_json::Value::Object(fields) => fields
            .iter()
            .any(|(name, value)| name.starts_with("$__toml_private") || holds_date(value)),
        _ => false,
    }
}
