//! Compares two configurations key by key. Every struct is destructured by name, so that the
//! compiler refuses a new key until it is compared here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::canary::Canary;
use super::change::{ChangeClass, ConfigChange};
use super::given::Given;
use super::model::{DaemonConfig, PluginConfig, StoreTuning};
use super::secret::SecretRef;
use super::units::{Size, Time};
use crate::domain::{Capabilities, HttpGrants, HttpRule, Limits, PointRules, Retention};

/// The differences found so far.
pub(super) struct Diff<'a> {
    changed: &'a BTreeSet<PathBuf>,
    pub(super) changes: Vec<ConfigChange>,
}

impl<'a> Diff<'a> {
    pub(super) fn new(changed: &'a BTreeSet<PathBuf>) -> Self {
        Self {
            changed,
            changes: Vec::new(),
        }
    }

    pub(super) fn note<T: PartialEq>(
        &mut self,
        key: impl Into<String>,
        class: ChangeClass,
        (old, new): (&T, &T),
        show: impl Fn(&T) -> String,
    ) {
        if old != new {
            self.changes.push(ConfigChange {
                key: key.into(),
                class,
                from: Some(show(old)),
                to: Some(show(new)),
            });
        }
    }

    fn content(&mut self, key: String, class: ChangeClass, file: &Path) {
        if self.changed.contains(file) {
            let shown = file.display().to_string();
            self.changes.push(ConfigChange {
                key,
                class,
                from: Some(shown.clone()),
                to: Some(shown),
            });
        }
    }

    pub(super) fn secret(
        &mut self,
        key: String,
        class: ChangeClass,
        (old, new): (&Option<SecretRef>, &Option<SecretRef>),
    ) {
        if old != new {
            self.changes.push(ConfigChange {
                key,
                class,
                from: old.as_ref().map(SecretRef::to_string),
                to: new.as_ref().map(SecretRef::to_string),
            });
        } else if let Some(SecretRef::File(file)) = new {
            self.content(key, class, file);
        }
    }

    /// Compares tables of values that may be secrets, showing none of the values.
    pub(super) fn givens(
        &mut self,
        table: &str,
        class: ChangeClass,
        old: &BTreeMap<String, Given>,
        new: &BTreeMap<String, Given>,
    ) {
        let compare = |diff: &mut Self, key: &str, old: &Given, new: &Given| match new.secret_ref()
        {
            Some(SecretRef::File(file)) if old == new => diff.content(key.to_owned(), class, file),
            _ => diff.note(key, class, (old, new), Given::to_string),
        };
        self.entries(table, class, old, new, compare, Given::to_string);
    }

