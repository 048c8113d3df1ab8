//! `abide status`: shows what runs, drains or is faulted, and why.

use serde_json::{Value, json};

use super::args::Status;
use super::calls::Filter;
use super::client::Client;
use super::error::CliError;
use super::global::Global;
use super::out::{Out, Tone};
use super::table::{Cell, table};
use super::target;
use super::text::{ago, brief, counted, duration, size};
use crate::documents::{DaemonState, DaemonStatus, Page};
use crate::domain::{
    Finding, GuestMemoryStatus, ModelProviderStatus, RestartRecord, RestartStatus, RolloutStatus,
    SessionView, ToolLeftOut, ToolServerState, ToolServerStatus, UnixMillis,
};
use crate::plain_text::inline;

/// The maximum number of sessions listed under each state.
const NAMED_MAX: u32 = 8;
/// The maximum number of unusable tools listed for a server.
const LEFT_OUT_NAMED: usize = 3;
/// The maximum number of files or folders named for a server.
const READABLE_NAMED: usize = 6;
/// The states whose sessions are listed, the most urgent first.
const NAMED: [&str; 3] = ["faulted", "parked", "running"];
/// The order of the states in the summary.
const STATES: [&str; 5] = ["running", "queued", "parked", "faulted", "idle"];

pub(crate) async fn run(global: &Global, args: Status) -> Result<(), CliError> {
    let client = Client::new(target::find(global)?)?;
    let mut out = Out::new(global.no_color);
    if args.json.json {
        let mut answer: Value = client.get("/v1/daemon").await?;
        for state in NAMED {
            let named: Value = client.get(&named(state).path(None)).await?;
            answer["named"][state] = named.get("items").cloned().unwrap_or(json!([]));
        }
        return Ok(out.json(&answer)?);
    }
    let daemon = client.daemon().await?;
    let now = UnixMillis::now();
    head(&mut out, client.url(), &daemon, now)?;
    model_providers(&mut out, &daemon.model_providers, now)?;
    tool_servers(&mut out, &daemon.tool_servers, now)?;
    findings(&mut out, &daemon.watchdog, now)?;
    for state in NAMED {
        let count = daemon.sessions.get(state).copied().unwrap_or(0);
        if count > 0 {
            let page: Page<SessionView> = client.get(&named(state).path(None)).await?;
            list(&mut out, state, count, &page.items, now)?;
        }
    }
    Ok(())
}

fn named(state: &str) -> Filter {
    Filter {
        state: Some(state.to_owned()),
        limit: Some(NAMED_MAX),
        ..Filter::default()
    }
}

