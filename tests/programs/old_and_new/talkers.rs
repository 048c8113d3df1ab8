//! Clients that talk without a pause, and repeat each message under its key until it is acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use abide_tests::{Account, Client, PATIENCE, Refused, Sent};
use tokio::task::JoinSet;

const TALKERS: u64 = 6;
/// The pause between two messages: the run is about restarts, and each message stays in the store.
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) struct Talkers {
    stop: Arc<AtomicBool>,
    talking: JoinSet<(String, Vec<Sent>)>,
}

impl Talkers {
    pub(crate) async fn start(client: &Client) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let mut talking = JoinSet::new();
        for n in 0..TALKERS {
            let id = format!("talker {n}");
            client.open(&id, "echo").await;
            let (client, stop) = (client.clone(), stop.clone());
            talking.spawn(async move {
                let sent = talk(&client, &id, &stop).await;
                (id, sent)
            });
        }
        Self { stop, talking }
    }

    /// Stops talking, and checks what was acknowledged.
    pub(crate) async fn audit(self, client: &Client) -> Account {
        self.stop.store(true, Ordering::Relaxed);
        let mut account = Account::default();
        for (id, sent) in self.talking.join_all().await {
            account.take(client, &id, &sent).await;
        }
        account
    }
}

async fn talk(client: &Client, id: &str, stop: &AtomicBool) -> Vec<Sent> {
    let mut sent = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let text = format!("{id} says {}", sent.len());
        let started = Instant::now();
        let message = loop {
            match client.say(id, &text, Some(&text)).await {
                Ok(posted) => break posted.message,
                Err(Refused::Trouble(_)) => {}
                Err(Refused::Status(reply)) if matches!(reply.status, 429 | 503) => {}
                Err(other) => panic!("{text:?} was not acknowledged: {other:?}"),
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{text:?} was not acknowledged"
            );
            tokio::time::sleep(PAUSE).await;
        };
        sent.push(Sent { message, text });
        tokio::time::sleep(PAUSE).await;
    }
    sent
}
