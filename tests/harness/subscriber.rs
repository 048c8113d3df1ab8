//! A subscriber: follows a session's stream, and reconnects at its cursor whenever the stream ends.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use eventsource_stream::Eventsource;
use futures::StreamExt;
use reqwest::{Method, header};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::client::session_path;
use crate::{Client, Event, until};

/// The delay before a stream that ended is opened again.
const RECONNECT_DELAY: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Seen {
    events: Vec<Event>,
    deltas: Vec<Value>,
    restarts: u64,
    connections: u64,
    broken: u64,
    cuts: u64,
    wrong: Vec<String>,
}

/// The last event that a subscriber has seen, or where it begins.
#[derive(Clone)]
struct LastSeen {
    /// The event's id in the stream.
    id: String,
    cursor: u64,
}

/// A task that follows one session. It stops when the value is dropped.
pub struct Subscriber {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Subscriber {
    /// Follows a session from its beginning.
    pub fn follow(client: &Client, id: &str) -> Self {
        Self::follow_from(client, id, 0)
    }

    /// Follows a session from after a cursor.
    pub fn follow_from(client: &Client, id: &str, after: u64) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let last = LastSeen {
            id: after.to_string(),
            cursor: after,
        };
        let task = tokio::spawn(follow(client.clone(), id.to_owned(), last, seen.clone()));
        Self { seen, task }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    /// Returns the durable events so far.
    pub fn events(&self) -> Vec<Event> {
        self.seen().events.clone()
    }

    /// Returns the text of the deltas of one turn's last attempt so far.
    pub fn streamed(&self, turn: u64) -> String {
        let seen = self.seen();
        let of_turn = seen.deltas.iter().filter(|delta| delta["turn"] == turn);
        let last = of_turn
            .clone()
            .filter_map(|delta| delta["attempt"].as_u64());
        let last = last.max();
        of_turn
            .filter(|delta| delta["attempt"].as_u64() == last)
            .filter_map(|delta| delta["text"].as_str())
            .collect()
    }

    /// Returns how many streams were opened.
    pub fn connections(&self) -> u64 {
        self.seen().connections
    }

    /// Returns how many streams ended with a `restart` event.
    pub fn restarts(&self) -> u64 {
        self.seen().restarts
    }

    /// Returns how many streams could not be opened, or ended without a `restart` event.
    pub fn broken(&self) -> u64 {
        self.seen().broken
    }

    /// Returns how often the daemon said that it has lost what this had seen. Those events are no
    /// longer among the events so far.
    pub fn cuts(&self) -> u64 {
        self.seen().cuts
    }

    /// Returns the violations in the streams so far.
    pub fn troubles(&self) -> Vec<String> {
        self.seen().wrong.clone()
    }

    /// Returns the highest attempt of a turn in the deltas; 0 if there is none.
    pub fn attempts(&self, turn: u64) -> u64 {
        let seen = self.seen();
        let of_turn = seen.deltas.iter().filter(|delta| delta["turn"] == turn);
        let attempts = of_turn.filter_map(|delta| delta["attempt"].as_u64());
        attempts.max().unwrap_or_default()
    }

    /// Waits until the events so far satisfy a condition.
    pub async fn wait_for(&self, what: &str, condition: impl Fn(&[Event]) -> bool) -> Vec<Event> {
        until(what, async || {
            let seen = self.seen();
            condition(&seen.events).then(|| seen.events.clone())
        })
        .await
    }

    /// Waits for the end of the turn over that message.
    pub async fn wait_for_end_of(&self, message: &str) -> Vec<Event> {
        self.wait_for(&format!("the end of {message}'s turn"), |events| {
            events.iter().any(|event| event.ends(message))
        })
        .await
    }

    /// Asserts that no event was missing, duplicated or unreadable.
    ///
    /// # Panics
    /// If one was.
    pub fn assert_clean(&self) {
        let seen = self.seen();
        assert!(seen.wrong.is_empty(), "{}", seen.wrong.join("\n"));
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().expect("nobody panics while holding it")
}

async fn follow(client: Client, id: String, mut last: LastSeen, seen: Arc<Mutex<Seen>>) {
    loop {
        let path = session_path(&id, "/events");
        let request = client
            .request(Method::GET, &path)
            .header(header::ACCEPT, "text/event-stream")
            .header("Last-Event-ID", last.id.clone())
            // A stream may last for any time.
            .timeout(Duration::from_secs(24 * 3600));
        let restarts = lock(&seen).restarts;
        let response = request.send().await;
        if response.is_err() {
            lock(&seen).broken += 1;
        }
        if let Ok(response) = response {
            if response.status() == 200 {
                lock(&seen).connections += 1;
                let mut stream = response.bytes_stream().eventsource();
                // An error is an end: what matters is how the next stream begins.
                while let Some(Ok(event)) = stream.next().await {
                    lock(&seen).take(&event, &mut last);
                }
                let mut seen = lock(&seen);
                // No `restart` event came, so the stream broke off.
                seen.broken += u64::from(seen.restarts == restarts);
            } else if response.status() != 503 {
                // 503: the daemon is about to stop, or does not serve yet.
                let status = response.status();
                let problem: Value = response.json().await.unwrap_or_default();
                // Without a new timeline it was lost in silence, which is wrong.
                let ahead = problem["type"] == "urn:abide:problem:cursor-ahead";
                if let Some(timeline) = problem["timeline"].as_str().filter(|_| ahead) {
                    lock(&seen).cut(&problem["last"], timeline, &mut last);
                    continue;
                }
                let wrong = format!("the stream of {id} was answered with {status}");
                lock(&seen).wrong.push(wrong);
                return;
            }
        }
        tokio::time::sleep(RECONNECT_DELAY).await;
    }
}

impl Seen {
    /// Forgets what the daemon has lost.
    fn cut(&mut self, cursor: &Value, timeline: &str, last: &mut LastSeen) {
        let cursor = cursor.as_u64().unwrap_or_default();
        *last = LastSeen {
            id: format!("{timeline}.{cursor}"),
            cursor,
        };
        self.events.retain(|event| event.cursor <= cursor);
        self.cuts += 1;
    }

    fn take(&mut self, event: &eventsource_stream::Event, last: &mut LastSeen) {
        match event.event.as_str() {
            "restart" => self.restarts += 1,
            "delta" => match serde_json::from_str(&event.data) {
                Ok(delta) => self.deltas.push(delta),
                Err(error) => self.wrong.push(format!("{error} in {event:?}")),
            },
            kind => match serde_json::from_str::<Event>(&event.data) {
                Ok(read) => {
                    let expected = last.cursor + 1;
                    if read.cursor != expected || event.id != read.id() {
                        self.wrong
                            .push(format!("{expected} was expected, not {event:?}"));
                    }
                    if read.kind != kind {
                        self.wrong.push(format!("kind and line differ: {event:?}"));
                    }
                    *last = LastSeen {
                        id: read.id(),
                        cursor: read.cursor,
                    };
                    self.events.push(read);
                }
                Err(error) => self.wrong.push(format!("{error} in {event:?}")),
            },
        }
    }
}