fn head(out: &mut Out, url: &str, daemon: &DaemonStatus, now: UnixMillis) -> Result<(), CliError> {
    let state = Cell::toned(
        daemon.state.as_str(),
        if daemon.state == DaemonState::Serving {
            Tone::Good
        } else {
            Tone::Warn
        },
    );
    let mut rows: Vec<Vec<Cell>> = vec![vec!["state".into(), state]];
    let mut fact = |name: &str, value: Cell| rows.push(vec![name.into(), value]);
    let mut worker = format!(
        "{} at {url}, generation {}",
        daemon.version, daemon.generation
    );
    if let Some(pid) = daemon.pid {
        worker.push_str(&format!(", pid {pid}"));
    }
    if let Some(at) = daemon.started_at {
        worker.push_str(&format!(", up {}", duration(now.since(at))));
    }
    fact("abide", worker.into());
    if let Some(format) = daemon.format {
        fact("data format", format.to_string().into());
    }
    let config = &daemon.config;
    let mut text = config.path.display().to_string();
    if let Some(digest) = config.digest {
        text.push_str(&format!(" ({})", digest.short()));
    }
    if let Some(at) = config.loaded_at {
        text.push_str(&format!(", loaded {}", ago(at, now)));
    }
    fact("config", text.into());
    if let Some(error) = &config.last_error {
        fact(
            "",
            Cell::toned(format!("not taken: {}", inline(error)), Tone::Bad),
        );
    }
    let plugins: Vec<String> = daemon
        .plugins
        .iter()
        .map(|plugin| match plugin.sessions {
            Some(sessions) => format!("{} ({sessions} sessions)", plugin.name),
            None => plugin.name.clone(),
        })
        .collect();
    fact("plugins", plugins.join(", ").into());
    for plugin in &daemon.plugins {
        for old in plugin.components.iter().filter(|it| it.pinned > 0) {
            let since = old
                .pinned_since
                .map_or(String::new(), |at| format!(", the first {}", ago(at, now)));
            let text = format!(
                "{} of {} on the older {}, for its present one could not carry them on{since}: \
                 abide sessions list --pinned",
                counted(old.pinned, "session"),
                plugin.name,
                old.digest.short()
            );
            fact("", Cell::toned(text, Tone::Warn));
        }
    }
    for rollout in daemon.plugins.iter().filter_map(|it| it.rollout.as_ref()) {
        let tone = match rollout.status {
            RolloutStatus::Running => Tone::Plain,
            RolloutStatus::RolledBack => Tone::Bad,
            RolloutStatus::Completed | RolloutStatus::Replaced => continue,
        };
        let text = format!("{}: {}", rollout.plugin, rollout.summary());
        fact("", Cell::toned(text, tone));
        for failure in &rollout.failures {
            let (session, why) = (&failure.session, inline(&failure.reason));
            fact("", Cell::toned(format!("{session}: {why}"), tone));
        }
    }
    fact("sessions", counts(daemon).into());
    if let Some(dead) = daemon.dead_letters.filter(|dead| *dead > 0) {
        let text = format!("{dead}: abide sessions dead");
        fact("dead letters", Cell::toned(text, Tone::Warn));
    }
    fact("guest memory", guest_memory(&daemon.guest_memory));
    if let Some(drain) = &daemon.drain {
        let mut text = format!(
            "{} turns still run, {} messages held",
            drain.running, drain.held
        );
        if let Some(ends) = drain.ends_at {
            text.push_str(&format!(
                "; what still runs is cut in {}",
                duration(ends.since(now))
            ));
        }
        fact("drain", Cell::toned(text, Tone::Warn));
    }
    if let Some(restart) = &daemon.restart {
        fact("restart", verdict(restart, now));
        for line in trial(restart, daemon.state) {
            fact("", inline(&line).into_owned().into());
        }
    }
    out.text(&table(out, 0, &[], &rows))?;
    Ok(())
}

