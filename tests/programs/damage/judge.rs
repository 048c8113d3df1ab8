//! Compares a daemon on a damaged folder with what clients knew before.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use abide_tests::damage::{is_logged, named_by, names};
use abide_tests::{Client, Daemon, Event};
use reqwest::header;
use serde_json::Value;

use crate::world::{Known, KnownSessions, ask, message};

/// How long a session may wait for the repair of a family, or for a worker that starts again.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many turns each session takes afterwards, so that flushes and compactions meet the damage.
const LOAD: u64 = 10;

/// The sessions that are named as touched, each with the words.
pub(crate) type Named = BTreeMap<String, String>;

/// What is wrong.
pub(crate) type Wrong = Vec<String>;

/// Judges all sessions of a daemon that serves: each is complete and goes on, or is named. Returns
/// those that are named; `named` has those of which something else told.
pub(crate) async fn judge(
    daemon: &Daemon,
    known: &KnownSessions,
    named: Named,
    seed: u64,
) -> Result<Named, Wrong> {
    let client = daemon.client();
    let mut all = named;
    let mut wrong = Wrong::new();
    for (id, session) in known {
        if let Err(words) = judge_session(&client, id, session).await {
            match words {
                Words::Named(words) => drop(all.insert(id.clone(), words)),
                Words::Wrong(words) if !all.contains_key(id) && !is_told(daemon, id).await => {
                    wrong.push(format!("{id}: {words}"));
                }
                Words::Wrong(words) => drop(all.insert(id.clone(), words)),
            }
        }
    }
    let mut whole = Vec::new();
    for (id, session) in known {
        if !session.is_closed && !all.contains_key(id) {
            whole.push((id.clone(), session.plugin.clone()));
        }
    }
    for n in 0..LOAD {
        let mut turns = Vec::new();
        for (id, plugin) in &whole {
            let seed = seed + n;
            let (client, id) = (client.clone(), id.clone());
            let text = message(plugin, seed * 100 + id.len() as u64);
            turns.push(async move {
                let outcome = ask(&client, &id, &text, &format!("load {seed}"), PATIENCE).await;
                (id, outcome)
            });
        }
        for (id, outcome) in futures::future::join_all(turns).await {
            let is_well = outcome.as_ref().is_ok_and(|outcome| outcome == "completed");
            if !is_well && !all.contains_key(&id) {
                match state_of(&client, &id).await {
                    Some(words) => drop(all.insert(id, words)),
                    None => wrong.push(format!("{id} does not go on: {outcome:?}")),
                }
            }
        }
        if !wrong.is_empty() {
            break;
        }
    }
    match wrong.is_empty() {
        true => Ok(all),
        false => Err(wrong),
    }
}

enum Words {
    /// The session says itself that it was touched.
    Named(String),
    Wrong(String),
}

async fn judge_session(client: &Client, id: &str, known: &Known) -> Result<(), Words> {
    let path = format!("/v1/sessions/{id}");
    let (status, session) = get(client, &path).await.map_err(Words::Wrong)?;
    match (known.is_closed, status) {
        (true, 410) => return Ok(()),
        (false, 200) => {}
        _ => return Err(unreadable("it", status, &session)),
    }
    if let Some(words) = named_by(&session) {
        return Err(Words::Named(words));
    }
    let turns = session["turns"].as_u64().unwrap_or_default();
    if turns < known.turns {
        return Err(Words::Wrong(format!(
            "{turns} turns, and there were {}",
            known.turns
        )));
    }
    let events = events(client, id, known.events.len()).await?;
    let differing = known
        .events
        .iter()
        .zip(&events)
        .find(|(old, new)| old != new);
    if let Some((old, new)) = differing {
        return Err(Words::Wrong(format!(
            "an event is another: {:?} {:?} was {:?} {:?}",
            new.cursor, new.kind, old.cursor, old.kind
        )));
    }
    if events.len() < known.events.len() {
        return Err(Words::Wrong(format!(
            "{} events, and there were {}",
            events.len(),
            known.events.len()
        )));
    }
    let started = Instant::now();
    for open in &known.open {
        while !self::events(client, id, usize::MAX)
            .await?
            .iter()
            .any(|event| event.ends(open))
        {
            if started.elapsed() > PATIENCE {
                return Err(Words::Wrong(format!(
                    "the acknowledged message {open} has no end"
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// Judges an answer that is none: one with the words of the damage is no silent loss.
fn unreadable(what: &str, status: u16, body: &Value) -> Words {
    let words = format!("{what}: {status} {body}");
    match status >= 500 && words.contains("damage") {
        true => Words::Named(words),
        false => Words::Wrong(words),
    }
}

/// Returns the events from the first, until there are as many as wanted or no more.
async fn events(client: &Client, id: &str, wanted: usize) -> Result<Vec<Event>, Words> {
    let mut events: Vec<Event> = Vec::new();
    while events.len() < wanted {
        let after = events.last().map_or(0, |event| event.cursor);
        let path = format!("/v1/sessions/{id}/events?after={after}");
        let (status, body) = get(client, &path).await.map_err(Words::Wrong)?;
        if status == 410 {
            return Err(Words::Named(format!("a gap is told: {body}")));
        }
        if status != 200 {
            return Err(unreadable("its events", status, &body));
        }
        let page: Vec<Event> = serde_json::from_value(body["items"].clone())
            .map_err(|error| Words::Wrong(format!("its events: {error}")))?;
        if page.is_empty() {
            break;
        }
        events.extend(page);
    }
    Ok(events)
}

/// Gets JSON, again while the daemon is not up or is repairing itself.
async fn get(client: &Client, path: &str) -> Result<(u16, Value), String> {
    let started = Instant::now();
    loop {
        let request = client
            .request(reqwest::Method::GET, path)
            .header(header::ACCEPT, "application/json");
        let why = match tokio::time::timeout(Duration::from_secs(5), client.send(request)).await {
            Ok(Ok(reply)) if reply.status != 503 => return Ok((reply.status, reply.body)),
            Ok(Ok(reply)) => format!("503 {}", reply.body),
            Ok(Err(trouble)) => format!("{trouble:?}"),
            Err(_) => "no answer in 5 s".to_owned(),
        };
        if started.elapsed() > PATIENCE {
            return Err(format!("{path}: {why}"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn state_of(client: &Client, id: &str) -> Option<String> {
    let (_, session) = get(client, &format!("/v1/sessions/{id}")).await.ok()?;
    named_by(&session)
}

/// Whether a finding or a line of the log names the session.
async fn is_told(daemon: &Daemon, id: &str) -> bool {
    let status = get(&daemon.client(), "/v1/daemon").await;
    let is_found = status.is_ok_and(|(_, status)| names(&status["watchdog"].to_string(), id));
    is_found || is_logged(&daemon.log(), id)
}
