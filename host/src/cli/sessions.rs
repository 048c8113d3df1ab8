//! `abide sessions`: lists sessions, shows one in detail, and executes an operator's actions.

use std::io::IsTerminal as _;

use reqwest::Method;
use serde_json::{Value, json};

use super::args::{Cancel, Close, ListSessions, One, Scope, SessionsCommand};
use super::calls::{Filter, cancel_path, session_path};
use super::client::Client;
use super::error::CliError;
use super::global::Global;
use super::out::{Out, Tone};
use super::pages::{PAGE, each};
use super::table::{Cell, table};
use super::text::{ago, brief, duration};
use super::{dead, resume, target, turns, way_back};
use crate::domain::{
    Cancelled, Event, EventBody, EventId, MessageId, SessionState, SessionView, UnixMillis,
};

/// The last events that a session's details show.
const LAST_EVENTS: u32 = 10;
/// The width to which the text of an event or a reason is cut in a table.
const TEXT_CHARS: usize = 100;

pub(crate) async fn run(global: &Global, command: SessionsCommand) -> Result<(), CliError> {
    let client = Client::new(target::find(global)?)?;
    let mut out = Out::new(global.no_color);
    match command {
        SessionsCommand::List(args) => list(&client, &mut out, args).await,
        SessionsCommand::Show(args) => show(&client, &mut out, &args).await,
        SessionsCommand::Close(args) => close(&client, &mut out, args).await,
        SessionsCommand::Cancel(args) => cancel(&client, &mut out, args).await,
        SessionsCommand::Resume(args) => resume::run(global, args).await,
        SessionsCommand::Points(args) => way_back::points(&client, &mut out, &args).await,
        SessionsCommand::Rewind(args) => way_back::rewind(&client, &mut out, args).await,
        SessionsCommand::Fork(args) => way_back::fork(&client, &mut out, args).await,
        SessionsCommand::Export(args) => way_back::export(&client, &mut out, args).await,
        SessionsCommand::Import(args) => way_back::import(&client, &mut out, args).await,
        SessionsCommand::Steps(args) => match args.json.json {
            true => {
                let turn: Value = client.get(&session_path(&args.id, "/turn")).await?;
                Ok(out.json(&turn)?)
            }
            false => turns::steps(&client, &mut out, &args.id, 0).await,
        },
        SessionsCommand::Replay(args) => turns::replay(&client, &mut out, &args).await,
        SessionsCommand::Retry(args) => dead::retry(&client, &mut out, args).await,
        SessionsCommand::Dead(args) => dead::dead(&client, &mut out, &args).await,
    }
}

async fn list(client: &Client, out: &mut Out, args: ListSessions) -> Result<(), CliError> {
    let limit = if args.all { u32::MAX } else { args.limit };
    let filter = Filter {
        plugin: args.plugin,
        state: args.state,
        pinned: args.pinned,
        limit: Some(PAGE.min(limit.saturating_add(1))),
    };
    let mut items: Vec<Value> = Vec::new();
    let mut more = false;
    each(
        client,
        |after| filter.path(after),
        async |item| {
            more = items.len() == limit as usize;
            if !more {
                items.push(item);
            }
            Ok(!more)
        },
    )
    .await?;
    let next = items.last().filter(|_| more).map(|last| last["id"].clone());
    if args.json.json {
        return Ok(out.json(&json!({ "items": items, "next": next }))?);
    }
    let views = items
        .into_iter()
        .map(serde_json::from_value)
        .collect::<Result<Vec<SessionView>, _>>()
        .map_err(|error| client.foreign(error))?;
    if views.is_empty() {
        return Ok(out.line("no such sessions")?);
    }
    let now = UnixMillis::now();
    let rows: Vec<Vec<Cell>> = views.iter().map(|view| row(view, now)).collect();
    let head = [
        "id",
        "plugin",
        "state",
        "turns",
        "queued",
        "dead",
        "last turn",
        "why",
    ];
    out.text(&table(out, 0, &head, &rows))?;
    if next.is_some() {
        let more = out.paint(Tone::Dim, "there are more; --limit N or --all shows them");
        out.line(more)?;
    }
    Ok(())
}

