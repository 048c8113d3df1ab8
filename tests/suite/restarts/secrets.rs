//! Secrets in files that are missing at the moment.

use std::fs;

use abide_tests::{CallState, Daemon, FakeModel, How, Setup, Signal, signal, until};

/// Starts a daemon whose requests to the model carry the key in the file `key`.
async fn keyed(model: &FakeModel) -> Daemon {
    let setup = Setup {
        // The section of the model comes last.
        rest: vec!["api_key_file = \"key\"".to_owned()],
        ..Setup::default().assistant(model)
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("key"), "first").expect("the folder is ours");
    Daemon::start_in(folder, setup).await
}

/// Returns the key of the last of the calls about this text.
async fn key_of(model: &FakeModel, text: &str) -> Option<String> {
    let calls = model.wait_for(text, CallState::Answered, 1).await;
    calls.last().and_then(|call| call.key.clone())
}

async fn error(daemon: &Daemon, part: Option<&str>) {
    until("what is wrong to be told", async || {
        let status = daemon.status().await;
        let last = status["config"]["last_error"].as_str();
        match part {
            Some(part) => last?.contains(part).then_some(()),
            None => last.is_none().then_some(()),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_follows_a_crash_goes_on_with_the_secrets_of_the_one_before() {
    let model = FakeModel::start().await;
    let daemon = keyed(&model).await;
    let key = daemon.folder().join("key");
    let client = daemon.client();
    client.open("s", "assistant").await;
    client.chat("s", "one").await;
    assert_eq!(key_of(&model, "one").await.as_deref(), Some("Bearer first"));
    fs::remove_file(&key).expect("it is there");
    for (death, text) in [(Signal::KILL, "two"), (Signal::ABORT, "three")] {
        let old = daemon.generation().await;
        signal(daemon.worker_pid().await, death);
        daemon.after_generation(old).await;
        client.chat("s", text).await;
        assert_eq!(key_of(&model, text).await.as_deref(), Some("Bearer first"));
    }
    error(&daemon, Some("key cannot be read now")).await;
    // The secret that is written then takes effect.
    let generation = daemon.generation().await;
    fs::write(&key, "second").expect("the folder is ours");
    error(&daemon, None).await;
    until("the new secret", async || {
        client.chat("s", "four").await;
        (key_of(&model, "four").await.as_deref() == Some("Bearer second")).then_some(())
    })
    .await;
    assert_eq!(daemon.generation().await, generation, "without a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_lacks_its_secret_is_taken_once_it_comes() {
    let model = FakeModel::start().await;
    let mut daemon = keyed(&model).await;
    daemon.edit(How::Rename, |setup| {
        setup.rest = vec!["api_key_file = \"other\"".to_owned()];
    });
    error(&daemon, Some("llm.local.api_key_file")).await;
    fs::write(daemon.folder().join("other"), "second").expect("the folder is ours");
    error(&daemon, None).await;
    let client = daemon.client();
    client.open("s", "assistant").await;
    client.chat("s", "one").await;
    assert_eq!(
        key_of(&model, "one").await.as_deref(),
        Some("Bearer second")
    );
}
