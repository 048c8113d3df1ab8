//! How long a session's turns take while the guests of others compute without end.

use std::time::{Duration, Instant};

use abide_tests::{Client, Daemon, Plugin, Setup, until_within};
use anyhow::anyhow;

use crate::parallel;
use crate::told::{chapter, line, load, quantile};

/// Target: what may be added to the 99th percentile, in milliseconds.
const TARGET_MS: f64 = 20.0;
/// Pause between two turns, for a client that reads what it got.
const PAUSE: Duration = Duration::from_millis(2);
/// Concurrent requests of this program while it sets up.
const AT_ONCE: usize = 16;
/// Timeout of setting up.
const PATIENCE: Duration = Duration::from_secs(60);
const SESSION: &str = "subject";

/// Measures `seconds` without and as many with `guests` that compute.
pub(crate) async fn measure(guests: usize, seconds: u64) -> anyhow::Result<()> {
    let hostile = Plugin::new("hostile")
        .limit("turn_timeout = \"1h\"")
        .limit("compute = \"1h\"");
    let daemon = Daemon::start(Setup::default().plugin(hostile)).await;
    let client = daemon.client();
    client.open(SESSION, "echo").await;
    chapter(&format!(
        "one session's turns, and {guests} guests that compute without end"
    ));
    load();
    turns(&client, Duration::from_secs(1)).await;
    let alone = turns(&client, Duration::from_secs(seconds)).await;
    report("alone", &alone);

    begin(&client, guests).await;
    let beside = turns(&client, Duration::from_secs(seconds)).await;
    report(&format!("beside {guests}"), &beside);
    let more = quantile(&beside, 0.99) - quantile(&alone, 0.99);
    line("more at the 99th percentile", format!("{more:.1} ms"));
    if more > TARGET_MS {
        return Err(anyhow!("more than the {TARGET_MS} ms that are the target"));
    }
    Ok(())
}

/// Lets the guests begin, and waits until they all run.
async fn begin(client: &Client, guests: usize) {
    parallel::for_each(guests, AT_ONCE, |n| {
        let (client, session) = (client.clone(), format!("g{n}"));
        async move {
            client.open(&session, "hostile").await;
            let posted = client.say(&session, "loop", None).await;
            posted.expect("it is acknowledged");
        }
    })
    .await;
    for n in 0..guests {
        until_within(PATIENCE, "a guest to run", async || {
            let state = client.session(&format!("g{n}")).await["state"].clone();
            (state == "running").then_some(())
        })
        .await;
    }
}

/// Takes turns for this long. Returns how long each took, sorted.
async fn turns(client: &Client, time: Duration) -> Vec<Duration> {
    let until = Instant::now() + time;
    let mut took = Vec::new();
    while Instant::now() < until {
        let sent = Instant::now();
        client.chat(SESSION, "hello").await;
        took.push(sent.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    took.sort_unstable();
    took
}

fn report(what: &str, took: &[Duration]) {
    let at = |part| format!("{:.1}", quantile(took, part));
    line(
        &format!("{what}: turns; their time at 50, 99, 100 % (ms)"),
        format!("{}; {}, {}, {}", took.len(), at(0.5), at(0.99), at(1.0)),
    );
}
