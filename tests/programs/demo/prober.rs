//! Probes the daemon continuously to find the longest pause that a client experiences.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use abide_tests::{Account, Client, Daemon, Sent};
use tokio::task::JoinHandle;

use crate::PROBE_EVERY;

/// The observations of one kind of client.
#[derive(Default)]
struct Seen {
    asked: u64,
    longest: Duration,
    sent: Vec<Sent>,
    wrong: Vec<String>,
}

impl Seen {
    fn timed(&mut self, started: Instant) {
        self.asked += 1;
        self.longest = self.longest.max(started.elapsed());
    }
}

/// Two probing clients: one sends messages on a connection that it keeps, the other opens a
/// connection for each request.
pub(crate) struct Prober {
    session: String,
    stop: Arc<AtomicBool>,
    keeps: JoinHandle<Seen>,
    opens: JoinHandle<Seen>,
}

impl Prober {
    /// Starts probing.
    pub(crate) async fn start(daemon: &Daemon, session: &str) -> Self {
        let client = daemon.client();
        client.open(session, "echo").await;
        let stop = Arc::new(AtomicBool::new(false));
        let keeps = tokio::spawn(send(client, session.to_owned(), stop.clone()));
        let opens = tokio::spawn(connect(daemon.setup.port, stop.clone()));
        Self {
            session: session.to_owned(),
            stop,
            keeps,
            opens,
        }
    }

    /// Stops probing, checks the messages that were sent, and returns a summary.
    pub(crate) async fn stop(self, client: &Client, account: &mut Account) -> String {
        self.stop.store(true, Ordering::Relaxed);
        let keeps = self.keeps.await.expect("the prober does not panic");
        let opens = self.opens.await.expect("the prober does not panic");
        account.take(client, &self.session, &keeps.sent).await;
        let failed = keeps.wrong.len() + opens.wrong.len();
        account.wrong.extend(keeps.wrong);
        account.wrong.extend(opens.wrong);
        format!(
            "{} messages on a kept connection, longest wait {} ms; {} requests on new \
             connections, longest wait {} ms; {failed} refused, reset or cut off",
            keeps.asked,
            keeps.longest.as_millis(),
            opens.asked,
            opens.longest.as_millis()
        )
    }
}

async fn send(client: Client, session: String, stop: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        let text = format!("probe {}", seen.asked);
        let started = Instant::now();
        match client.say(&session, &text, None).await {
            Ok(posted) => {
                let message = posted.message;
                seen.sent.push(Sent { message, text });
            }
            Err(refused) => seen.wrong.push(format!("{text}: {refused:?}")),
        }
        seen.timed(started);
        // Slower than the other client: during a drain all messages are held, and an inbox has a
        // limit.
        tokio::time::sleep(20 * PROBE_EVERY).await;
    }
    seen
}

async fn connect(port: u16, stop: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        if let Err(trouble) = Client::new(port).get("/healthz").await {
            seen.wrong.push(format!("a new connection: {trouble:?}"));
        }
        seen.timed(started);
        tokio::time::sleep(PROBE_EVERY).await;
    }
    seen
}
