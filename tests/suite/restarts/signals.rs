//! Signals to the worker: a service manager or `pkill` sends them to all processes of a daemon.

use abide_tests::{CallState, Daemon, FakeModel, Setup, Signal, signal, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_to_all_processes_is_one_to_the_daemon() {
    let model = FakeModel::start().await;
    let setup = Setup::default().assistant(&model).grace("20s");
    let mut daemon = Daemon::start(setup).await;
    let client = daemon.client();
    client.open("s", "assistant").await;
    let posted = client.say("s", "last words [hold=w]", None).await;
    posted.expect("messages are accepted");
    model.wait_for("last words", CallState::Running, 1).await;

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
    until("readyz to say that it stops", async || {
        let reply = client.get("/readyz").await.ok()?;
        (reply.status == 503).then_some(())
    })
    .await;
    model.release("w");
    let status = daemon.ended().await;
    assert_eq!(status.code(), Some(0), "{status}");
    let calls = model.calls_about("last words");
    assert_eq!((calls.len(), calls[0].state), (1, CallState::Answered));
}
