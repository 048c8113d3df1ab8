//! A worker that cannot open its store after a crash, or not load what sessions run with: clients get the
//! reason instead of no answer, and once that is repaired, they are served again without anybody's help.

use std::fs::{self, File};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use abide_tests::damage::file_named;
use abide_tests::{Client, Daemon, Event, HungDisk, Setup, Signal, signal, until};
use reqwest::Method;
use serde_json::{Value, json};

/// A daemon whose session has had some turns, and the session's events.
async fn served(setup: Setup) -> (Daemon, Vec<Event>) {
    let daemon = Daemon::start(setup).await;
    let client = daemon.client();
    client.open("one", "echo").await;
    for n in 0..5 {
        client.chat("one", &format!("a{n}")).await;
    }
    let events = client.events("one", 0).await;
    (daemon, events)
}

/// Waits until the daemon refuses clients because of its store. Returns the finding.
async fn refusal(daemon: &Daemon) -> Value {
    let finding = any_refusal(daemon).await;
    assert_eq!(finding["kind"], "store_refused", "{finding}");
    finding
}

/// Waits until the daemon refuses clients. Returns the finding.
async fn any_refusal(daemon: &Daemon) -> Value {
    let status = until("a refusal", async || {
        let reply = daemon.client().get("/v1/daemon").await.ok()?;
        (reply.body["state"] == "refused").then_some(reply.body)
    })
    .await;
    status["watchdog"][0].clone()
}

/// Checks that requests are answered with a reason that contains `part`.
async fn requests_are_refused(client: &Client, part: &str) {
    requests_get(client, "store-refused", part).await;
}

/// Checks that requests are answered with this problem, and a reason that contains `part`.
async fn requests_get(client: &Client, problem_type: &str, part: &str) {
    let message = client
        .request(Method::POST, "/v1/sessions/one/messages")
        .json(&json!({"text": "no"}));
    for request in [
        message,
        client.request(Method::GET, "/v1/sessions/one"),
        client.request(Method::GET, "/readyz"),
    ] {
        let reply = client.send(request).await.expect("it is answered");
        assert_eq!(
            reply.body["type"],
            format!("urn:abide:problem:{problem_type}")
        );
        let problem = reply.problem(503);
        assert!(problem.contains(part), "{part}: {problem}");
    }
    // OpenAI's clients read their own form.
    let models = client.get("/v1/models").await.expect("it is answered");
    assert_eq!(
        (models.status, &*models.content_type),
        (503, "application/json")
    );
    assert_eq!(models.body["error"]["code"], problem_type);
    let response = client.request(Method::GET, "/v1/sessions").send().await;
    let response = response.expect("it is answered");
    let pause = response.headers().get("retry-after");
    let seconds = pause.and_then(|pause| pause.to_str().ok()?.parse::<u64>().ok());
    assert!(matches!(seconds, Some(1..=30)), "{pause:?}");
    let alive = client.get("/healthz").await.expect("it is answered");
    assert_eq!(alive.status, 200);
}

/// Waits until the session is served, and checks that it is as before and goes on.
async fn is_served_again(daemon: &Daemon, client: &Client, events: &[Event]) {
    until("the session", async || {
        let reply = client.get("/v1/sessions/one").await.ok()?;
        (reply.status == 200).then_some(())
    })
    .await;
    let after = client.events("one", 0).await;
    assert!(after.starts_with(events), "{after:?}");
    let answer = client.chat("one", "and on").await;
    assert_eq!(answer.said().last(), Some(&"#6 user: and on"));
    assert_eq!(daemon.status().await["watchdog"], json!([]));
}