fn row(view: &SessionView, now: UnixMillis) -> Vec<Cell> {
    let number = |n: u64| if n == 0 { String::new() } else { n.to_string() };
    let why = match (&view.reason, &view.running) {
        (Some(reason), _) => format!("{} → {}", brief(&reason.text, TEXT_CHARS), reason.action),
        (None, Some(turn)) => format!("turn {} for {}", turn.turn, duration(now.since(turn.since))),
        (None, None) => String::new(),
    };
    vec![
        brief(view.id.as_str(), TEXT_CHARS).into(),
        view.plugin.clone().into(),
        state(view.state),
        view.turns.to_string().into(),
        number(view.queued).into(),
        number(view.dead).into(),
        view.last_turn_at
            .map_or(String::new(), |at| ago(at, now))
            .into(),
        why.into(),
    ]
}

/// Formats a state in its tone.
pub(crate) fn state(state: SessionState) -> Cell {
    let tone = match state {
        SessionState::Faulted => Tone::Bad,
        SessionState::Parked => Tone::Warn,
        SessionState::Running => Tone::Good,
        SessionState::Closed => Tone::Dim,
        SessionState::Queued | SessionState::Idle => Tone::Plain,
    };
    Cell::toned(state.as_str(), tone)
}

async fn show(client: &Client, out: &mut Out, args: &One) -> Result<(), CliError> {
    if args.json.json {
        let view: Value = client.get(&session_path(&args.id, "")).await?;
        return Ok(out.json(&view)?);
    }
    let view = client.session(&args.id).await?;
    let now = UnixMillis::now();
    let mut rows: Vec<Vec<Cell>> = vec![
        vec!["plugin".into(), view.plugin.clone().into()],
        vec!["state".into(), state(view.state)],
    ];
    let mut fact = |name: &str, value: String| rows.push(vec![name.into(), value.into()]);
    if let Some(reason) = &view.reason {
        fact("why", format!("{} ({})", reason.text, reason.code));
        fact("what to do", reason.action.clone());
    }
    if let Some(pinned) = &view.pinned {
        let component = view.component.map(|it| it.short()).unwrap_or_default();
        fact(
            "component",
            format!(
                "{component}, for {} now: its plugin's, {}, cannot carry it on: {}",
                duration(now.since(pinned.since)),
                pinned.refused.short(),
                pinned.reason
            ),
        );
        fact("to leave it", pinned.action.clone());
    }
    if let Some(turn) = &view.running {
        let since = duration(now.since(turn.since));
        fact(
            "running",
            format!("turn {}, attempt {}, for {since}", turn.turn, turn.attempt),
        );
    }
    if let Some(timeline) = &view.timeline {
        fact("timeline", format!("{timeline}, since its history was cut"));
    }
    fact("turns", view.turns.to_string());
    fact("queued", format!("{} messages", view.queued));
    fact("timers", view.timers.to_string());
    fact("created", ago(view.created_at, now));
    if let Some(at) = view.last_turn_at {
        fact("last turn", ago(at, now));
    }
    if !view.usage.is_none() {
        fact("models", view.usage.to_string());
    }
    if !view.args.is_null() {
        fact("args", view.args.to_string());
    }
    if !view.labels.is_empty() {
        let labels: Vec<String> = view
            .labels
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        fact("labels", labels.join(" "));
    }
    out.line(out.paint(Tone::Bold, view.id.as_str()))?;
    out.text(&table(out, 2, &[], &rows))?;

    if view.running.is_some() {
        // The turn may have ended since, which its events show; so a failure is ignored.
        let _ = turns::steps(client, out, &args.id, 2).await;
    }
    if view.state != SessionState::Closed {
        let after = EventId {
            cursor: view.cursor.saturating_sub(u64::from(LAST_EVENTS)),
            timeline: view.timeline.clone(),
        };
        // If the events have been trimmed, the rest is shown all the same.
        if let Ok(page) = client.events(&args.id, &after, LAST_EVENTS).await {
            out.line(out.paint(Tone::Bold, "last events"))?;
            let rows: Vec<Vec<Cell>> = page
                .items
                .iter()
                .map(|event| event_row(event, now))
                .collect();
            out.text(&table(out, 2, &[], &rows))?;
        }
    }
    if view.dead > 0 {
        out.line(out.paint(Tone::Bold, "dead letters"))?;
        dead::letters(client, out, &args.id, 2).await?;
    }
    Ok(())
}

