//! Runs a bench: from the first session to the report.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use super::chaos::{Schedule, disturb};
use super::check_all::verify;
use super::disk_probe;
use super::flags::Bench;
use super::local_daemon::{BenchPlugin, LocalDaemon};
use super::outcome::{After, BenchReport};
use super::progress::BenchProgress;
use super::quiesce::settle;
use super::render::render;
use super::service::Abide;
use super::setup::{SessionNames, close, create};
use crate::cli::client::{Client, DaemonAddress};
use crate::cli::error::CliError;
use crate::cli::global::Global;
use crate::cli::out::{Out, hint};
use crate::cli::target;
use crate::cli::text::counted;
use crate::loadgen::{self, Load, LoadProbe, LoadSessions, Report, Texts};

/// Open files besides the connections of the load: those of the runtime, and of the requests of
/// setup and verification.
const FURTHER_FILES: u64 = 256;

/// Runs the command. Returns `false` if anything was not as it must be.
pub(crate) async fn run(global: &Global, mut args: Bench) -> Result<bool, CliError> {
    args.check(global)?;
    allow_files(args.connections())?;
    let progress = BenchProgress::new();
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
        let text = render(&out, &outcome);
        out.line(text.trim_end())?;
    }
    Ok(outcome.ok)
}

/// Runs against the daemon that `--url` names.
async fn foreign(
    global: &Global,
    args: &Bench,
    progress: &BenchProgress,
) -> Result<BenchReport, CliError> {
    let target = target::find(global)?;
    let course = BenchRun::new(target, args, args.plugin.clone(), progress)?;
    let daemon = course.client.daemon().await?;
    let names: Vec<&str> = daemon.plugins.iter().map(|it| it.name.as_str()).collect();
    if !names.contains(&args.plugin.as_str()) {
        return Err(CliError::Failed(format!(
            "the daemon has no plugin `{}`, only {}; name one of them with --plugin",
            args.plugin,
            names.join(", ")
        )));
    }
    let sync = args.data_dir.as_deref().map(disk_probe::sync_cost);
    let sync = sync.transpose()?;
    let work = async {
        let outcome = course.run(sync).await;
        course.finish().await;
        outcome
    };
    tokio::select! {
        outcome = work => outcome,
        interrupted = course.interrupted() => {
            let prefix = course.names.prefix();
            hint(format!("sessions stay in the daemon; their names begin with {prefix}"));
            Err(interrupted)
        }
    }
}

/// Runs against a daemon that it starts itself.
async fn own(args: &Bench, progress: &BenchProgress) -> Result<BenchReport, CliError> {
    let component = BenchPlugin::find(&args.plugin)?;
    let parent = args.data_dir.clone().unwrap_or_else(std::env::temp_dir);
    let sync = disk_probe::sync_cost(&parent)?;
    if disk_probe::is_in_memory(&parent) {
        hint(format!(
            "warning: {} lies in memory, where a sync costs nothing; name a folder on a disk with \
             --data-dir",
            parent.display()
        ));
    }
    progress.begin("starting a daemon", None);
    let mut own = LocalDaemon::start(&parent, &component).await?;
    let course = BenchRun::new(own.target.clone(), args, component.name, progress)?;
    let outcome = tokio::select! {
        outcome = course.run(Some(sync)) => outcome,
        died = own.died() => Err(died),
        interrupted = course.interrupted() => Err(interrupted),
    };
    own.stop().await;
    outcome
}

/// One run against one daemon.
struct BenchRun<'a> {
    /// `host:port`.
    address: String,
    token: Option<String>,
    client: Client,
    args: &'a Bench,
    plugin: String,
    names: SessionNames,
    progress: &'a BenchProgress,
    watch: LoadProbe,
    /// Whether turns are being sent: if so, the first signal ends only the load.
    loading: AtomicBool,
}

impl<'a> BenchRun<'a> {
    fn new(
        target: DaemonAddress,
        args: &'a Bench,
        plugin: String,
        progress: &'a BenchProgress,
    ) -> Result<Self, CliError> {
        Ok(Self {
            address: address(&target.url)?,
            token: target.token.clone(),
            client: Client::new(target)?,
            args,
            plugin,
            names: SessionNames::draw(),
            progress,
            watch: LoadProbe::new(),
            loading: AtomicBool::new(false),
        })
    }

    fn sessions(&self) -> usize {
        self.args.sessions as usize
    }

    async fn run(&self, sync: Option<Duration>) -> Result<BenchReport, CliError> {
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
        // The measurements are reported even if a later step fails.
        let after = self.after(&report).await.unwrap_or_else(|error| After {
            failed: Some(error.to_string()),
            ..After::default()
        });
        Ok(BenchReport::new(
            self.args,
            &self.plugin,
            sync,
            report,
            after,
        ))
    }

    /// Sends turns, and disturbs the daemon on schedule.
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
        let fresh = LoadSessions::fresh(self.sessions());
        let report = tokio::select! {
            report = loadgen::run(Arc::new(service), &load, fresh, &self.watch) => report,
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

    /// Waits for turns that the load did not wait for, and checks the logs.
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

    /// Closes the sessions, unless `--keep` leaves them open.
    async fn finish(&self) {
        let count = self.sessions();
        if self.args.keep {
            let (what, prefix) = (counted(count as u64, "session"), self.names.prefix());
            hint(format!("{what} stay, named {prefix}0 and so on"));
            return;
        }
        self.progress.begin("closing sessions", Some(count));
        if let Err(error) = close(&self.client, &self.names, count, self.progress).await {
            hint(format!("not all sessions could be closed: {error}"));
        }
    }

    /// Returns when the user interrupts the run. While turns are sent, the first signal ends only
    /// the load, so that a report is still made.
    async fn interrupted(&self) -> CliError {
        let both = || {
            Ok((
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
            ))
        };
        let (mut interrupt, mut terminate) = match both() {
            Ok(both) => both,
            // Without handlers, signals have their default effect.
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
            hint("ending early; once more leaves at once");
        }
    }
}

/// Returns the `host:port` of a URL without a path.
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
    // An IPv6 address in brackets contains colons itself.
    let has_port = rest
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && !port.contains(']'));
    Ok(if has_port {
        rest.to_owned()
    } else {
        format!("{rest}:80")
    })
}

/// Raises the limit of open files for this process, and so for the daemon that it starts, to what
/// the connections need.
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
