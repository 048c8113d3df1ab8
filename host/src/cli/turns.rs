//! A session's open turn, or its last committed one: lists its steps, or replays it offline.

use serde_json::{Value, json};

use super::args::One;
use super::calls::session_path;
use super::client::Client;
use super::error::CliError;
use super::out::{Out, Tone};
use super::table::{Cell, table};
use super::text::{ago, brief, duration};
use crate::domain::{
    PartReport, PartStatus, ReplayReport, ReplayVerdict, SessionId, StepReport, TurnReport,
    UnixMillis,
};

/// The width to which a call or result is cut in the table.
const TEXT_CHARS: usize = 80;

/// Prints the turn and its steps.
pub(crate) async fn steps(
    client: &Client,
    out: &mut Out,
    id: &SessionId,
    indent: usize,
) -> Result<(), CliError> {
    let turn: TurnReport = client.get(&session_path(id, "/turn")).await?;
    let now = UnixMillis::now();
    let state = if turn.open { "open" } else { "committed" };
    let heading = format!(
        "turn {}, {state}, on message {}, begun {}, attempt {}, component {}",
        turn.turn,
        turn.message,
        ago(turn.began_at, now),
        turn.attempt,
        turn.component.short(),
    );
    out.line(out.paint(Tone::Bold, &heading))?;
    if turn.steps.is_empty() {
        return Ok(out.line(format!("{}no steps", " ".repeat(indent)))?);
    }
    let rows: Vec<Vec<Cell>> = turn
        .steps
        .iter()
        .flat_map(|step| rows(step, turn.began_at))
        .collect();
    let head = ["step", "after", "kind", "call", "outcome", "took", "result"];
    out.text(&table(out, indent, &head, &rows))?;
    Ok(())
}

/// Returns one row per part of a step; what the parts have in common is in the first row only.
fn rows(step: &StepReport, began: UnixMillis) -> Vec<Vec<Cell>> {
    let parts = step.parts.iter().enumerate();
    parts
        .map(|(n, part)| {
            let once = |text: String| if n == 0 { text } else { String::new() };
            let call = match step.parts.len() {
                1 => brief(&step.call, TEXT_CHARS),
                _ => part.name.clone(),
            };
            vec![
                once(step.step.to_string()).into(),
                once(duration(step.at.since(began))).into(),
                once(step.kind.clone()).into(),
                call.into(),
                outcome(part),
                part.took_ms.map_or(String::new(), duration).into(),
                brief(part.result.as_deref().unwrap_or_default(), TEXT_CHARS).into(),
            ]
        })
        .collect()
}

fn outcome(part: &PartReport) -> Cell {
    match (part.status, part.repeatable) {
        (PartStatus::Begun, true) => Cell::toned("under way", Tone::Warn),
        (PartStatus::Begun, false) => Cell::toned("under way, once", Tone::Warn),
        (PartStatus::Done, _) => Cell::toned("done", Tone::Good),
        (PartStatus::Failed, _) => Cell::toned("failed", Tone::Bad),
        (PartStatus::Unknown, _) => Cell::toned("unknown", Tone::Bad),
    }
}

/// Replays the turn offline and prints the verdict. Fails if the turn is not deterministic.
pub(crate) async fn replay(client: &Client, out: &mut Out, args: &One) -> Result<(), CliError> {
    let answer: Value = client.act(&args.id, "replay", &json!({})).await?;
    let report: ReplayReport =
        serde_json::from_value(answer.clone()).map_err(|error| client.foreign(error))?;
    if args.json.json {
        out.json(&answer)?;
    } else {
        let tone = match report.verdict {
            ReplayVerdict::Deterministic => Tone::Good,
            ReplayVerdict::Diverged | ReplayVerdict::Different => Tone::Bad,
        };
        let state = if report.open { "open" } else { "committed" };
        out.line(format!(
            "{}: turn {} ({state}, {} steps, component {}): {}",
            args.id,
            report.turn,
            report.steps,
            report.component.short(),
            out.paint(tone, report.verdict.as_str())
        ))?;
        out.line(&report.text)?;
    }
    match report.verdict {
        ReplayVerdict::Deterministic => Ok(()),
        verdict => Err(CliError::Failed(format!(
            "turn {} is not deterministic ({})",
            report.turn,
            verdict.as_str()
        ))),
    }
}
