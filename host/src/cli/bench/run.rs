//! From the first session to the last line.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use super::disturb::{Schedule, disturb};
use super::flags::Bench;
use super::outcome::{After, Outcome};
use super::own::{Component, Own};
use super::place;
use super::progress::Progress;
use super::service::Abide;
use super::settle::settle;
use super::setup::{Names, close, create};
use super::show::{counted, show};
use super::verify::verify;
use crate::cli::args::Global;
use crate::cli::client::{Client, Target};
use crate::cli::error::CliError;
use crate::cli::out::{Out, note};
use crate::cli::target;
use crate::load::{self, Load, Report, Sessions, Texts, Watch};

/// Files that are open besides connections: the runtime's, the requests' of setup and verification.
const FURTHER_FILES: u64 = 256;

/// Runs the command. False if anything was not as it must be.
pub(crate) async fn run(global: &Global, mut args: Bench) -> Result<bool, CliError> {
    args.check(global)?;
    allow_files(args.connections())?;
    let progress = Progress::new();
    let outcome = match &global.url {
        Some(_) => foreign(global, &args, &progress).await,
        None => own(&args, &progress).await,
    };
    progress.clear();
    let outcome = outcome?;
    let mut out = Out::new(global.no_color);
    if args.json {
        out.json(&outcome)?;
    } else {
        let text = show(&out, &outcome);
        out.line(text.trim_end())?;
    }
    Ok(outcome.ok)
}

/// Drives the daemon that was named.
async fn foreign(global: &Global, args: &Bench, progress: &Progress) -> Result<Outcome, CliError> {
    let target = target::find(global)?;
    let course = Course::new(target, args, args.plugin.clone(), progress)?;
    let daemon = course.client.daemon().await?;
    let names: Vec<&str> = daemon.plugins.iter().map(|it| it.name.as_str()).collect();
    if !names.contains(&args.plugin.as_str()) {
        return Err(CliError::Failed(format!(
            "the daemon has no plugin `{}`, only {}; name one of them with --plugin",
            args.plugin,
            names.join(", ")
        )));
    }
    let sync = args.data_dir.as_deref().map(place::sync_cost);
    let sync = sync.transpose()?;
    let work = async {
        let outcome = course.run(sync).await;
        course.leave().await;
        outcome
    };
    tokio::select! {
        outcome = work => outcome,
        interrupted = course.interrupted() => {
            let prefix = course.names.prefix();
            note(format!("sessions stay in the daemon; their names begin with {prefix}"));
            Err(interrupted)
        }
    }
}

/// Drives a daemon of its own.
async fn own(args: &Bench, progress: &Progress) -> Result<Outcome, CliError> {
    let component = Component::find(&args.plugin)?;
    let parent = args.data_dir.clone().unwrap_or_else(std::env::temp_dir);
    let sync = place::sync_cost(&parent)?;
    if place::is_in_memory(&parent) {
        note(format!(
            "warning: {} lies in memory, where a sync costs nothing; name a folder on a disk with \
             --data-dir",
            parent.display()
        ));
    }
    progress.begin("starting a daemon", None);
    let mut own = Own::start(&parent, &component).await?;
    let course = Course::new(own.target.clone(), args, component.name, progress)?;
    let outcome = tokio::select! {
        outcome = course.run(Some(sync)) => outcome,
        died = own.died() => Err(died),
        interrupted = course.interrupted() => Err(interrupted),
    };
    own.stop().await;
    outcome
}

/// One run against one daemon.
struct Course<'a> {
    /// `host:port`.
    address: String,
    token: Option<String>,
    client: Client,
    args: &'a Bench,
    plugin: String,
    names: Names,
    progress: &'a Progress,
    watch: Watch,
    /// Turns are being sent.
    loading: AtomicBool,
}

impl<'a> Course<'a> {
    fn new(
        target: Target,
        args: &'a Bench,
        plugin: String,
        progress: &'a Progress,
    ) -> Result<Self, CliError> {
        Ok(Self {
            address: address(&target.url)?,
            token: target.token.clone(),
            client: Client::new(target)?,
            args,
            plugin,
            names: Names::draw(),
            progress,
            watch: Watch::new(),
            loading: AtomicBool::new(false),
        })
    }

    fn sessions(&self) -> usize {
        self.args.sessions as usize
    }

    async fn run(&self, sync: Option<Duration>) -> Result<Outcome, CliError> {
        let count = self.sessions();
        self.progress.begin("creating sessions", Some(count));
        let opened_with = self.args.args.as_ref();
        let (client, names) = (&self.client, &self.names);
        create(
            client,
            names,
            count,
            &self.plugin,
            opened_with,
            self.progress,
        )
        .await?;
        let report = self.load().await?;
        // What was measured is told whatever comes after it.
        let after = self.after(&report).await.unwrap_or_else(|error| After {
            failed: Some(error.to_string()),
            ..After::default()
        });
        Ok(Outcome::new(self.args, &self.plugin, sync, report, after))
    }