/// Locks the data folder, between two tries of the worker.
async fn locked(daemon: &Daemon) -> File {
    let path = daemon.folder().join("data/LOCK");
    let file = File::options().write(true).open(path);
    let file = file.expect("the folder is ours");
    let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file));
    locked
        .await
        .expect("it ends")
        .expect("no try holds it long")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_store_is_refused_after_a_crash_and_served_again_once_it_is_repaired() {
    for (folder, name) in [
        ("data", "FORMAT"),
        ("data/db", "CURRENT"),
        ("data/db", "MANIFEST"),
    ] {
        let (mut daemon, events) = served(Setup::default()).await;
        let client = daemon.client();
        let file = file_named(&daemon.folder().join(folder), name);
        let whole = fs::read(&file).expect("the file is ours");
        let mut damaged = whole.clone();
        damaged[0] ^= 1;
        fs::write(&file, &damaged).expect("the file is ours");
        daemon.kill_worker().await;

        let finding = refusal(&daemon).await;
        for remedy in ["abide store salvage NEW", "abide restore"] {
            let text = finding["remedy"].as_str().unwrap_or_default();
            assert!(text.contains(remedy), "{finding}");
        }
        requests_are_refused(&client, "abide store salvage NEW").await;
        // A worker that is killed is followed by one that refuses as well.
        daemon.kill_worker().await;
        refusal(&daemon).await;
        assert_eq!(fs::read(&file).expect("the file is ours"), damaged);

        fs::write(&file, &whole).expect("the file is ours");
        is_served_again(&daemon, &client, &events).await;
        let status = daemon.status().await;
        assert_eq!(status["restart"]["cause"], "crash", "{status}");
        let trigger = status["restart"]["trigger"].as_str().unwrap_or_default();
        assert!(trigger.contains("daemon.data_dir"), "{name}: {trigger}");
        assert_eq!(client.tally.refused.load(Ordering::Relaxed), 0);
        assert!(daemon.stop().await.success());
        daemon.start_again().await;
        assert_eq!(daemon.client().session("one").await["turns"], 6);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_store_is_made_in_the_place_of_one_that_is_gone() {
    let (mut daemon, events) = served(Setup::default()).await;
    let client = daemon.client();
    let (there, away) = (daemon.folder().join("data"), daemon.folder().join("away"));
    fs::rename(&there, &away).expect("the folder is ours");
    daemon.kill_worker().await;
    let finding = refusal(&daemon).await;
    let reason = finding["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("where there was one"), "{finding}");
    requests_are_refused(&client, "where there was one").await;
    assert!(
        !there.exists(),
        "a folder would hide that the store is gone"
    );
    // As something leaves it that makes what it misses.
    fs::write(&there, "").expect("the folder is ours");
    until("another reason", async || {
        let finding = refusal(&daemon).await;
        finding["reason"]
            .as_str()?
            .contains("is not a folder")
            .then_some(())
    })
    .await;
    requests_are_refused(&client, "is not a folder").await;
    fs::remove_file(&there).expect("the file is ours");
    fs::rename(&away, &there).expect("the folder is ours");
    is_served_again(&daemon, &client, &events).await;
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_that_do_not_load_after_a_crash_are_tried_until_they_do() {
    for name in ["components", "cache"] {
        let (mut daemon, events) = served(Setup::default()).await;
        let client = daemon.client();
        let (there, away) = (
            daemon.folder().join("data").join(name),
            daemon.folder().join("away"),
        );
        fs::rename(&there, &away).expect("the folder is ours");
        fs::write(&there, "").expect("the folder is ours");
        daemon.kill_worker().await;

        let finding = any_refusal(&daemon).await;
        assert_eq!(finding["kind"], "not_prepared", "{finding}");
        let subject = finding["subject"].as_str().unwrap_or_default();
        assert!(subject.ends_with("abide.toml"), "{finding}");
        requests_get(&client, "not-prepared", name).await;
        // A worker that is killed is followed by one that refuses as well.
        daemon.kill_worker().await;
        any_refusal(&daemon).await;

        fs::remove_file(&there).expect("the file is ours");
        fs::rename(&away, &there).expect("the folder is ours");
        is_served_again(&daemon, &client, &events).await;
        let status = daemon.status().await;
        let trigger = status["restart"]["trigger"].as_str().unwrap_or_default();
        assert!(trigger.contains(&format!("data/{name}")), "{status}");
        assert!(daemon.stop().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_try_shows_what_is_in_the_way_then() {
    let (mut daemon, events) = served(Setup::default()).await;
    let client = daemon.client();
    let file = file_named(&daemon.folder().join("data/db"), "CURRENT");
    let hidden = file.with_extension("hidden");
    fs::rename(&file, &hidden).expect("the file is ours");
    daemon.kill_worker().await;
    refusal(&daemon).await;
    // As a tool has it that looks at the store.
    let lock = locked(&daemon).await;
    fs::rename(&hidden, &file).expect("the file is ours");
    until("another reason", async || {
        let finding = refusal(&daemon).await;
        let reason = finding["reason"].as_str()?;
        reason.contains("is in use by").then_some(())
    })
    .await;
    requests_are_refused(&client, "is in use by").await;
    lock.unlock().expect("it is locked");
    is_served_again(&daemon, &client, &events).await;
    assert!(daemon.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_makes_a_daemon_that_refuses_try_at_once() {
    let (mut daemon, _) = served(Setup::default()).await;
    let file = file_named(&daemon.folder().join("data/db"), "CURRENT");
    fs::remove_file(&file).expect("the file is ours");
    daemon.kill_worker().await;
    refusal(&daemon).await;
    let client = daemon.client();
    let pause = async || {
        let sessions = client.request(Method::GET, "/v1/sessions");
        let response = sessions.send().await.ok()?;
        let pause = response.headers().get("retry-after")?;
        pause.to_str().ok()?.parse::<u64>().ok()
    };
    until("a longer pause", async || {
        (pause().await? >= 4).then_some(())
    })
    .await;
    // By itself it gets only longer.
    signal(daemon.supervisor_pid(), Signal::HUP);
    until("a try", async || (pause().await? == 2).then_some(())).await;
    assert!(daemon.stop().await.success());
}

/// Waits until the worker has begun to open the store after now, which it does not end.
async fn a_try_has_begun(daemon: &Daemon) {
    // After any try before.
    let lock = locked(daemon).await;
    lock.unlock().expect("it is locked");
    until("a try", async || match lock.try_lock() {
        Ok(()) => {
            lock.unlock().expect("it is locked");
            None
        }
        Err(_) => Some(()),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_refuses_stops_at_once_even_while_it_tries_a_disk_that_hangs() {
    const SOON: Duration = Duration::from_secs(5);
    let disk = HungDisk::new();
    for hangs in [false, true] {
        let setup = Setup {
            env: disk.env(),
            ..Setup::default()
        };
        let (mut daemon, _) = served(setup).await;
        let file = file_named(&daemon.folder().join("data/db"), "CURRENT");
        fs::remove_file(&file).expect("the file is ours");
        daemon.kill_worker().await;
        refusal(&daemon).await;
        if hangs {
            disk.hang();
            a_try_has_begun(&daemon).await;
            requests_are_refused(&daemon.client(), "data").await;
        }
        let asked = Instant::now();
        assert!(daemon.stop().await.success(), "hangs: {hangs}");
        assert!(asked.elapsed() < SOON, "{hangs}: {:?}", asked.elapsed());
        if hangs {
            disk.answer();
        }
    }
}
