//! The ways back of a session: `abide sessions points`, `rewind`, `fork`, `export` and `import`.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use reqwest::{Method, header};
use serde_json::{Value, json};

use super::args::One;
use super::calls::{query, session_path};
use super::client::{Client, ClientError};
use super::error::CliError;
use super::out::{Out, Tone};
use super::table::{Cell, table};
use super::text::{ago, counted, size};
use super::way_back_args::{Export, Fork, Import, Rewind};
use crate::documents::{CopiedSession, Page, PointBody, RewoundSession};
use crate::domain::{
    EXPORT_MAX_BYTES, EventId, MessageId, PointAct, SessionExport, SessionView, Timer, UnixMillis,
    state_after,
};
use crate::plain_text::inline;

/// How long the daemon may take for a large state, a component that it has to compile included.
const PATIENCE: Duration = Duration::from_secs(600);

/// Lists the restore points of a session.
pub(super) async fn points(client: &Client, out: &mut Out, args: &One) -> Result<(), CliError> {
    let path = session_path(&args.id, "/points");
    if args.json.json {
        let page: Value = client.get(&path).await?;
        return Ok(out.json(&page)?);
    }
    let page: Page<PointBody> = client.get(&path).await?;
    let now = UnixMillis::now();
    let rows: Vec<Vec<Cell>> = page.items.iter().map(|point| row(point, now)).collect();
    let head = ["point", "state", "taken", "size", "component", "kept"];
    Ok(out.text(&table(out, 0, &head, &rows))?)
}

fn row(point: &PointBody, now: UnixMillis) -> Vec<Cell> {
    let name = EventId {
        timeline: point.timeline.clone(),
        cursor: point.cursor,
    };
    let mut why = Vec::new();
    if point.present {
        why.push("present".to_owned());
    }
    if point.before_change {
        why.push("before another component".to_owned());
    }
    if let Some(act) = point.before_act {
        why.push(format!("before {}", act_name(act)));
    }
    vec![
        name.to_string().into(),
        state_after(point.turn).into(),
        ago(point.at, now).into(),
        size(point.bytes).into(),
        point.component.short().into(),
        why.join(", ").into(),
    ]
}

fn act_name(act: PointAct) -> &'static str {
    match act {
        PointAct::Cancel => "a cancel",
        PointAct::Retry => "a retry",
        PointAct::Resume => "a resume",
        PointAct::Adopt => "an adopt",
        PointAct::Rewind => "a rewind",
    }
}

pub(super) async fn rewind(client: &Client, out: &mut Out, args: Rewind) -> Result<(), CliError> {
    let request = client.request(Method::POST, &session_path(&args.id, "/rewind"));
    let request = request.json(&json!({ "to": args.to.to_string() }));
    let answer: Value = client.json_within(request, PATIENCE).await?;
    if args.json.json {
        return Ok(out.json(&answer)?);
    }
    let RewoundSession { session, rewound } =
        serde_json::from_value(answer).map_err(|error| client.foreign(error))?;
    let state = state_after(rewound.turn);
    out.line(format!("{}: it is as it was {state}", args.id))?;
    if let Some(turn) = rewound.cancelled {
        out.line(format!("  turn {turn} was open, and is cancelled"))?;
    }
    if rewound.turns_with_effects > 0 {
        let turns = counted(rewound.turns_with_effects, "undone turn");
        let text = format!("  {turns} did something outside: its next turn is told what");
        out.line(out.paint(Tone::Warn, &text))?;
    }
    timers(out, "dropped, as it was set since", &rewound.dropped_timers)?;
    timers(out, "set again", &rewound.returned_timers)?;
    timers(
        out,
        "not set again, as it has fired or would be due",
        &rewound.fired_timers,
    )?;
    stays(out, &session)
}

/// Says that the session stays on the component that wrote its state, if it does.
fn stays(out: &mut Out, session: &SessionView) -> Result<(), CliError> {
    if let Some(pinned) = &session.pinned {
        let component = session.component.map(|it| it.short()).unwrap_or_default();
        let action = inline(&pinned.action);
        out.line(format!(
            "  it stays on component {component}, which wrote its state; `{action}` moves it"
        ))?;
    }
    Ok(())
}

fn timers(out: &mut Out, what: &str, timers: &[Timer]) -> Result<(), CliError> {
    for timer in timers {
        let name = inline(&timer.name);
        out.line(format!("  timer {name} (due {}): {what}", timer.due))?;
    }
    Ok(())
}