fn event_row(event: &Event, now: UnixMillis) -> Vec<Cell> {
    let (tone, what) = match &event.body {
        EventBody::Message { from, text, .. } => {
            (Tone::Plain, format!("{}: {text}", from.as_str()))
        }
        EventBody::Turn {
            status,
            reason,
            usage,
            ..
        } => {
            let mut status = format!("{status:?}").to_lowercase();
            if !usage.is_none() {
                status = format!("{status} ({usage})");
            }
            match reason {
                Some(reason) => (Tone::Bad, format!("{status}: {reason}")),
                None => (Tone::Dim, status),
            }
        }
        EventBody::Notice { text, .. } => (Tone::Warn, text.clone()),
        EventBody::Timeline { text, .. } => (Tone::Bad, text.clone()),
        EventBody::Rewound { text, .. } | EventBody::Origin { text, .. } => {
            (Tone::Warn, text.clone())
        }
        EventBody::Approval {
            name,
            status,
            approval,
            ..
        } => (
            Tone::Warn,
            format!("{name} {} ({approval})", status.as_str()),
        ),
        EventBody::Tool { name, status, .. } => (Tone::Dim, format!("{name} {}", status.as_str())),
        EventBody::Custom { name, data } => (Tone::Dim, format!("{name} {data}")),
    };
    vec![
        event.id().to_string().into(),
        ago(event.at, now).into(),
        event
            .turn
            .map_or(String::new(), |turn| format!("turn {turn}"))
            .into(),
        event.body.kind().into(),
        Cell::toned(brief(&what, TEXT_CHARS), tone),
    ]
}

async fn close(client: &Client, out: &mut Out, args: Close) -> Result<(), CliError> {
    let id = &args.one.id;
    if !args.yes && std::io::stdin().is_terminal() {
        let view = client.session(id).await?;
        out.text(&format!(
            "Close {id} ({} turns, {}) for ever? What waits becomes dead letters. [y/N] ",
            view.turns,
            view.state.as_str()
        ))?;
        out.flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Err(CliError::Failed("not closed".to_owned()));
        }
    }
    let request = client.request(Method::DELETE, &session_path(id, ""));
    let answer: Value = client.json(request).await?;
    done(out, &args.one, &answer, "it is closed, for ever")
}

async fn cancel(client: &Client, out: &mut Out, args: Cancel) -> Result<(), CliError> {
    let scope = args.scope.map(|scope| match scope {
        Scope::Turn => "turn",
        Scope::Queue => "queue",
        Scope::Message => "message",
    });
    let path = cancel_path(&args.one.id, scope, args.message.as_deref());
    let answer: Value = client.cancel_at(&path).await?;
    let cancelled: Cancelled =
        serde_json::from_value(answer.clone()).map_err(|error| client.foreign(error))?;
    let turn = cancelled
        .turn
        .map(|turn| format!("turn {turn} is cancelled"));
    let messages = match cancelled.messages.as_slice() {
        [] => None,
        ids => {
            let ids: Vec<&str> = ids.iter().map(MessageId::as_str).collect();
            Some(format!("dead letters: {}", ids.join(", ")))
        }
    };
    let what: Vec<String> = turn.into_iter().chain(messages).collect();
    let what = match what.join("; ") {
        none if none.is_empty() => "there was nothing to cancel".to_owned(),
        what => what,
    };
    done(out, &args.one, &answer, &what)
}

fn done(out: &mut Out, args: &One, answer: &Value, what: &str) -> Result<(), CliError> {
    if args.json.json {
        out.json(answer)?;
    } else {
        out.line(format!("{}: {what}", args.id))?;
    }
    Ok(())
}
