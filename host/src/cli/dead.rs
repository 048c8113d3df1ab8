//! Dead letters, of a session or of all: `abide sessions dead`, `abide sessions retry`.

use serde_json::{Value, json};

use super::args::{DeadLetters, Retry};
use super::calls::{query, session_path};
use super::client::Client;
use super::error::CliError;
use super::out::{Out, Tone, hint};
use super::pages::{PAGE, Tally, each};
use super::table::{Cell, table};
use super::text::{ago, brief};
use crate::documents::{Page, SessionDeadLetter};
use crate::domain::{DeadLetter, Role, SessionId, UnixMillis};
use crate::plain_text::inline;

/// The width to which the text of a letter is cut in a table.
const TEXT_CHARS: usize = 100;
/// The width to which the reason of a letter is cut: its end names the remedy.
const REASON_CHARS: usize = 1000;
/// Which letters of all sessions are meant.
struct AllLetters<'a> {
    plugin: Option<&'a str>,
    since: Option<UnixMillis>,
}

impl AllLetters<'_> {
    fn path(&self, after: Option<&str>) -> String {
        let since = self.since.map(|since| since.to_string());
        let limit = PAGE.to_string();
        let pairs = [
            ("plugin", self.plugin),
            ("since", since.as_deref()),
            ("limit", Some(limit.as_str())),
            ("after", after),
        ];
        format!("/v1/dead{}", query(&pairs))
    }
}

/// Lists dead letters: of a session, or of all.
pub(super) async fn dead(
    client: &Client,
    out: &mut Out,
    args: &DeadLetters,
) -> Result<(), CliError> {
    if let Some(id) = &args.id {
        if args.json.json {
            let page: Value = client.get(&session_path(id, "/dead")).await?;
            return Ok(out.json(&page)?);
        }
        return letters(client, out, id, 0).await;
    }
    let wanted = AllLetters {
        plugin: args.plugin.as_deref(),
        since: args.since.map(ago_from_now),
    };
    let (limit, mut more) = (args.limit as usize, false);
    let mut all: Vec<SessionDeadLetter> = Vec::new();
    each(
        client,
        |after| wanted.path(after),
        async |letter| {
            more = all.len() == limit;
            if !more {
                all.push(letter);
            }
            Ok(!more)
        },
    )
    .await?;
    if args.json.json {
        return Ok(out.json(&json!({ "items": all }))?);
    }
    if all.is_empty() {
        return Ok(out.line("no dead letters")?);
    }
    let now = UnixMillis::now();
    let rows: Vec<Vec<Cell>> = all
        .iter()
        .map(|of| {
            let mut row = vec![Cell::toned(inline(of.session.as_str()), Tone::Bold)];
            row.extend(letter_row(&of.letter, now));
            row
        })
        .collect();
    let head = ["session", "message", "died", "text", "reason"];
    out.text(&table(out, 0, &head, &rows))?;
    if more {
        hint("there are more; --limit shows more of them");
    }
    let remedy = "`abide sessions retry --all` queues them again, with `--plugin` and `--since` some of \
                  them";
    Ok(out.line(out.paint(Tone::Dim, remedy))?)
}

/// Prints the dead letters of a session.
pub(super) async fn letters(
    client: &Client,
    out: &mut Out,
    id: &SessionId,
    indent: usize,
) -> Result<(), CliError> {
    let page: Page<DeadLetter> = client.get(&session_path(id, "/dead")).await?;
    let now = UnixMillis::now();
    let rows: Vec<Vec<Cell>> = page
        .items
        .iter()
        .map(|letter| letter_row(letter, now))
        .collect();
    if rows.is_empty() {
        return Ok(out.line("no dead letters")?);
    }
    let head = ["message", "died", "text", "reason"];
    out.text(&table(out, indent, &head, &rows))?;
    let remedy = format!("`abide sessions retry {id} --message ID` queues one again");
    out.line(out.paint(Tone::Dim, &format!("{}{remedy}", " ".repeat(indent))))?;
    Ok(())
}

fn letter_row(letter: &DeadLetter, now: UnixMillis) -> Vec<Cell> {
    let message = &letter.message;
    // A timer that its turn sets again is not set any more.
    let text = match (message.from, &message.name) {
        (Role::Timer, Some(name)) => {
            format!(
                "timer {name}, which does not fire again by itself: {}",
                message.text
            )
        }
        _ => message.text.clone(),
    };
    vec![
        message.id.as_str().into(),
        ago(letter.at, now).into(),
        brief(&text, TEXT_CHARS).into(),
        Cell::toned(brief(&letter.reason.text, REASON_CHARS), Tone::Bad),
    ]
}

/// Queues dead letters again: one of a session, or all that are meant.
pub(super) async fn retry(client: &Client, out: &mut Out, args: Retry) -> Result<(), CliError> {
    let Some(id) = &args.id else {
        // The grammar requires one of the two.
        return retry_all(client, out, &args).await;
    };
    let mut body = json!({ "force": args.force });
    if let Some(message) = &args.message {
        body["message"] = json!(message);
    }
    let answer = client.act(id, "retry", &body).await?;
    match args.json.json {
        true => out.json(&answer)?,
        false => out.line(format!("{id}: the message is queued again"))?,
    }
    Ok(())
}

/// Queues all of them again, those of a session in the order in which they came. One that is refused keeps
/// no other from it.
async fn retry_all(client: &Client, out: &mut Out, args: &Retry) -> Result<(), CliError> {
    let wanted = AllLetters {
        plugin: args.plugin.as_deref(),
        since: args.since.map(ago_from_now),
    };
    let mut tally = Tally::default();
    each(
        client,
        |after| wanted.path(after),
        async |of: SessionDeadLetter| {
            let SessionDeadLetter { session, letter } = of;
            let message = letter.message.id;
            let body = json!({ "message": message, "force": args.force });
            let answer = client.act(&session, "retry", &body).await;
            let name = format!("{session}: {message}");
            let item = json!({ "session": session, "message": message });
            if tally.take(&name, item, answer)?.is_some() && !args.json.json {
                out.line(format!("{name} is queued again"))?;
            }
            Ok(true)
        },
    )
    .await?;
    let left = "message(s) stay dead letters";
    tally.report(out, args.json.json, "queued", "no dead letters", left)
}

/// Returns the moment that was so long ago.
fn ago_from_now(long: std::time::Duration) -> UnixMillis {
    let ms = u64::try_from(long.as_millis()).unwrap_or(u64::MAX);
    UnixMillis(UnixMillis::now().0.saturating_sub(ms))
}
