//! Access tokens: made, used, listed, revoked, and nowhere to be found.

use std::path::Path;
use std::{fs, str};

use abide_tests::{Daemon, Event, Setup, Subscriber, until};
use reqwest::Method;
use serde_json::{Value, json};

use super::{CONFIGURED, Guarded};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_made_used_and_revoked_by_the_command_line() {
    let stage = Guarded::start(|setup| setup).await;
    let args = [
        "token",
        "create",
        "ci",
        "--role",
        "client",
        "--session",
        "ci/*",
    ];
    let made = stage.abide(CONFIGURED, &args);
    assert!(made.status.success(), "{made:?}");
    let secret = str::from_utf8(&made.stdout).expect("text").trim();
    assert!(secret.starts_with("abide_"), "{made:?}");

    let sent = stage.abide(secret, &["send", "ci/1", "hello", "--plugin", "echo"]);
    assert!(sent.status.success(), "{sent:?}");
    // It need not know of the daemon to talk.
    let talked = stage.abide(secret, &["chat", "ci/1"]);
    assert!(talked.status.success(), "{talked:?}");
    for (args, reason) in [
        (
            &["send", "other", "hello", "--plugin", "echo"][..],
            "`ci/*`",
        ),
        (&["token", "list"], "`admin`"),
        (&["restart"], "`operator`"),
    ] {
        let refused = stage.abide(secret, args);
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success(), "{args:?}");
        assert!(
            text.contains(reason) && text.contains("`ci`"),
            "{args:?}: {text}"
        );
    }

    let listed = stage.abide(CONFIGURED, &["token", "list"]);
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(text.contains("ci/*") && text.contains("client"), "{text}");
    let revoked = stage.abide(CONFIGURED, &["token", "revoke", "ci"]);
    assert!(revoked.status.success(), "{revoked:?}");
    let refused = stage.abide(secret, &["send", "ci/1", "hello"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && text.contains("revoked"),
        "{text}"
    );
    let audit = stage.abide(CONFIGURED, &["audit"]);
    let text = String::from_utf8_lossy(&audit.stdout).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[1].contains("revoke_token") && lines[1].contains("ci"),
        "{text}"
    );
    assert!(lines[2].contains("create_token"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_outlive_restarts_crashes_and_stops() {
    let mut stage = Guarded::start(|setup| setup).await;
    let ada = stage.holder("ada", "client", false, &["*"]).await;
    ada.open("s", "echo").await;
    stage.daemon.restart_by_edit().await;
    ada.chat("s", "after a restart").await;
    stage.daemon.kill_worker().await;
    ada.chat("s", "after a crash").await;
    stage.daemon.stop().await;
    stage.daemon.start_again().await;
    ada.chat("s", "after a stop").await;
    let gone = stage.admin.request(Method::DELETE, "/v1/tokens/ada");
    stage.admin.send(gone).await.expect("an answer").expect(200);
    let old = stage.daemon.generation().await;
    stage.daemon.kill_worker().await;
    stage.daemon.after_generation(old).await;
    until("the revoked token to be refused", async || {
        let reply = ada.get("/v1/sessions/s").await.ok()?;
        (reply.status == 401).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_refused_with_the_time() {
    let stage = Guarded::start(|setup| setup).await;
    stage.admin.open("s", "echo").await;
    let made = stage.abide(
        CONFIGURED,
        &[
            "token",
            "create",
            "brief",
            "--role",
            "viewer",
            "--expires-in",
            "2s",
        ],
    );
    assert!(made.status.success(), "{made:?}");
    let secret = str::from_utf8(&made.stdout).expect("text").trim();
    let brief = stage.admin.with_token(secret);
    let text = until("the token to expire", async || {
        let reply = brief.get("/v1/sessions/s").await.ok()?;
        (reply.status != 200).then(|| reply.problem(401))
    })
    .await;
    assert!(text.contains("`brief` expired at"), "{text}");
}

/// Whether so many turns have completed.
fn completed(events: &[Event], turns: usize) -> bool {
    let ends = events
        .iter()
        .filter(|event| event.status.as_deref() == Some("completed"));
    ends.count() == turns
}

#[tokio::test(flavor = "multi_thread")]
async fn the_streams_of_a_revoked_token_end() {
    let stage = Guarded::start(|setup| setup).await;
    stage.admin.open("s", "echo").await;
    let ada = stage.holder("ada", "viewer", false, &["*"]).await;
    let bob = stage.holder("bob", "viewer", false, &["*"]).await;
    let (hers, his) = (Subscriber::follow(&ada, "s"), Subscriber::follow(&bob, "s"));
    stage.admin.chat("s", "one").await;
    for follower in [&hers, &his] {
        follower
            .wait_for("the turn's end", |events| completed(events, 1))
            .await;
    }
    let gone = stage.admin.request(Method::DELETE, "/v1/tokens/ada");
    stage.admin.send(gone).await.expect("an answer").expect(200);
    let before = hers.events().len();
    stage.admin.chat("s", "two").await;
    his.wait_for("the next turn's end", |events| completed(events, 2))
        .await;
    until("her stream to be refused", async || {
        hers.troubles()
            .iter()
            .any(|trouble| trouble.contains("401"))
            .then_some(())
    })
    .await;
    assert_eq!(
        hers.events().len(),
        before,
        "nothing came behind its revocation"
    );
    assert_eq!(his.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_tokens_are_refused_with_reasons() {
    let stage = Guarded::start(|setup| setup).await;
    let good = json!({"name": "a", "role": "client"});
    stage.secret(good.clone()).await;
    let with = |changes: Value| {
        let mut body = json!({"name": "b", "role": "client"});
        for (key, value) in changes.as_object().expect("changes") {
            body[key] = value.clone();
        }
        body
    };
    for (body, status, reason) in [
        (good, 409, "`a`"),
        (with(json!({"name": "config"})), 422, "`config`"),
        (with(json!({"name": "a b"})), 422, "characters"),
        (with(json!({"role": "king"})), 422, "king"),
        (with(json!({"sessions": []})), 422, "pattern"),
        (with(json!({"sessions": ["\u{7}"]})), 422, "control"),
        (
            with(json!({"expires_at": "2001-01-01T00:00:00Z"})),
            422,
            "2001",
        ),
        (with(json!({"expires": 1})), 422, "`expires`"),
    ] {
        let reply = stage.admin.post("/v1/tokens", &body).await;
        let text = reply.expect("an answer").problem(status);
        assert!(text.contains(reason), "{body}: {text}");
    }
    let gone = stage.admin.request(Method::DELETE, "/v1/tokens/b");
    let text = stage
        .admin
        .send(gone)
        .await
        .expect("an answer")
        .problem(404);
    assert!(text.contains("abide token list"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_token_is_configured_none_is_made() {
    let daemon = Daemon::start(Setup::default()).await;
    let client = daemon.client();
    let body = json!({"name": "a", "role": "viewer"});
    let refused = client.post("/v1/tokens", &body).await.expect("an answer");
    let text = refused.problem(409);
    assert!(text.contains("token_env"), "{text}");
    // Clients of other services send tokens of their own.
    client.with_token("sk-other").open("s", "echo").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_probation_a_token_is_refused_with_the_time_to_wait_for() {
    let setup = Setup {
        token: Some(CONFIGURED.to_owned()),
        daemon: vec!["probation = \"1h\"".to_owned()],
        ..Setup::default()
    };
    let daemon = Daemon::start(setup).await;
    let body = json!({"name": "a", "role": "viewer"});
    let refused = daemon.client().post("/v1/tokens", &body).await;
    let text = refused.expect("an answer").problem(503);
    assert!(text.contains("probation"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_has_its_limits_and_no_other_client_feels_them() {
    let stage = Guarded::start(|setup| setup).await;
    stage.admin.open("s", "echo").await;
    let with =
        |name: &str, limits: Value| json!({"name": name, "role": "viewer", "limits": limits});
    let few = stage
        .secret(with("few", json!({"requests_per_minute": 2})))
        .await;
    let few = stage.admin.with_token(&few);
    for _ in 0..2 {
        few.get("/v1/sessions/s")
            .await
            .expect("an answer")
            .expect(200);
    }
    let refused = few.get("/v1/sessions/s").await.expect("an answer");
    let text = refused.problem(429);
    assert!(text.contains("2 requests a minute"), "{text}");

    let one = stage
        .secret(with("one", json!({"requests_at_once": 1})))
        .await;
    let one = stage.admin.with_token(&one);
    let stream = Subscriber::follow(&one, "s");
    stage.admin.chat("s", "one").await;
    stream
        .wait_for("its end", |events| completed(events, 1))
        .await;
    let refused = one.get("/v1/sessions/s").await.expect("an answer");
    let text = refused.problem(429);
    assert!(text.contains("1 requests at once"), "{text}");
    drop(stream);
    until("the stream's place to be free", async || {
        let reply = one.get("/v1/sessions/s").await.ok()?;
        (reply.status == 200).then_some(())
    })
    .await;
    stage
        .admin
        .get("/v1/sessions/s")
        .await
        .expect("an answer")
        .expect(200);
}

/// Reads all files below the folder.
fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).expect("the folder is ours") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => files(&path, found),
            false => {
                let bytes = fs::read(&path).expect("the file is ours");
                found.push((path.display().to_string(), bytes));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_in_no_file_log_event_or_answer() {
    let mut stage = Guarded::start(|mut setup| {
        setup.daemon.push("log_level = \"debug\"".to_owned());
        setup
    })
    .await;
    let request = json!({"name": "ada", "role": "operator", "approve": true});
    let secret = stage.secret(request).await;
    let ada = stage.admin.with_token(&secret);
    ada.open("s", "echo").await;
    ada.chat("s", "hello").await;
    ada.post("/v1/daemon/restart", &json!({"x": 1}))
        .await
        .expect("an answer")
        .problem(422);
    ada.get("/v1/tokens").await.expect("an answer").problem(403);
    for path in [
        "/v1/tokens",
        "/v1/audit",
        "/v1/daemon",
        "/v1/sessions/s",
        "/v1/sessions/s/turn",
        "/metrics",
    ] {
        let body = stage
            .admin
            .get(path)
            .await
            .expect("an answer")
            .expect(200)
            .to_string();
        for hidden in [&*secret, CONFIGURED] {
            assert!(!body.contains(hidden), "{path}: {body}");
        }
    }
    stage.daemon.kill_worker().await;
    ada.chat("s", "hello").await;
    stage.daemon.stop().await;
    let mut found = Vec::new();
    files(stage.daemon.folder(), &mut found);
    assert!(found.iter().any(|(name, _)| name.ends_with("FORMAT")));
    for (name, bytes) in found {
        for hidden in [&*secret, CONFIGURED] {
            let is_there = bytes
                .windows(hidden.len())
                .any(|part| part == hidden.as_bytes());
            assert!(!is_there, "{name}");
        }
    }
}
