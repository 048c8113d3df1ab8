//! The moment in which one worker takes over from another: every request is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use abide_tests::{Daemon, Setup};

/// The number of restarts during which each path is requested.
const RESTARTS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_asked_for_during_a_restart_is_answered() {
    let mut daemon = Daemon::start(Setup::default()).await;
    daemon.client().open("s", "echo").await;
    daemon.client().chat("s", "hi").await;
    let over = Arc::new(AtomicBool::new(false));
    let paths = [
        "/v1/daemon",
        "/v1/daemon/plan",
        "/v1/daemon/restarts",
        "/v1/daemon/restarts/1",
        "/v1/sessions",
        "/v1/sessions/s",
        "/v1/sessions/s/turn",
        "/v1/approvals",
        "/v1/models",
        "/readyz",
        "/metrics",
    ];
    let askers = paths.map(|path| {
        let (client, over) = (daemon.client(), over.clone());
        tokio::spawn(async move {
            let mut asked = 0;
            while !over.load(Ordering::Relaxed) {
                let reply = client.get(path).await;
                let status = reply.map(|reply| reply.status);
                assert_eq!(status.ok(), Some(200), "{path}, after {asked} answers");
                asked += 1;
            }
            (path, asked)
        })
    });
    for _ in 0..RESTARTS {
        daemon.restart_by_edit().await;
    }
    over.store(true, Ordering::Relaxed);
    for asker in askers {
        let (path, asked) = asker.await.expect("each is answered");
        assert!(asked > RESTARTS, "{path} was asked for {asked} times");
    }
    // Who waits for longer than a hand-over does is disconnected, and the log has that.
    assert!(!daemon.log().contains("cut amid their responses"));
}
