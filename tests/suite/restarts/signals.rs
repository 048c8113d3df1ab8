//! Signals to the worker: a service manager or `pkill` sends them to all processes of a daemon.

use abide_tests::{CallState, Signal, signal};

use super::planned::{stops, with_last_words};

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_to_all_processes_is_one_to_the_daemon() {
    let (model, mut daemon, _) = with_last_words().await;
    let client = daemon.client();
    let worker = daemon.worker_pid().await;
    for (name, what) in [
        ("SIGTERM", Signal::TERM),
        ("SIGINT", Signal::INT),
        ("SIGHUP", Signal::HUP),
    ] {
        signal(worker, what);
        daemon
            .logged(&format!("{name} was sent to the worker"))
            .await;
    }
    client.open("other", "echo").await;
    client.chat("other", "still there?").await;
    assert_eq!(daemon.worker_pid().await, worker);
    assert_eq!(model.calls_about("last words").len(), 1);

    for pid in [worker, daemon.supervisor_pid()] {
        signal(pid, Signal::TERM);
    }
    stops(&daemon).await;
    model.release("w");
    let status = daemon.ended().await;
    assert_eq!(status.code(), Some(0), "{status}");
    let calls = model.calls_about("last words");
    assert_eq!((calls.len(), calls[0].state), (1, CallState::Answered));
}