pub(super) async fn fork(client: &Client, out: &mut Out, args: Fork) -> Result<(), CliError> {
    let mut body = json!({ "id": args.new });
    if let Some(at) = &args.at {
        body["at"] = json!(at.to_string());
    }
    let request = client.request(Method::POST, &session_path(&args.id, "/fork"));
    let answer: Value = client.json_within(request.json(&body), PATIENCE).await?;
    if args.json.json {
        return Ok(out.json(&answer)?);
    }
    copied(client, out, answer)
}

/// Shows a session that is a copy, and what it does not have.
fn copied(client: &Client, out: &mut Out, answer: Value) -> Result<(), CliError> {
    let CopiedSession {
        session,
        left,
        oldest,
    } = serde_json::from_value(answer).map_err(|error| client.foreign(error))?;
    out.line(format!(
        "{}: it begins with {} and {}",
        session.id,
        counted(session.turns, "turn"),
        counted(session.cursor, "event"),
    ))?;
    if oldest > 1 {
        out.line(format!("  the events before {oldest} were not copied"))?;
    }
    if let Some(turn) = left.turn {
        out.line(format!("  turn {turn}, which was open, stays behind"))?;
    }
    if !left.messages.is_empty() {
        let ids: Vec<&str> = left.messages.iter().map(MessageId::as_str).collect();
        let ids = inline(&ids.join(", ")).into_owned();
        out.line(format!("  queued messages stay behind: {ids}"))?;
    }
    for approval in &left.approvals {
        let approval = inline(approval.as_str());
        out.line(format!("  the approval {approval} stays behind"))?;
    }
    timers(out, "not set in the copy", &left.timers)?;
    stays(out, &session)
}

pub(super) async fn export(client: &Client, out: &mut Out, args: Export) -> Result<(), CliError> {
    let at = args.at.as_ref().map(EventId::to_string);
    let pairs = [
        ("at", at.as_deref()),
        ("component", args.with_component.then_some("true")),
    ];
    let path = session_path(&args.id, &format!("/export{}", query(&pairs)));
    let request = client.request(Method::GET, &path).timeout(PATIENCE);
    let response = client.send(request).await?;
    let bytes = response.bytes().await;
    let bytes = bytes.map_err(|error| client.broken(error))?;
    // What was cut off on its way is found here, and not when it is needed.
    let export = SessionExport::decode(&bytes).map_err(|bad| CliError::Failed(bad.to_string()))?;
    write_new(&args.file, &bytes)?;
    let copy = &export.copy;
    out.line(format!(
        "{}: {}, {}, {}",
        args.file.display(),
        size(bytes.len() as u64),
        counted(copy.point.turns, "turn"),
        match &export.component {
            Some(_) => "with its component".to_owned(),
            None => format!("to import it takes component {}", copy.point.component),
        }
    ))?;
    Ok(())
}

/// Writes a new file for its owner alone: none is left behind if that fails.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let opened = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let mut file = opened.map_err(CliError::file("create", path))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // Best effort: the error is that of the writing.
        let _ = fs::remove_file(path);
    }
    written.map_err(CliError::file("write", path))
}

pub(super) async fn import(client: &Client, out: &mut Out, args: Import) -> Result<(), CliError> {
    let bytes = read_export(&args.file)?;
    let id = match &args.id {
        Some(id) => id.clone(),
        None => {
            let export = SessionExport::decode(&bytes);
            let bad = |bad| CliError::Failed(format!("{}: {bad}", args.file.display()));
            export.map_err(bad)?.copy.session
        }
    };
    let request = client.request(Method::POST, &session_path(&id, "/import"));
    let request = request
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .body(bytes);
    let answer: Result<Value, ClientError> = client.json_within(request, PATIENCE).await;
    let answer = answer?;
    if args.json.json {
        return Ok(out.json(&answer)?);
    }
    copied(client, out, answer)
}

/// Reads an export, up to the size that one may have.
pub(super) fn read_export(path: &Path) -> Result<Vec<u8>, CliError> {
    let file = File::open(path).map_err(CliError::file("read", path))?;
    let mut bytes = Vec::new();
    let most = EXPORT_MAX_BYTES as u64 + 1;
    let read = file.take(most).read_to_end(&mut bytes);
    read.map_err(CliError::file("read", path))?;
    match bytes.len() <= EXPORT_MAX_BYTES {
        true => Ok(bytes),
        false => Err(CliError::Failed(format!(
            "{} is larger than any export ({})",
            path.display(),
            size(EXPORT_MAX_BYTES as u64)
        ))),
    }
}