/// Prints the model providers that have something to report.
fn model_providers(
    out: &mut Out,
    providers: &[ModelProviderStatus],
    now: UnixMillis,
) -> Result<(), CliError> {
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for provider in providers {
        let mut row = |word: &str, tone: Tone, what: String| {
            let name = inline(&provider.name).into_owned();
            let word = Cell::toned(word.to_owned(), tone);
            rows.push(vec![name.into(), word, inline(&what).into_owned().into()]);
        };
        if let Some(failing) = &provider.failing {
            let since = duration(now.since(failing.since));
            row(
                "failing",
                Tone::Bad,
                format!("for {since}: {}", failing.reason),
            );
        }
        for known in &provider.found_out {
            row(
                "asked",
                Tone::Dim,
                format!("{} ({})", known.asked, known.model),
            );
        }
        if !provider.left_out.is_empty() {
            row("not shown", Tone::Warn, left_out(&provider.left_out));
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    out.line("")?;
    out.line(out.paint(Tone::Bold, "model providers"))?;
    out.text(&table(out, 2, &[], &rows))?;
    Ok(())
}

/// Prints the state of each tool server; for one that is down also the reason and the time of the
/// next try.
fn tool_servers(
    out: &mut Out,
    servers: &[ToolServerStatus],
    now: UnixMillis,
) -> Result<(), CliError> {
    if servers.is_empty() {
        return Ok(());
    }
    out.line("")?;
    out.line(out.paint(Tone::Bold, "tool servers"))?;
    let row = |server: &ToolServerStatus| {
        let (tone, what) = match server.state {
            ToolServerState::Up => (Tone::Good, left_out(&server.left_out)),
            ToolServerState::Down => (Tone::Bad, fall(server, now)),
            ToolServerState::Idle => (Tone::Dim, "starts when a turn wants its tools".to_owned()),
            ToolServerState::Starting | ToolServerState::Unknown => (
                Tone::Warn,
                inline(server.reason.as_deref().unwrap_or("")).into_owned(),
            ),
        };
        let since = server.since.map(|since| duration(now.since(since)));
        let tools = server.tools.map(|tools| format!("{tools} tools"));
        vec![
            inline(&server.name).into_owned().into(),
            Cell::toned(server.state.as_str(), tone),
            since.unwrap_or_default().into(),
            tools.unwrap_or_default().into(),
            what.into(),
        ]
    };
    let rows = servers.iter().flat_map(|server| {
        let reach = reach(server).into_iter();
        let reach = reach.map(|(word, tone, what)| {
            let word = Cell::toned(word.to_owned(), tone);
            vec!["".into(), word, "".into(), "".into(), what.into()]
        });
        std::iter::once(row(server)).chain(reach)
    });
    let rows: Vec<Vec<Cell>> = rows.collect();
    out.text(&table(out, 2, &[], &rows))?;
    Ok(())
}

/// Formats what a server can get at of the daemon's files, and what keeps it from that.
fn reach(server: &ToolServerStatus) -> Vec<(&'static str, Tone, String)> {
    let mut all = Vec::new();
    let list = |names: &[String]| {
        let named = names.iter().take(READABLE_NAMED);
        let mut named: Vec<&str> = named.map(String::as_str).collect();
        let more = names.len() - named.len();
        let more = format!("and {more} more");
        if names.len() > named.len() {
            named.push(&more);
        }
        inline(&named.join(", ")).into_owned()
    };
    if !server.can_read.is_empty() {
        let what = list(&server.can_read);
        let text = format!("{what} → `sandbox` or `user` hides that from it");
        all.push(("can read", Tone::Warn, text));
    }
    if let Some(sandbox) = &server.sandbox {
        let closed = list(&sandbox.closed);
        let text = format!("nothing can be listed or made directly in {closed}");
        all.push(("sandbox", Tone::Dim, text));
        for gap in &sandbox.not_held {
            all.push(("not held", Tone::Warn, inline(gap).into_owned()));
        }
    }
    all
}

/// Formats the unusable tools: `2 left out: files (its name is empty), ...`
fn left_out(tools: &[ToolLeftOut]) -> String {
    if tools.is_empty() {
        return String::new();
    }
    let named = tools.iter().take(LEFT_OUT_NAMED);
    let mut named: Vec<String> = named
        .map(|out| format!("{} ({})", inline(&out.tool), inline(&out.reason)))
        .collect();
    if tools.len() > named.len() {
        named.push("…".to_owned());
    }
    format!("{} left out: {}", tools.len(), named.join(", "))
}

/// Formats why a server is down: `it exited with status 7; tried again in 3.0 s, when a turn wants
/// it`
fn fall(server: &ToolServerStatus, now: UnixMillis) -> String {
    let reason = inline(server.reason.as_deref().unwrap_or("it does not say why"));
    let wait = server.next_try_at.map_or(0, |at| at.since(now));
    match wait {
        0 => format!("{reason}; tried again when a turn wants it"),
        wait => format!(
            "{reason}; tried again in {}, when a turn wants it",
            duration(wait)
        ),
    }
}

/// Prints the watchdog's findings, with their duration and remedy.
fn findings(out: &mut Out, found: &[Finding], now: UnixMillis) -> Result<(), CliError> {
    if found.is_empty() {
        return Ok(());
    }
    out.line("")?;
    out.line(out.paint(Tone::Bad, "wrong"))?;
    let named = NAMED_MAX as usize;
    let rows: Vec<Vec<Cell>> = found
        .iter()
        .take(named)
        .map(|finding| {
            vec![
                finding.kind.as_str().replace('_', " ").into(),
                brief(&finding.subject, 60).into(),
                duration(now.since(finding.since)).into(),
                format!("{} → {}", inline(&finding.reason), inline(&finding.remedy)).into(),
            ]
        })
        .collect();
    out.text(&table(out, 2, &[], &rows))?;
    let more = found.len().saturating_sub(named);
    if more > 0 {
        let text = format!("  and {more} more: abide status --json");
        out.line(out.paint(Tone::Dim, &text))?;
    }
    Ok(())
}

/// Formats the guests' memory: `120 MiB of 500 MiB reserved, 3 guests wait`
fn guest_memory(memory: &GuestMemoryStatus) -> Cell {
    let text = format!(
        "{} of {} reserved",
        size(memory.reserved_bytes),
        size(memory.budget_bytes)
    );
    match memory.waiting {
        0 => text.into(),
        waiting => Cell::toned(format!("{text}, {waiting} guests wait"), Tone::Warn),
    }
}

/// Formats the numbers of sessions: `20: 3 running, 17 idle`
fn counts(daemon: &DaemonStatus) -> String {
    let of = |state: &str| daemon.sessions.get(state).copied().unwrap_or(0);
    let sum = STATES.iter().map(|state| of(state)).sum();
    let total = daemon.sessions.get("total").copied().unwrap_or(sum);
    let parts: Vec<String> = STATES
        .iter()
        .filter(|state| of(state) > 0)
        .map(|state| format!("{} {state}", of(state)))
        .collect();
    if parts.is_empty() {
        return total.to_string();
    }
    format!("{total}: {}", parts.join(", "))
}

fn verdict(restart: &RestartRecord, now: UnixMillis) -> Cell {
    let mut text = format!(
        "{} {}: {} ({})",
        restart.cause.as_str(),
        ago(restart.at, now),
        restart.status.as_str(),
        brief(&restart.trigger, 60)
    );
    match restart.status {
        RestartStatus::Completed | RestartStatus::Probation if restart.handover_at.is_none() => {}
        RestartStatus::Completed | RestartStatus::Probation => text.push_str(&format!(
            "; pause {}, waited for {}, cut {}, held {}",
            duration(restart.phases.pause_ms),
            restart.drain.waited_for,
            restart.drain.cut,
            restart.drain.held
        )),
        RestartStatus::Refused | RestartStatus::RolledBack => {
            if let Some(reason) = &restart.reason {
                text.push_str(&format!(": {}", inline(reason)));
            }
        }
        RestartStatus::Running | RestartStatus::Stopped => {}
    }
    if !restart.relaunch.lesser.is_empty() {
        text.push_str(&format!(
            "; {} sessions came back with LESS",
            restart.relaunch.lesser.len()
        ));
        return Cell::toned(text, Tone::Bad);
    }
    let tone = super::restarts::tone(restart.status);
    Cell::toned(
        text,
        if tone == Tone::Good {
            Tone::Plain
        } else {
            tone
        },
    )
}

/// Returns what the trial of new components has found so far, while their restart is under way: a line for each
/// plugin.
fn trial(restart: &RestartRecord, state: DaemonState) -> Vec<String> {
    if restart.status != RestartStatus::Running {
        return Vec::new();
    }
    let doing = match state {
        DaemonState::Serving => "trying",
        _ => "tried",
    };
    let lines = restart.trial.iter();
    lines
        .map(|found| format!("{doing}: {}", found.summary()))
        .collect()
}

fn list(
    out: &mut Out,
    state: &str,
    count: u64,
    views: &[SessionView],
    now: UnixMillis,
) -> Result<(), CliError> {
    // The sessions were counted a moment before they were listed, so the list may be empty by now.
    if views.is_empty() {
        return Ok(());
    }
    let tone = if state == "faulted" {
        Tone::Bad
    } else {
        Tone::Bold
    };
    out.line("")?;
    out.line(out.paint(tone, state))?;
    let rows: Vec<Vec<Cell>> = views
        .iter()
        .map(|view| {
            let what = match (&view.reason, &view.running) {
                (Some(reason), _) => format!("{} → {}", inline(&reason.text), reason.action),
                (None, Some(turn)) => format!(
                    "turn {}, attempt {}, for {}",
                    turn.turn,
                    turn.attempt,
                    duration(now.since(turn.since))
                ),
                (None, None) => String::new(),
            };
            vec![
                brief(view.id.as_str(), 60).into(),
                view.plugin.clone().into(),
                what.into(),
            ]
        })
        .collect();
    out.text(&table(out, 2, &[], &rows))?;
    let more = count.saturating_sub(views.len() as u64);
    if more > 0 {
        let text = format!("  and {more} more: abide sessions list --state {state}");
        out.line(out.paint(Tone::Dim, &text))?;
    }
    Ok(())
}
