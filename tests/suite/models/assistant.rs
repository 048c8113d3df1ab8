//! A daemon with one session of the assistant, for models that fail.

use abide_tests::{Client, Daemon, Posted, Setup};

/// Starts a daemon whose assistant uses the model at that URL, with these further lines of
/// `[llm.local]`. The session `s` is open.
pub(super) async fn assistant_daemon(base_url: String, lines: &str) -> Daemon {
    let setup = Setup {
        rest: vec![lines.to_owned()],
        ..Setup::default().assistant_at(base_url)
    };
    let daemon = Daemon::start(setup).await;
    daemon.client().open("s", "assistant").await;
    daemon
}

/// Sends a message to `s` and waits for the end of its turn, however it ends.
pub(super) async fn ask(client: &Client, text: &str) -> Posted {
    client.ask("s", text, None).await.expect("acknowledged")
}

/// Returns why the last turn of `s` that failed did so.
pub(super) async fn last_failure(client: &Client) -> String {
    let events = client.events("s", 0).await;
    let last = events.iter().rfind(|event| event.is_turn("failed"));
    let reason = last.and_then(|event| event.reason.clone());
    reason.unwrap_or_else(|| panic!("a turn failed: {events:?}"))
}
