//! `abide restarts`: lists past restarts and their outcomes.

use serde_json::Value;

use super::args::Restarts;
use super::client::Client;
use super::error::CliError;
use super::global::Global;
use super::out::{Out, Tone};
use super::table::{Cell, table};
use super::target;
use super::text::{ago, brief, duration};
use crate::documents::Page;
use crate::domain::{RestartRecord, RestartStatus, UnixMillis};
use crate::plain_text::inline;

/// The width to which a trigger is cut in the table.
const TRIGGER_CHARS: usize = 60;

pub(crate) async fn run(global: &Global, args: Restarts) -> Result<(), CliError> {
    let client = Client::new(target::find(global)?)?;
    let mut out = Out::new(global.no_color);
    let path = match args.generation {
        Some(generation) => format!("/v1/daemon/restarts/{generation}"),
        None => format!("/v1/daemon/restarts?limit={}", args.limit),
    };
    if args.json.json {
        let answer: Value = client.get(&path).await?;
        return Ok(out.json(&answer)?);
    }
    let now = UnixMillis::now();
    if args.generation.is_some() {
        let record: RestartRecord = client.get(&path).await?;
        return Ok(detail(&mut out, &record, now)?);
    }
    let page: Page<RestartRecord> = client.get(&path).await?;
    if page.items.is_empty() {
        return Ok(out.line("no restart yet")?);
    }
    let rows: Vec<Vec<Cell>> = page.items.iter().map(|record| row(record, now)).collect();
    let head = [
        "generation",
        "cause",
        "status",
        "when",
        "waited/cut/held",
        "pause",
        "trigger",
    ];
    out.text(&table(&out, 0, &head, &rows))?;
    Ok(())
}

fn row(record: &RestartRecord, now: UnixMillis) -> Vec<Cell> {
    let drain = record.drain;
    vec![
        record.generation.to_string().into(),
        record.cause.as_str().into(),
        status(record.status),
        ago(record.at, now).into(),
        format!("{}/{}/{}", drain.waited_for, drain.cut, drain.held).into(),
        pause(record).into(),
        brief(
            record.reason.as_ref().unwrap_or(&record.trigger),
            TRIGGER_CHARS,
        )
        .into(),
    ]
}

/// Formats a status in its tone.
pub(crate) fn status(status: RestartStatus) -> Cell {
    Cell::toned(status.as_str(), tone(status))
}

/// Returns the tone of a status.
pub(crate) fn tone(status: RestartStatus) -> Tone {
    match status {
        RestartStatus::Completed => Tone::Good,
        RestartStatus::RolledBack | RestartStatus::Refused => Tone::Bad,
        RestartStatus::Running | RestartStatus::Probation => Tone::Warn,
        RestartStatus::Stopped => Tone::Plain,
    }
}

/// Formats the pause, once a successor has served.
fn pause(record: &RestartRecord) -> String {
    match record.status {
        RestartStatus::Running | RestartStatus::Refused | RestartStatus::Stopped => String::new(),
        _ if record.handover_at.is_none() => String::new(),
        _ => duration(record.phases.pause_ms),
    }
}

/// Prints one restart, from its trigger to its verdict.
pub(crate) fn detail(
    out: &mut Out,
    record: &RestartRecord,
    now: UnixMillis,
) -> std::io::Result<()> {
    out.line(format!(
        "{} {}",
        out.paint(Tone::Bold, &format!("generation {}", record.generation)),
        out.paint(tone(record.status), record.status.as_str()),
    ))?;
    let rows: Vec<Vec<Cell>> = facts(record, now)
        .into_iter()
        .map(|(name, value)| vec![name.into(), inline(&value).into_owned().into()])
        .collect();
    out.text(&table(out, 2, &[], &rows))
}

/// Returns the facts of a restart as names and values. Pure.
pub(crate) fn facts(record: &RestartRecord, now: UnixMillis) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        (
            "cause",
            format!("{}: {}", record.cause.as_str(), record.trigger),
        ),
        ("at", format!("{} ({})", record.at, ago(record.at, now))),
    ];
    if let Some(reason) = &record.reason {
        facts.push(("reason", reason.clone()));
    }
    if record.config_from != record.config_to {
        let short = |digest: Option<crate::domain::Digest>| {
            digest.map_or("none".to_owned(), |digest| digest.short())
        };
        let change = format!(
            "{} → {}",
            short(record.config_from),
            short(record.config_to)
        );
        facts.push(("config", change));
    }
    if !record.version.is_empty() {
        facts.push(("version", record.version.clone()));
    }
    let trials = record.trial.iter().map(|found| ("trial", found.told()));
    facts.extend(trials);
    if record.status == RestartStatus::Refused {
        return facts;
    }
    let (drain, phases, relaunch) = (&record.drain, &record.phases, &record.relaunch);
    facts.push((
        "active",
        format!("{} sessions, {} of them idle", record.active, drain.idle),
    ));
    facts.push((
        "drained",
        format!(
            "turns waited for {}, cut {}, frozen {}; messages held {}",
            drain.waited_for, drain.cut, drain.frozen, drain.held
        ),
    ));
    if matches!(
        record.status,
        RestartStatus::Running | RestartStatus::Stopped
    ) {
        return facts;
    }
    facts.push((
        "came back",
        format!(
            "{} sessions restored, {} turns run again, {} faulted, {} stay on an older component",
            relaunch.restored, relaunch.resumed_turns, relaunch.faulted, relaunch.pinned
        ),
    ));
    if !relaunch.lesser.is_empty() {
        facts.push((
            "LESS THAN WAS",
            format!(
                "{} sessions; look at each: abide sessions show ID",
                relaunch.lesser.len()
            ),
        ));
        // A record of an earlier version contains names only.
        let names = relaunch.lesser.iter().skip(relaunch.shortfalls.len());
        let rows = relaunch.shortfalls.iter();
        let rows = rows.map(|lacks| format!("{}: {lacks}", lacks.id));
        facts.extend(
            rows.chain(names.map(ToString::to_string))
                .map(|text| ("", text)),
        );
    }
    facts.push((
        "took",
        format!(
            "standby {}, trial {}, drain {}, hand-over {}, relaunch {}",
            duration(phases.standby_ms),
            duration(phases.trial_ms),
            duration(phases.drain_ms),
            duration(phases.handover_ms),
            duration(phases.relaunch_ms)
        ),
    ));
    if record.handover_at.is_some() {
        facts.push((
            "pause",
            format!("{} for clients", duration(phases.pause_ms)),
        ));
    }
    facts
}
