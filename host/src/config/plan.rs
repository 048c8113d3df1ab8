//! What a new configuration changes, and what each change takes. Every struct is taken apart by
//! name, so that the compiler asks where a new key belongs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::resolved::{
    Config, Daemon, LlmProvider, Plugin, StoreTuning, ToolServer, Transport,
};
use super::secret::SecretRef;
use super::units::{Size, Time};
use crate::domain::{Capabilities, Limits, Patterns, Retention};

/// What a change takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Can be applied at once.
    Hot,
    /// Takes a restart.
    Restart,
    /// Cannot change while the daemon's state is to be kept.
    Fixed,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    /// The key, as in `plugins.echo.limits.memory`.
    pub key: String,
    /// What it takes.
    pub class: Class,
    /// The value before, for humans; nothing for what is new. Secrets are not shown.
    pub from: Option<String>,
    /// The value after; nothing for what is gone.
    pub to: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) if from == to => write!(f, "{}: new content", self.key),
            (Some(from), Some(to)) => write!(f, "{}: {from} -> {to}", self.key),
            (None, Some(to)) => write!(f, "{}: added ({to})", self.key),
            (Some(from), None) => write!(f, "{}: removed (was {from})", self.key),
            (None, None) => f.write_str(&self.key),
        }
    }
}

/// All differences between two configurations.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Plan {
    /// Each of them; none where the meaning is the same.
    pub changes: Vec<Change>,
    /// What is to be done.
    pub verdict: Verdict,
    removed_plugins: Vec<String>,
}

/// What is to be done about a plan.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The meaning is the same.
    Nothing,
    /// Every change can be applied at once.
    Hot,
    /// A change takes a restart.
    Restart,
    /// It would lose what must not be lost.
    Refused(Vec<Refusal>),
}

/// Why a plan is refused.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Refusal {
    /// The key.
    pub key: String,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.key, self.reason, self.remedy)
    }
}

impl Plan {
    /// Plugins that the new configuration no longer has. It must be refused while one of them has
    /// open sessions.
    pub fn removed_plugins(&self) -> &[String] {
        &self.removed_plugins
    }
}

/// Compares the running configuration with a new one. `changed` are files that both name and
/// whose bytes differ (see [`Observed::changed_since`](super::Observed::changed_since)).
pub fn plan(old: &Config, new: &Config, changed: &BTreeSet<PathBuf>) -> Plan {
    let mut diff = Diff {
        changed,
        changes: Vec::new(),
    };
    let Config {
        // The same keys in another file, or in other words, are the same configuration.
        file: _,
        digest: _,
        places: _,
        daemon,
        retention,
        store,
        plugins,
        llm,
        mcp,
    } = new;
    diff.daemon(&old.daemon, daemon);
    diff.retention(&old.retention, retention);
    diff.store(&old.store, store);
    diff.entries("plugins", Class::Restart, &old.plugins, plugins, Diff::plugin, |plugin| {
        plugin.path.display().to_string()
    });
    diff.entries("llm", Class::Hot, &old.llm, llm, Diff::provider, |provider| {
        url(&provider.base_url)
    });
    diff.entries("mcp", Class::Hot, &old.mcp, mcp, Diff::tool_server, |server| {
        transport(&server.transport)
    });
    let removed = old.plugins.keys().filter(|name| !plugins.contains_key(*name));
    Plan {
        removed_plugins: removed.cloned().collect(),
        verdict: verdict(&diff.changes),
        changes: diff.changes,
    }
}

fn verdict(changes: &[Change]) -> Verdict {
    match changes.iter().map(|change| change.class).max() {
        None => Verdict::Nothing,
        Some(Class::Hot) => Verdict::Hot,
        Some(Class::Restart) => Verdict::Restart,
        Some(Class::Fixed) => Verdict::Refused(
            changes
                .iter()
                .filter(|change| change.class == Class::Fixed)
                .map(|change| Refusal {
                    key: change.key.clone(),
                    reason: format!(
                        "it cannot change while sessions live there ({} -> {})",
                        change.from.as_deref().unwrap_or("nothing"),
                        change.to.as_deref().unwrap_or("nothing"),
                    ),
                    remedy: "put the old value back; to move the data, stop the daemon, move the \
                             folder, change the key, and start it"
                        .to_owned(),
                })
                .collect(),
        ),
    }
}

struct Diff<'a> {
    changed: &'a BTreeSet<PathBuf>,
    changes: Vec<Change>,
}

