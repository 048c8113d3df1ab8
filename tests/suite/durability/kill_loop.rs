//! Many kills and many restarts, under load from real clients. `ABIDE_KILLS`, `ABIDE_SESSIONS` and
//! `ABIDE_RESTARTS` change the numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use abide_tests::{Account, Client, Daemon, How, Refused, Sent, Setup, Subscriber, Trouble, until};
use rand::Rng;
use tokio::task::JoinSet;

fn count(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(value) => value
            .parse()
            .unwrap_or_else(|error| panic!("{variable}={value}: {error}")),
        Err(_) => default,
    }
}

/// Counts the load and stops it.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    acknowledged: AtomicU64,
    /// The longest duration of a request, in milliseconds.
    longest_ms: AtomicU64,
}

impl Load {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn done(&self, started: Instant) {
        let ms = started.elapsed().as_millis() as u64;
        self.longest_ms.fetch_max(ms, Ordering::Relaxed);
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}

/// A client that sends one message after the other in a session, each until it is acknowledged: a
/// killed worker loses the requests that it has read, so a client must retry under the same key.
async fn talk_until_stopped(client: Client, id: String, load: Arc<Load>, retry: bool) -> Vec<Sent> {
    let mut sent = Vec::new();
    let mut n = 0;
    while !load.stopped() {
        n += 1;
        let text = format!("{id} says {n}");
        let started = Instant::now();
        let posted = loop {
            // Some messages wait for the answer, the others only for the acknowledgement.
            let result = match n % 2 {
                0 => client.ask(&id, &text, Some(&text)).await,
                _ => client.say(&id, &text, Some(&text)).await,
            };
            match result {
                Ok(posted) => break Some(posted),
                Err(Refused::Status(reply)) if reply.status == 429 => break None,
                Err(Refused::Trouble(Trouble::Reset | Trouble::Eof)) if retry => {}
                Err(other) => panic!("{text:?} was not acknowledged: {other:?}"),
            }
        };
        if let Some(posted) = posted {
            load.done(started);
            let message = posted.message;
            sent.push(Sent { message, text });
        }
    }
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_worker_a_hundred_times_loses_nothing() {
    const CLIENTS: u64 = 16;
    let kills = count("ABIDE_KILLS", 100);
    let daemon = Daemon::start(Setup::default()).await;
    let client = daemon.client();
    let load = Arc::<Load>::default();
    let mut talkers = JoinSet::new();
    let mut subscribers = Vec::new();
    for n in 0..CLIENTS {
        let id = format!("talker {n}");
        client.open(&id, "echo").await;
        subscribers.push(Subscriber::follow(&client, &id));
        let talk = talk_until_stopped(daemon.client(), id.clone(), load.clone(), true);
        talkers.spawn(async move { (id, talk.await) });
    }
    for _ in 0..kills {
        // Each worker acknowledges something before it is killed, and the moment is random.
        let before = load.acknowledged.load(Ordering::Relaxed);
        let worth = rand::rng().random_range(1..=4 * CLIENTS);
        until("the load to go on", async || {
            (load.acknowledged.load(Ordering::Relaxed) >= before + worth).then_some(())
        })
        .await;
        daemon.kill_worker().await;
    }
    load.stop.store(true, Ordering::Relaxed);
    let mut account = Account::default();
    let talks = talkers.join_all().await;
    for (id, sent) in &talks {
        account.take(&client, id, sent).await;
    }
    account.assert_clean();
    assert_eq!(account.sessions, CLIENTS);
    assert!(account.acknowledged >= kills, "{account:?}");
    assert!(account.answered_once >= account.acknowledged, "{account:?}");
    for ((id, _), n) in talks.iter().zip(0..) {
        // `join_all` returns them in the order in which they ended.
        let n = id
            .rsplit(' ')
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(n);
        let events = client.events(id, 0).await;
        let subscriber: &Subscriber = &subscribers[n];
        subscriber
            .wait_for("all events", |seen| seen.len() >= events.len())
            .await;
        assert_eq!(subscriber.events(), events, "{id}");
        subscriber.assert_clean();
    }
    assert_eq!(client.tally.refused.load(Ordering::Relaxed), 0);
    println!(
        "{kills} kills, {} messages acknowledged and answered exactly once, {} recovery \
         messages, longest wait {:?} ms",
        account.acknowledged, account.notices, load.longest_ms
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_sessions_and_twenty_restarts_refuse_nobody() {
    const WORKERS: u64 = 32;
    let sessions = count("ABIDE_SESSIONS", 1000);
    let restarts = count("ABIDE_RESTARTS", 20);
    let mut daemon = Daemon::start(Setup::default()).await;
    let first = daemon.generation().await;
    // One connection pool for all workers, so that some connections are idle when a restart comes.
    let client = daemon.client();
    let load = Arc::<Load>::default();
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let (client, load) = (client.clone(), load.clone());
        let ids: Vec<_> = (0..sessions)
            .filter(|n| n % WORKERS == worker)
            .map(|n| format!("s{n}"))
            .collect();
        workers.spawn(async move {
            let mut talks: Vec<(String, Vec<Sent>)> = Vec::new();
            for id in ids {
                client.open(&id, "echo").await;
                talks.push((id, Vec::new()));
            }
            let mut round = 0;
            while !load.stopped() {
                round += 1;
                for (id, sent) in &mut talks {
                    if load.stopped() {
                        break;
                    }
                    let text = format!("{id} says {round}");
                    let started = Instant::now();
                    let posted = match round % 2 {
                        0 => client.ask(id, &text, None).await,
                        _ => client.say(id, &text, None).await,
                    };
                    // No retry: nothing may fail.
                    let posted = posted
                        .unwrap_or_else(|refused| panic!("{text:?} was refused: {refused:?}"));
                    load.done(started);
                    let message = posted.message;
                    sent.push(Sent { message, text });
                }
            }
            talks
        });
    }
    // A client that opens a connection for each request; the others keep theirs.
    let fresh = {
        let (port, load) = (daemon.setup.port, load.clone());
        tokio::spawn(async move {
            let (mut answered, mut troubles) = (0, Vec::new());
            while !load.stopped() {
                match Client::new(port).get("/healthz").await {
                    Ok(_) => answered += 1,
                    Err(trouble) => troubles.push(trouble),
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            (answered, troubles)
        })
    };
    until("every session to exist", async || {
        (load.acknowledged.load(Ordering::Relaxed) >= sessions).then_some(())
    })
    .await;
    let mut generation = first;
    for n in 0..restarts {
        let how = if n % 2 == 0 {
            How::Rename
        } else {
            How::Truncate
        };
        daemon.edit(how, |setup| setup.spare += 1);
        generation = daemon.after_generation(generation).await;
        let before = load.acknowledged.load(Ordering::Relaxed);
        until("the load to go on", async || {
            (load.acknowledged.load(Ordering::Relaxed) > before + WORKERS).then_some(())
        })
        .await;
    }
    load.stop.store(true, Ordering::Relaxed);
    assert_eq!(generation, first + restarts);
    let (answered, troubles) = fresh.await.expect("the prober does not panic");
    assert!(answered > 0);
    assert_eq!(
        troubles,
        [],
        "of {answered} requests on connections of their own"
    );
    let talks = workers.join_all().await;
    assert_eq!(client.tally.troubles(), 0, "{}", client.tally);
    let mut account = Account::default();
    for (id, sent) in talks.iter().flatten() {
        account.take(&client, id, sent).await;
    }
    account.assert_clean();
    assert_eq!(account.sessions, sessions);
    assert_eq!(account.answered_once, account.acknowledged, "{account:?}");
    println!(
        "{sessions} sessions, {restarts} restarts: {}; {answered} requests on connections of \
         their own; {} messages answered exactly once; longest wait {:?} ms",
        client.tally, account.acknowledged, load.longest_ms
    );
}
