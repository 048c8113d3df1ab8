//! Measures the time to the first word of a model's answer, through the daemon and from the model
//! itself.
//!
//! All sessions stream at the same time. Rounds alternate between the lanes (the model itself, the
//! daemon, and another build of it if one is named), so that other load on the machine affects all
//! of them equally.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use abide_tests::{Client, Daemon, Event, FakeModel, Setup, abide_binary, http_client};
use anyhow::{Context as _, anyhow};
use eventsource_stream::Eventsource as _;
use futures::StreamExt as _;
use futures::future::try_join_all;
use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::told::{chapter, line, load, quantile};

/// Words in an answer, and the time between two of them.
const WORDS: usize = 20;
const PACE_MS: u64 = 10;
/// Answers that each session requests in a round, after a first one that is not counted because it
/// includes opening the connections and creating the session.
const ANSWERS: usize = 8;
/// Timeout of an event stream.
const STREAM: Duration = Duration::from_secs(3600);

/// One of the measured paths to the model.
struct Lane {
    name: String,
    /// The daemon's binary; `None` for the model itself.
    binary: Option<PathBuf>,
    taken: Vec<Duration>,
}

impl Lane {
    fn new(name: impl Into<String>, binary: Option<PathBuf>) -> Self {
        Self {
            name: name.into(),
            binary,
            taken: Vec::new(),
        }
    }
}

/// Measures all lanes and prints the quantiles.
pub(crate) async fn measure(
    sessions: usize,
    rounds: u32,
    against: Option<&Path>,
) -> anyhow::Result<()> {
    let mut lanes = vec![
        Lane::new("the model itself", None),
        Lane::new("through the daemon", Some(abide_binary())),
    ];
    if let Some(other) = against {
        let binary = other
            .canonicalize()
            .map_err(|error| anyhow!("--against {}: {error}", other.display()))?;
        lanes.push(Lane::new(
            format!("through {}", other.display()),
            Some(binary),
        ));
    }
    chapter(&format!(
        "Time to the first word of an answer, {sessions} sessions streaming"
    ));
    load();
    for _ in 0..rounds {
        for lane in &mut lanes {
            let model = FakeModel::start().await;
            let taken = match &lane.binary {
                None => directly(&model, sessions).await?,
                Some(binary) => through(&model, binary, sessions).await?,
            };
            lane.taken.extend(taken);
        }
    }
    let [model, daemons @ ..] = lanes.as_mut_slice() else {
        return Err(anyhow!("there is always the model itself"));
    };
    model.taken.sort();
    let text = |time: f64| format!("{time:7.2} ms");
    line("answers of each", model.taken.len().to_string());
    line("", "       p50         p99");
    let [p50, p99] = [0.5, 0.99].map(|part| quantile(&model.taken, part));
    line(&model.name, format!("{}  {}", text(p50), text(p99)));
    for lane in daemons {
        lane.taken.sort();
        let own = [0.5, 0.99].map(|part| quantile(&lane.taken, part));
        line(&lane.name, format!("{}  {}", text(own[0]), text(own[1])));
        let more = format!("{}  {}", text(own[0] - p50), text(own[1] - p99));
        line("  more than the model itself", more);
    }
    load();
    Ok(())
}

/// Returns the text of a question, which the model echoes as its answer.
fn question(session: usize, n: usize) -> String {
    format!("[pace={PACE_MS}] {session} {n} {}", "word ".repeat(WORDS))
}

/// Delays each session by its share of an answer's duration, so that the sessions do not stream in
/// lockstep.
async fn stagger(session: usize, sessions: usize) {
    let answer = Duration::from_millis(PACE_MS * WORDS as u64);
    tokio::time::sleep(answer * session as u32 / sessions.max(1) as u32).await;
}

async fn directly(model: &FakeModel, sessions: usize) -> anyhow::Result<Vec<Duration>> {
    let http = http_client(None);
    let url = format!("{}/chat/completions", model.base_url());
    let each = (0..sessions).map(|session| {
        let (http, url) = (http.clone(), url.clone());
        async move {
            stagger(session, sessions).await;
            let mut taken = Vec::new();
            for n in 0..=ANSWERS {
                let turn = json!({"role": "user", "content": question(session, n)});
                let body = json!({"model": "fake", "stream": true, "messages": [turn]});
                let sent = Instant::now();
                let answer = http.post(&url).json(&body).send().await;
                let answer = answer?;
                let mut events = answer.bytes_stream().eventsource();
                let mut first = None;
                while let Some(event) = events.next().await {
                    let event = event?;
                    let chunk: Value = serde_json::from_str(&event.data).unwrap_or_default();
                    if chunk["choices"][0]["delta"]["content"].is_string() {
                        first.get_or_insert_with(|| sent.elapsed());
                    }
                }
                taken.push(first.context("the model says nothing")?);
            }
            Ok::<_, anyhow::Error>(taken.split_off(1))
        }
    });
    Ok(try_join_all(each).await?.concat())
}

async fn through(
    model: &FakeModel,
    binary: &Path,
    sessions: usize,
) -> anyhow::Result<Vec<Duration>> {
    let setup = Setup {
        binary: Some(binary.to_owned()),
        ..Setup::default().assistant(model)
    };
    let daemon = Daemon::start(setup).await;
    let client = daemon.client();
    let each = (0..sessions).map(|session| {
        let client = client.clone();
        async move {
            let id = format!("s{session}");
            client.open(&id, "assistant").await;
            stagger(session, sessions).await;
            talk(&client, &id, session).await
        }
    });
    Ok(try_join_all(each).await?.concat())
}

/// Requests one session's answers and returns the time to the first word of each.
async fn talk(client: &Client, id: &str, session: usize) -> anyhow::Result<Vec<Duration>> {
    let events = client
        .request(Method::GET, &format!("/v1/sessions/{id}/events"))
        .header(header::ACCEPT, "text/event-stream")
        .timeout(STREAM)
        .send()
        .await;
    let events = events?;
    let mut events = events.bytes_stream().eventsource();
    let mut taken = Vec::new();
    for n in 0..=ANSWERS {
        let text = question(session, n);
        let sent = Instant::now();
        // The first word may arrive before the acknowledgement is read, so read the stream
        // concurrently.
        let posted = client.say(id, &text, None);
        let answered = async {
            let mut first = None;
            while let Some(event) = events.next().await {
                let event = event?;
                if event.event == "delta" {
                    first.get_or_insert_with(|| sent.elapsed());
                }
                let read = serde_json::from_str::<Event>(&event.data).ok();
                let Some(end) = read.filter(|event| event.kind == "turn") else {
                    continue;
                };
                if end.is_turn("failed") {
                    return Err(anyhow!("a turn failed: {end:?}"));
                }
                if end.is_turn("completed") {
                    return first.context("a turn says nothing");
                }
            }
            Err(anyhow!("the stream ended"))
        };
        let (posted, first) = tokio::join!(posted, answered);
        posted.map_err(|refused| anyhow!("{refused:?}"))?;
        taken.push(first?);
    }
    Ok(taken.split_off(1))
}