    /// Sends turns, and disturbs the daemon.
    async fn load(&self) -> Result<Report, CliError> {
        let args = self.args;
        let address = &self.address;
        let service = Abide::new(
            self.names.clone(),
            address,
            self.token.as_deref(),
            !args.no_wait,
            args.keys,
            &self.plugin,
        );
        let load = Load {
            sessions: self.sessions(),
            connections: args.connections() as usize,
            duration: args.duration,
            warm_up: args.warm_up,
            text_bytes: args.text_bytes as usize,
            ..Load::new(address.clone())
        };
        let end = args.warm_up + args.duration;
        let schedule = Schedule::new(args.restart_every, args.kill_every, end);
        self.progress.begin("sending turns", None);
        self.loading.store(true, Ordering::Relaxed);
        let fresh = Sessions::fresh(self.sessions());
        let report = tokio::select! {
            report = load::run(Arc::new(service), &load, fresh, &self.watch) => report,
            (never, ()) = async {
                tokio::join!(
                    self.progress.follow(&self.watch, !args.no_wait),
                    disturb(schedule, &self.client, &self.watch),
                )
            } => match never {},
        };
        self.loading.store(false, Ordering::Relaxed);
        report.map_err(|failed| CliError::Failed(failed.to_string()))
    }

    /// Waits for what was not waited for, and reads the logs.
    async fn after(&self, report: &Report) -> Result<After, CliError> {
        let mut after = After::default();
        let (client, names) = (&self.client, &self.names);
        let counts = report.counts;
        if self.args.no_wait || counts.unanswered > 0 || counts.acknowledged > counts.completed {
            let count = self.sessions();
            self.progress
                .begin("waiting for turns in sessions", Some(count));
            after.settled = Some(settle(client, names, count, self.progress).await?);
        }
        let count = self.args.verified();
        if count > 0 {
            self.progress.begin("reading logs of sessions", Some(count));
            let texts = Texts::new(self.args.text_bytes as usize);
            let sessions = &report.sessions;
            let found = verify(client, names, &texts, sessions, count, self.progress).await?;
            after.found = Some((count, found));
        }
        Ok(after)
    }

    /// Leaves the daemon as it was found.
    async fn leave(&self) {
        let count = self.sessions();
        if self.args.keep {
            let (what, prefix) = (counted(count as u64, "session"), self.names.prefix());
            note(format!("{what} stay, named {prefix}0 and so on"));
            return;
        }
        self.progress.begin("closing sessions", Some(count));
        if let Err(error) = close(&self.client, &self.names, count, self.progress).await {
            note(format!("not all sessions could be closed: {error}"));
        }
    }

    /// Returns when somebody wants it to end. While turns are sent, the first wish only ends that.
    async fn interrupted(&self) -> CliError {
        let both = || {
            Ok((
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
            ))
        };
        let (mut interrupt, mut terminate) = match both() {
            Ok(both) => both,
            // Then signals do what they do by themselves.
            Err::<_, io::Error>(_) => return std::future::pending().await,
        };
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if !self.loading.swap(false, Ordering::Relaxed) {
                return CliError::Failed("interrupted".to_owned());
            }
            self.watch.stop();
            note("ending early; once more leaves at once");
        }
    }
}

/// Where a URL leads: `host:port`, without a path.
fn address(url: &str) -> Result<String, CliError> {
    let fail = |what: &str| {
        CliError::Usage(format!(
            "bench cannot talk to {url}: {what}; give it as http://HOST:PORT"
        ))
    };
    let rest = url
        .strip_prefix("http://")
        .ok_or_else(|| fail("it speaks plain HTTP, so as to measure no TLS"))?;
    if rest.is_empty() || rest.contains(['/', '@', '?', '#']) {
        return Err(fail("it needs a host and a port alone"));
    }
    // In brackets, an address of IPv6 holds colons itself.
    let has_port = rest
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && !port.contains(']'));
    Ok(if has_port {
        rest.to_owned()
    } else {
        format!("{rest}:80")
    })
}

/// Lets this process, and the daemon that it starts, have so many connections open.
fn allow_files(connections: u32) -> Result<(), CliError> {
    let needed = u64::from(connections) + FURTHER_FILES;
    let mut limit = getrlimit(Resource::Nofile);
    let within = |limit: Option<u64>| limit.is_none_or(|limit| limit >= needed);
    if within(limit.current) {
        return Ok(());
    }
    if !within(limit.maximum) {
        return Err(CliError::Usage(format!(
            "{connections} connections need {needed} open files, and this process may have {}; \
             use fewer, or raise the limit (`ulimit -n`)",
            limit.maximum.unwrap_or_default()
        )));
    }
    limit.current = Some(needed);
    setrlimit(Resource::Nofile, limit).map_err(|error| {
        CliError::Failed(format!("the limit of open files cannot be raised: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lead_to_addresses() {
        for (url, expected) in [
            ("http://127.0.0.1:7420", Some("127.0.0.1:7420")),
            ("http://[::1]:80", Some("[::1]:80")),
            ("http://[::1]", Some("[::1]:80")),
            ("http://host", Some("host:80")),
            ("https://host", None),
            ("http://host/behind", None),
            ("http://", None),
        ] {
            assert_eq!(address(url).ok().as_deref(), expected, "{url}");
        }
    }
}