    /// Compares named tables: reports entries that were removed, were added or differ.
    pub(super) fn entries<T>(
        &mut self,
        section: &str,
        class: ChangeClass,
        old: &BTreeMap<String, T>,
        new: &BTreeMap<String, T>,
        compare: impl Fn(&mut Self, &str, &T, &T),
        show: impl Fn(&T) -> String,
    ) {
        for (name, entry) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
            self.changes.push(ConfigChange {
                key: format!("{section}.{name}"),
                class,
                from: Some(show(entry)),
                to: None,
            });
        }
        for (name, entry) in new {
            match old.get(name) {
                Some(before) => compare(self, &format!("{section}.{name}"), before, entry),
                None => self.changes.push(ConfigChange {
                    key: format!("{section}.{name}"),
                    class,
                    from: None,
                    to: Some(show(entry)),
                }),
            }
        }
    }

    pub(super) fn daemon(&mut self, old: &DaemonConfig, new: &DaemonConfig) {
        use ChangeClass::{Fixed, Hot, Restart};
        let DaemonConfig {
            listen,
            data_dir,
            grace_period,
            stop_timeout,
            on_config_change,
            trial_budget,
            on_failed_trial,
            canary,
            canary_turns,
            token,
            notice_window,
            probation,
            log_level,
            log_format,
            log_queue_bytes,
            allowed_hosts,
            allowed_origins,
            turns_max,
            resident_idle,
            relaunch_max,
            session_memory_bytes,
            guest_memory_bytes,
            compile_timeout,
            compile_memory_bytes,
            disk_reserve_bytes,
        } = new;
        // The order of addresses, hosts and origins has no meaning.
        let sorted = |list: &[std::net::SocketAddr]| {
            let mut list = list.to_vec();
            list.sort();
            list
        };
        self.note(
            "daemon.listen",
            Restart,
            (&sorted(&old.listen), &sorted(listen)),
            |list| {
                let shown: Vec<String> = list.iter().map(ToString::to_string).collect();
                shown.join(", ")
            },
        );
        self.note(
            "daemon.data_dir",
            Fixed,
            (&old.data_dir, data_dir),
            |path| path.display().to_string(),
        );
        self.note(
            "daemon.shutdown_grace_period",
            Hot,
            (&old.grace_period, grace_period),
            time,
        );
        self.note(
            "daemon.stop_timeout",
            Hot,
            (&old.stop_timeout, stop_timeout),
            time,
        );
        self.note(
            "daemon.on_config_change",
            Hot,
            (&old.on_config_change, on_config_change),
            lower,
        );
        self.note(
            "daemon.trial_budget",
            Hot,
            (&old.trial_budget, trial_budget),
            time,
        );
        self.note(
            "daemon.on_failed_trial",
            Hot,
            (&old.on_failed_trial, on_failed_trial),
            lower,
        );
        self.note(
            "daemon.canary",
            Hot,
            (&old.canary, canary),
            Canary::to_string,
        );
        self.note(
            "daemon.canary_turns",
            Hot,
            (&old.canary_turns, canary_turns),
            u32::to_string,
        );
        self.secret("daemon.token".to_owned(), Restart, (&old.token, token));
        self.note(
            "daemon.notice_window",
            Hot,
            (&old.notice_window, notice_window),
            time,
        );
        self.note("daemon.probation", Hot, (&old.probation, probation), time);
        self.note("daemon.log_level", Hot, (&old.log_level, log_level), lower);
        self.note(
            "daemon.log_format",
            Restart,
            (&old.log_format, log_format),
            lower,
        );
        self.note(
            "daemon.log_queue",
            Hot,
            (&old.log_queue_bytes, log_queue_bytes),
            size,
        );
        self.names(
            "daemon.allowed_hosts",
            Restart,
            &old.allowed_hosts,
            allowed_hosts,
        );
        self.names(
            "daemon.allowed_origins",
            Restart,
            &old.allowed_origins,
            allowed_origins,
        );
        self.note(
            "daemon.turns_max",
            Restart,
            (&old.turns_max, turns_max),
            number,
        );
        self.note(
            "daemon.resident_idle",
            Hot,
            (&old.resident_idle, resident_idle),
            time,
        );
        self.note(
            "daemon.relaunch_max",
            Hot,
            (&old.relaunch_max, relaunch_max),
            number,
        );
        self.note(
            "daemon.session_memory",
            Restart,
            (&old.session_memory_bytes, session_memory_bytes),
            size,
        );
        self.note(
            "daemon.guest_memory",
            Hot,
            (&old.guest_memory_bytes, guest_memory_bytes),
            |bytes| bytes.as_ref().map_or("by default".to_owned(), size),
        );
        self.note(
            "daemon.compile_timeout",
            Hot,
            (&old.compile_timeout, compile_timeout),
            time,
        );
        self.note(
            "daemon.compile_memory",
            Hot,
            (&old.compile_memory_bytes, compile_memory_bytes),
            size,
        );
        self.note(
            "daemon.disk_reserve",
            Hot,
            (&old.disk_reserve_bytes, disk_reserve_bytes),
            size,
        );
    }

    pub(super) fn retention(&mut self, old: &Retention, new: &Retention) {
        let Retention {
            events,
            keys,
            dead_letters,
            points: PointRules { turns, bytes },
        } = new;
        self.note(
            "retention.events",
            ChangeClass::Restart,
            (&old.events, events),
            number,
        );
        self.note(
            "retention.keys",
            ChangeClass::Restart,
            (&old.keys, keys),
            time,
        );
        self.note(
            "retention.dead_letters",
            ChangeClass::Restart,
            (&old.dead_letters, dead_letters),
            number,
        );
        self.note(
            "retention.points",
            ChangeClass::Restart,
            (&old.points.turns, turns),
            number,
        );
        self.note(
            "retention.points_size",
            ChangeClass::Restart,
            (&old.points.bytes, bytes),
            size,
        );
    }

    pub(super) fn store(&mut self, old: &StoreTuning, new: &StoreTuning) {
        let StoreTuning {
            wal_bytes,
            cache_bytes,
        } = new;
        self.note(
            "store.wal",
            ChangeClass::Restart,
            (&old.wal_bytes, wal_bytes),
            size,
        );
        self.note(
            "store.cache",
            ChangeClass::Restart,
            (&old.cache_bytes, cache_bytes),
            size,
        );
    }

    pub(super) fn plugin(&mut self, key: &str, old: &PluginConfig, new: &PluginConfig) {
        let PluginConfig {
            path,
            capabilities,
            limits,
        } = new;
        if old.path == *path {
            self.content(format!("{key}.path"), ChangeClass::Restart, path);
        }
        self.note(
            format!("{key}.path"),
            ChangeClass::Restart,
            (&old.path, path),
            |path| path.display().to_string(),
        );
        self.capabilities(key, &old.capabilities, capabilities);
        self.limits(key, &old.limits, limits);
    }

    fn capabilities(&mut self, key: &str, old: &Capabilities, new: &Capabilities) {
        let Capabilities { llm, tools, http } = new;
        let HttpGrants { hosts, private } = http;
        let key = |last: &str| format!("{key}.capabilities.{last}");
        // Order matters: the first plain name is the provider that a guest gets if it names none.
        self.note(key("llm"), ChangeClass::Restart, (&old.llm, llm), |names| {
            names.0.join(", ")
        });
        let entries = |rules: &[HttpRule]| -> Vec<String> {
            rules.iter().map(|rule| rule.as_str().to_owned()).collect()
        };
        for (last, old, new) in [
            ("tools", &old.tools.0, &tools.0),
            ("http", &entries(&old.http.hosts), &entries(hosts)),
            ("http_private", &old.http.private.0, &private.0),
        ] {
            self.names(&key(last), ChangeClass::Restart, old, new);
        }
    }

    fn limits(&mut self, key: &str, old: &Limits, new: &Limits) {
        let Limits {
            memory_bytes,
            turn_timeout,
            compute,
            step_timeout,
            snapshot_bytes,
            message_bytes,
            args_bytes,
            inbox,
            events,
            event_bytes,
            output_bytes,
            timers,
            log_lines,
            steps,
            journal_bytes,
        } = new;
        let key = |last: &str| format!("{key}.limits.{last}");
        for (last, old, new) in [
            ("memory", &old.memory_bytes, memory_bytes),
            ("snapshot", &old.snapshot_bytes, snapshot_bytes),
            ("message", &old.message_bytes, message_bytes),
            ("args", &old.args_bytes, args_bytes),
            ("event", &old.event_bytes, event_bytes),
            ("output", &old.output_bytes, output_bytes),
            ("journal", &old.journal_bytes, journal_bytes),
        ] {
            self.note(key(last), ChangeClass::Hot, (old, new), size);
        }
        for (last, old, new) in [
            ("turn_timeout", &old.turn_timeout, turn_timeout),
            ("compute", &old.compute, compute),
            ("step_timeout", &old.step_timeout, step_timeout),
        ] {
            self.note(key(last), ChangeClass::Hot, (old, new), time);
        }
        for (last, old, new) in [
            ("inbox", &old.inbox, inbox),
            ("events", &old.events, events),
            ("timers", &old.timers, timers),
            ("log_lines", &old.log_lines, log_lines),
            ("steps", &old.steps, steps),
        ] {
            self.note(key(last), ChangeClass::Hot, (old, new), number);
        }
    }

    /// Compares lists whose order and repetitions have no meaning.
    pub(super) fn names(&mut self, key: &str, class: ChangeClass, old: &[String], new: &[String]) {
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

pub(super) fn time(duration: &Duration) -> String {
    Time(*duration).to_string()
}

pub(super) fn size(bytes: &u64) -> String {
    Size(*bytes).to_string()
}

pub(super) fn number<T: fmt::Display>(number: &T) -> String {
    number.to_string()
}

fn lower<T: fmt::Debug>(value: &T) -> String {
    format!("{value:?}").to_lowercase()
}
