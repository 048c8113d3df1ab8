//! Measures the daemon's memory and responses when clients send far more messages than turns
//! complete.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use abide_tests::{CallState, Daemon, FakeModel, Setup};
use anyhow::anyhow;
use bytes::Bytes;
use http::Method;
use serde_json::json;
use tokio::sync::Barrier;

use crate::lean::{self, Lean};
use crate::memory::{Memory, Peak};
use crate::proc::allow_files;
use crate::told::{chapter, line, load, time};
use crate::{parallel, scripted};

/// Size of a message's text besides its question, close to the largest message that the daemon
/// accepts.
const BALLAST_BYTES: usize = 200 << 10;
/// Concurrent requests of this program where the number does not matter.
const AT_ONCE: usize = 64;
/// File descriptors that this program and the daemon need besides the connections.
const FURTHER_FILES: usize = 3_000;
/// The question to the model, which answers only once it is released.
const QUESTION: &str = "[hold=all]";

/// Responses by kind: their count, and how long the slowest took.
type ResponseCounts = BTreeMap<String, (usize, Duration)>;

/// Measures with `connections` connections, each of which sends `messages` messages.
pub(crate) async fn measure(connections: usize, messages: usize) -> anyhow::Result<()> {
    allow_files((connections + FURTHER_FILES) as u64)?;
    let model = FakeModel::start().await;
    let mut setup = Setup {
        model: Some(model.base_url()),
        ..scripted(&["llm = [\"local\"]"])
    };
    setup.rest.push("idle_timeout = \"1h\"".to_owned());
    let daemon = Daemon::start(setup).await;
    let port = daemon.setup.port;
    chapter(&format!(
        "{connections} connections, each with {messages} messages of {} KiB to a session of its \
         own, while the model does not answer",
        BALLAST_BYTES >> 10
    ));
    load();
    parallel::for_each(connections, AT_ONCE, move |n| async move {
        let opened = Lean::new(port).open(&lean::session(n), "scripted").await;
        opened.expect("a session can be opened");
    })
    .await;
    line("RSS with its sessions", Memory::of(&daemon).told());
    let peak = Peak::watch(&daemon);
    let began = Instant::now();
    let message = large_message();
    let answers = flood(port, connections, messages, &message).await;
    line("all messages answered after", time(began.elapsed()));
    tell(&answers);
    line(
        "turns that wait for the model",
        model.count(QUESTION, CallState::Running).to_string(),
    );
    line("RSS (anonymous part) now", Memory::of(&daemon).told());
    line("at most", peak.stop().await.told());
    inbox(port, &message).await?;
    model.release("all");
    Ok(())
}

/// Returns a script that asks the model, padded with a large text.
fn large_message() -> Bytes {
    lean::script(&json!([
        {"act": "llm", "text": QUESTION},
        {"act": "say", "text": "x".repeat(BALLAST_BYTES)},
    ]))
}

/// Sends on all connections concurrently, one message after the other on each.
async fn flood(port: u16, connections: usize, messages: usize, message: &Bytes) -> ResponseCounts {
    let ready = Arc::new(Barrier::new(connections));
    let clients = (0..connections).map(|n| {
        let (ready, message) = (ready.clone(), message.clone());
        tokio::spawn(async move {
            let mut client = Lean::new(port);
            let path = format!("/v1/sessions/{}/messages", lean::session(n));
            ready.wait().await;
            let mut answers = Vec::new();
            for _ in 0..messages {
                let sent = Instant::now();
                let answer = client.ask(Method::POST, &path, message.clone()).await;
                answers.push((kind(answer), sent.elapsed()));
            }
            answers
        })
    });
    let mut all = ResponseCounts::new();
    for client in clients.collect::<Vec<_>>() {
        for (kind, took) in client.await.expect("a client does not panic") {
            let (count, slowest) = all.entry(kind).or_default();
            *count += 1;
            *slowest = took.max(*slowest);
        }
    }
    all
}

fn kind(answer: anyhow::Result<lean::LeanResponse>) -> String {
    match answer {
        Ok(answer) if answer.retry_after => format!("{} with Retry-After", answer.status),
        Ok(answer) => answer.status.to_string(),
        Err(error) => error.to_string(),
    }
}

fn tell(answers: &ResponseCounts) {
    for (kind, (count, slowest)) in answers {
        line(
            &format!("answered {kind}"),
            format!("{count}, the slowest after {}", time(*slowest)),
        );
    }
}

/// Sends messages to one session until it accepts no more.
async fn inbox(port: u16, message: &Bytes) -> anyhow::Result<()> {
    chapter("one session, sent to until it takes no more");
    let mut client = Lean::new(port);
    let path = format!("/v1/sessions/{}/messages", lean::session(0));
    for sent in 1..=1_000 {
        let answer = client.ask(Method::POST, &path, message.clone()).await?;
        if answer.status != 202 {
            line(
                &format!("the answer to message {sent} more"),
                kind(Ok(answer)),
            );
            return Ok(());
        }
    }
    Err(anyhow!(
        "a session took a thousand messages that no turn consumes"
    ))
}
