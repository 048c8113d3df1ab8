//! A data folder that is moved away under a running daemon: nothing is acknowledged while it is gone.

use std::fs;

use abide_tests::{Daemon, Refused, Setup, until};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_while_the_data_folder_is_gone() {
    let mut daemon = Daemon::start(Setup::default()).await;
    let client = daemon.client();
    client.open("s", "echo").await;
    client.chat("s", "before").await;

    let (there, away) = (daemon.folder().join("data"), daemon.folder().join("away"));
    fs::rename(&there, &away).expect("the folder is ours");
    for n in 0..3 {
        let Err(Refused::Status(refused)) = client.say("s", "into the void", None).await else {
            panic!("message {n} was acknowledged, or not answered");
        };
        let problem = refused.problem(507);
        assert!(problem.contains("was removed or replaced"), "{problem}");
    }
    let finding = until("the finding", async || {
        let status = daemon.status().await;
        let findings = status["watchdog"].as_array().cloned().unwrap_or_default();
        findings
            .into_iter()
            .find(|finding| finding["kind"] == "store_failing")
    })
    .await;
    let reason = finding["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("was removed or replaced"), "{finding}");

    fs::rename(&away, &there).expect("the folder is ours");
    until("an acknowledgement", async || {
        client.say("s", "after", Some("1")).await.ok()
    })
    .await;
    daemon.kill_worker().await;
    until("both turns", async || {
        let session = client.session("s").await;
        (session["turns"] == 2).then_some(())
    })
    .await;
    daemon.stop().await;
}
