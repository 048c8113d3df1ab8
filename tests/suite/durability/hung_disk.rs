//! A disk that completes no write: nothing is acknowledged and nothing is lost, requests are
//! answered, the watchdog tells, a stop does not wait, and service goes on once the disk answers.

use std::time::{Duration, Instant};

use abide_tests::{Client, Daemon, How, HungDisk, Posted, Refused, Setup, until};
use serde_json::{Value, json};

/// After so long without a completed write, the store has stalled.
const STALLED: Duration = Duration::from_secs(10);
/// By how much anything may be late: tests share the machine.
const LATE: Duration = Duration::from_secs(8);
/// What a request may take that needs no write: less than one that waits for the disk.
const PROMPT: Duration = Duration::from_secs(8);

async fn start(disk: &HungDisk) -> (Daemon, Client) {
    let setup = Setup {
        env: disk.env(),
        ..Setup::default()
    };
    let daemon = Daemon::start(setup.grace("1s")).await;
    let client = daemon.client();
    client.open("s", "echo").await;
    client.chat("s", "before").await;
    (daemon, client)
}

/// Sends a message that is refused because the disk hangs.
async fn refused(client: &Client, key: &str) {
    match client.say("s", "while it hangs", Some(key)).await {
        Err(Refused::Status(reply)) => {
            assert_eq!(reply.body["type"], "urn:abide:problem:store-stalled");
            let problem = reply.problem(503);
            assert!(problem.contains("same Idempotency-Key"), "{problem}");
        }
        other => panic!("it was acknowledged, or not answered: {other:?}"),
    }
}

/// Requests that need no write are answered soon. Returns the daemon's status.
async fn is_responsive(client: &Client) -> Value {
    let paths = [
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/sessions",
        "/v1/sessions/s",
    ];
    for path in paths {
        let began = Instant::now();
        let reply = client.get(path).await.expect("it is answered");
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        assert!(began.elapsed() < PROMPT, "{path}: {:?}", began.elapsed());
    }
    let began = Instant::now();
    let reply = client.get("/v1/daemon").await.expect("it is answered");
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
    reply.expect(200)
}

fn stalls(status: &Value) -> Option<Value> {
    let mut findings = status["watchdog"].as_array()?.iter();
    findings
        .find(|finding| finding["kind"] == "writer_stalled")
        .cloned()
}

async fn acknowledged(client: &Client, key: &str) -> Posted {
    until("an acknowledgement", async || {
        client.say("s", "while it hangs", Some(key)).await.ok()
    })
    .await
}

async fn turns(client: &Client, count: u64) {
    until("the turns", async || {
        (client.session("s").await["turns"] == count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_while_the_disk_hangs_and_nothing_is_lost() {
    let disk = HungDisk::new();
    let (mut daemon, client) = start(&disk).await;
    let worker = daemon.worker_pid().await;
    disk.hang();
    let hung = Instant::now();
    let waits = tokio::spawn({
        let client = client.clone();
        async move { refused(&client, "key").await }
    });
    let finding = until("the finding", async || {
        stalls(&is_responsive(&client).await)
    })
    .await;
    assert!(hung.elapsed() >= STALLED, "{:?}", hung.elapsed());
    let remedy = finding["remedy"].as_str().unwrap_or_default();
    assert!(remedy.contains("whether the disk answers"), "{finding}");
    waits.await.expect("the request is refused");
    assert!(hung.elapsed() < STALLED + LATE, "{:?}", hung.elapsed());
    // From now on at once.
    let began = Instant::now();
    refused(&client, "other").await;
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
    let backup = json!({ "folder": daemon.folder().join("backup") });
    let reply = client.post("/v1/backups", &backup).await;
    let reply = reply.expect("it is answered");
    assert_eq!(reply.body["type"], "urn:abide:problem:store-stalled");
    // Longer than the supervisor waits for a worker that hangs.
    while hung.elapsed() < Duration::from_secs(20) {
        is_responsive(&client).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    disk.answer();
    let again = acknowledged(&client, "key").await;
    turns(&client, 2).await;
    assert_eq!(daemon.worker_pid().await, worker);
    until("the finding to go", async || {
        stalls(&is_responsive(&client).await)
            .is_none()
            .then_some(())
    })
    .await;
    // What was refused at once was not carried out; what waited was, and counts once.
    daemon.kill_worker().await;
    let posted = acknowledged(&client, "key").await;
    assert!(posted.duplicate && posted.message == again.message);
    turns(&client, 2).await;
    assert!(!acknowledged(&client, "other").await.duplicate);
    turns(&client, 3).await;
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_a_disk_that_hangs() {
    let disk = HungDisk::new();
    let (mut daemon, client) = start(&disk).await;
    disk.hang();
    let waits = tokio::spawn({
        let client = client.clone();
        async move {
            client
                .say("s", "while it hangs", Some("key"))
                .await
                .is_err()
        }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = Instant::now();
    let status = daemon.stop().await;
    assert!(!status.success(), "not everything is written: {status}");
    // The grace period of 1 s, 5 s for the hand-over, and the time that one record may take.
    let limit = Duration::from_secs(6) + STALLED + LATE;
    assert!(asked.elapsed() < limit, "took {:?}", asked.elapsed());
    assert!(daemon.log().contains("does not answer"), "{}", daemon.log());
    assert!(waits.await.expect("it ends"), "it was acknowledged");
    disk.answer();
    daemon.start_again().await;
    let posted = acknowledged(&client, "key").await;
    turns(&client, 2).await;
    assert_eq!(acknowledged(&client, "key").await.message, posted.message);
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_waits_for_a_disk_that_hangs_and_nothing_waits_for_the_restart() {
    let disk = HungDisk::new();
    let (mut daemon, client) = start(&disk).await;
    let old = daemon.generation().await;
    disk.hang();
    daemon.edit(How::Rename, |setup| setup.spare += 1);
    let status = until("the restart to be refused", async || {
        let status = is_responsive(&client).await;
        let error = status["config"]["last_error"].as_str()?;
        error.contains("no write ends").then_some(status)
    })
    .await;
    assert_eq!(status["generation"], old);
    assert_eq!(status["state"], "serving");
    disk.answer();
    daemon.after_generation(old).await;
    client.chat("s", "after").await;
    assert!(daemon.stop().await.success());
}