impl Diff<'_> {
    fn note<T: PartialEq>(
        &mut self,
        key: impl Into<String>,
        class: Class,
        (old, new): (&T, &T),
        show: impl Fn(&T) -> String,
    ) {
        if old != new {
            self.changes.push(Change {
                key: key.into(),
                class,
                from: Some(show(old)),
                to: Some(show(new)),
            });
        }
    }

    fn content(&mut self, key: String, class: Class, file: &Path) {
        if self.changed.contains(file) {
            let shown = file.display().to_string();
            self.changes.push(Change {
                key,
                class,
                from: Some(shown.clone()),
                to: Some(shown),
            });
        }
    }

    fn secret(
        &mut self,
        key: String,
        class: Class,
        (old, new): (&Option<SecretRef>, &Option<SecretRef>),
    ) {
        if old != new {
            self.changes.push(Change {
                key,
                class,
                from: old.as_ref().map(SecretRef::to_string),
                to: new.as_ref().map(SecretRef::to_string),
            });
        } else if let Some(SecretRef::File(file)) = new {
            self.content(key, class, file);
        }
    }

    /// Compares named tables: those that are gone, those that are new, those that differ.
    fn entries<T>(
        &mut self,
        section: &str,
        class: Class,
        old: &BTreeMap<String, T>,
        new: &BTreeMap<String, T>,
        compare: impl Fn(&mut Self, &str, &T, &T),
        show: impl Fn(&T) -> String,
    ) {
        for (name, entry) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
            self.changes.push(Change {
                key: format!("{section}.{name}"),
                class,
                from: Some(show(entry)),
                to: None,
            });
        }
        for (name, entry) in new {
            match old.get(name) {
                Some(before) => compare(self, &format!("{section}.{name}"), before, entry),
                None => self.changes.push(Change {
                    key: format!("{section}.{name}"),
                    class,
                    from: None,
                    to: Some(show(entry)),
                }),
            }
        }
    }

    fn daemon(&mut self, old: &Daemon, new: &Daemon) {
        use Class::{Fixed, Hot, Restart};
        let Daemon {
            listen,
            data_dir,
            grace_period,
            stop_timeout,
            on_config_change,
            token,
            notice_window,
            probation,
            log_level,
            log_format,
            allowed_hosts,
            allowed_origins,
            turns_max,
            resident_idle,
        } = new;
        // The order of addresses, hosts and origins means nothing.
        let sorted = |list: &[std::net::SocketAddr]| {
            let mut list = list.to_vec();
            list.sort();
            list
        };
        self.note("daemon.listen", Restart, (&sorted(&old.listen), &sorted(listen)), |list| {
            let shown: Vec<String> = list.iter().map(ToString::to_string).collect();
            shown.join(", ")
        });
        self.note("daemon.data_dir", Fixed, (&old.data_dir, data_dir), |path| {
            path.display().to_string()
        });
        self.note(
            "daemon.shutdown_grace_period",
            Hot,
            (&old.grace_period, grace_period),
            time,
        );
        self.note("daemon.stop_timeout", Hot, (&old.stop_timeout, stop_timeout), time);
        self.note(
            "daemon.on_config_change",
            Hot,
            (&old.on_config_change, on_config_change),
            lower,
        );
        self.secret("daemon.token".to_owned(), Restart, (&old.token, token));
        self.note("daemon.notice_window", Hot, (&old.notice_window, notice_window), time);
        self.note("daemon.probation", Hot, (&old.probation, probation), time);
        self.note("daemon.log_level", Hot, (&old.log_level, log_level), lower);
        self.note("daemon.log_format", Restart, (&old.log_format, log_format), lower);
        self.names("daemon.allowed_hosts", Restart, &old.allowed_hosts, allowed_hosts);
        self.names("daemon.allowed_origins", Restart, &old.allowed_origins, allowed_origins);
        self.note("daemon.turns_max", Restart, (&old.turns_max, turns_max), number);
        self.note("daemon.resident_idle", Hot, (&old.resident_idle, resident_idle), time);
    }

    fn retention(&mut self, old: &Retention, new: &Retention) {
        let Retention {
            events,
            keys,
            dead_letters,
        } = new;
        self.note("retention.events", Class::Hot, (&old.events, events), number);
        self.note("retention.keys", Class::Hot, (&old.keys, keys), time);
        self.note(
            "retention.dead_letters",
            Class::Hot,
            (&old.dead_letters, dead_letters),
            number,
        );
    }

    fn store(&mut self, old: &StoreTuning, new: &StoreTuning) {
        let StoreTuning {
            wal_bytes,
            cache_bytes,
        } = new;
        self.note("store.wal", Class::Restart, (&old.wal_bytes, wal_bytes), size);
        self.note("store.cache", Class::Restart, (&old.cache_bytes, cache_bytes), size);
    }

    fn plugin(&mut self, key: &str, old: &Plugin, new: &Plugin) {
        let Plugin {
            path,
            capabilities,
            limits,
        } = new;
        if old.path == *path {
            self.content(format!("{key}.path"), Class::Restart, path);
        }
        self.note(format!("{key}.path"), Class::Restart, (&old.path, path), |path| {
            path.display().to_string()
        });
        let Capabilities { llm, tools, http } = capabilities;
        for (name, old, new) in [
            ("llm", &old.capabilities.llm, llm),
            ("tools", &old.capabilities.tools, tools),
            ("http", &old.capabilities.http, http),
        ] {
            let (Patterns(old), Patterns(new)) = (old, new);
            if name == "llm" {
                // The first plain name is the provider a guest gets unasked: order has a meaning.
                self.note(format!("{key}.capabilities.llm"), Class::Restart, (old, new), |names| {
                    names.join(", ")
                });
            } else {
                self.names(&format!("{key}.capabilities.{name}"), Class::Restart, old, new);
            }
        }
        self.limits(key, &old.limits, limits);
    }

    fn limits(&mut self, key: &str, old: &Limits, new: &Limits) {
        let Limits {
            memory_bytes,
            turn_timeout,
            step_timeout,
            snapshot_bytes,
            message_bytes,
            args_bytes,
            inbox,
            events,
            event_bytes,
            timers,
            log_lines,
            steps,
        } = new;
        let key = |last: &str| format!("{key}.limits.{last}");
        for (last, old, new) in [
            ("memory", &old.memory_bytes, memory_bytes),
            ("snapshot", &old.snapshot_bytes, snapshot_bytes),
            ("message", &old.message_bytes, message_bytes),
            ("args", &old.args_bytes, args_bytes),
            ("event", &old.event_bytes, event_bytes),
        ] {
            self.note(key(last), Class::Hot, (old, new), size);
        }
        for (last, old, new) in [
            ("turn_timeout", &old.turn_timeout, turn_timeout),
            ("step_timeout", &old.step_timeout, step_timeout),
        ] {
            self.note(key(last), Class::Hot, (old, new), time);
        }
        for (last, old, new) in [
            ("inbox", &old.inbox, inbox),
            ("events", &old.events, events),
            ("timers", &old.timers, timers),
            ("log_lines", &old.log_lines, log_lines),
            ("steps", &old.steps, steps),
        ] {
            self.note(key(last), Class::Hot, (old, new), number);
        }
    }

    fn provider(&mut self, key: &str, old: &LlmProvider, new: &LlmProvider) {
        let LlmProvider {
            base_url,
            model,
            api_key,
            connect_timeout,
            idle_timeout,
            retries,
        } = new;
        let full = |last: &str| format!("{key}.{last}");
        self.note(full("base_url"), Class::Hot, (&old.base_url, base_url), |text| url(text));
        self.note(full("model"), Class::Hot, (&old.model, model), String::clone);
        self.secret(full("api_key"), Class::Hot, (&old.api_key, api_key));
        self.note(
            full("connect_timeout"),
            Class::Hot,
            (&old.connect_timeout, connect_timeout),
            time,
        );
        self.note(full("idle_timeout"), Class::Hot, (&old.idle_timeout, idle_timeout), time);
        self.note(full("retries"), Class::Hot, (&old.retries, retries), number);
    }

    fn tool_server(&mut self, key: &str, old: &ToolServer, new: &ToolServer) {
        let ToolServer {
            transport: how,
            start_timeout,
            call_timeout,
            ask,
        } = new;
        match (&old.transport, how) {
            (
                Transport::Http { url: old_url, token: old_token },
                Transport::Http { url: new_url, token },
            ) => {
                self.note(format!("{key}.url"), Class::Hot, (old_url, new_url), |text| url(text));
                self.secret(format!("{key}.token"), Class::Hot, (old_token, token));
            }
            (old, new) => self.note(key, Class::Hot, (old, new), transport),
        }
        let times = (&old.start_timeout, start_timeout);
        self.note(format!("{key}.start_timeout"), Class::Hot, times, time);
        let times = (&old.call_timeout, call_timeout);
        self.note(format!("{key}.call_timeout"), Class::Hot, times, time);
        self.names(&format!("{key}.ask"), Class::Hot, &old.ask, ask);
    }

    /// Compares lists whose order and repetitions mean nothing.
    fn names(&mut self, key: &str, class: Class, old: &[String], new: &[String]) {
        let old: BTreeSet<&String> = old.iter().collect();
        let new: BTreeSet<&String> = new.iter().collect();
        self.note(key, class, (&old, &new), |names| {
            let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
            if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            }
        });
    }
}

fn time(duration: &Duration) -> String {
    Time(*duration).to_string()
}

fn size(bytes: &u64) -> String {
    Size(*bytes).to_string()
}

fn number<T: fmt::Display>(number: &T) -> String {
    number.to_string()
}

fn lower<T: fmt::Debug>(value: &T) -> String {
    format!("{value:?}").to_lowercase()
}

/// A URL without its query, which may hold a key.
fn url(url: &str) -> String {
    match url.split_once('?') {
        Some((before, _)) => format!("{before}?…"),
        None => url.to_owned(),
    }
}

/// How a server is reached, without its arguments, which may hold a key.
fn transport(how: &Transport) -> String {
    match how {
        Transport::Command { program, args, env } => format!(
            "{program} with {} arguments and {} variables",
            args.len(),
            env.len()
        ),
        Transport::Http { url: at, token: _ } => url(at),
    }
}
