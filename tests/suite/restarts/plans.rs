//! The verdict of `abide config plan` about a file agrees with what the daemon then does.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use abide_tests::{
    Client, Daemon, FakeModel, How, Plugin, Setup, Signal, abide_binary, signal, until,
};
use serde_json::{Value, json};

use crate::restarts::phases::{Play, digest};

/// Runs `abide config plan` on a file with this text, next to the daemon's own.
fn plan(daemon: &Daemon, text: &str) -> (Value, Output) {
    let file = daemon.folder().join("candidate.toml");
    fs::write(&file, text).expect("the folder is ours");
    let url = format!("http://127.0.0.1:{}", daemon.setup.port);
    let output = run(&file, &["--json"], &[("ABIDE_URL", &url)]);
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (report, output)
}

fn run(file: &Path, more: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(abide_binary());
    command.arg("--config").arg(file).args(["config", "plan"]);
    command.args(more).envs(env.iter().copied());
    command.output().expect("the binary runs")
}

/// Saves this text, and returns what the daemon does about it.
async fn save(daemon: &Daemon, text: &str) -> &'static str {
    let before = daemon.status().await;
    let log_before = daemon.log().len();
    let wanted = digest(text);
    daemon.write_config(text, How::Rename);
    let (verdict, generation) = until("what becomes of the change", async || {
        let now = daemon.status().await;
        let (config, config_before) = (&now["config"], &before["config"]);
        let generation = now["generation"].as_u64()?;
        let log = daemon.log();
        let logged = |what| log[log_before..].contains(what);
        let verdict = if now["generation"] != before["generation"] {
            "restart"
        } else if logged("nothing is restarted") {
            "refused"
        } else if config["digest"] == wanted.as_str() {
            match config["loaded_at"] == config_before["loaded_at"] {
                true => "nothing",
                false => "hot",
            }
        } else if logged("so it waits for `abide restart`") {
            "ignored"
        } else {
            return None;
        };
        Some((verdict, generation))
    })
    .await;
    if verdict == "restart" {
        daemon.after_generation(generation - 1).await;
    }
    verdict
}

type SetupChange = (&'static str, fn(&mut Setup) -> Option<&'static str>);

/// Changes of all kinds; a returned text is appended to the file.
const CHANGES: [SetupChange; 11] = [
    ("a comment", |setup| {
        setup.comment.push('!');
        None
    }),
    ("a hot key", |setup| {
        setup.grace = "6s".to_owned();
        None
    }),
    ("data_dir", |setup| {
        setup.data_dir = "elsewhere".to_owned();
        None
    }),
    ("a plugin more", |setup| {
        setup.plugins.push(Plugin {
            name: "more".to_owned(),
            ..Plugin::new("echo")
        });
        None
    }),
    ("a limit and a hot key", |setup| {
        setup.grace = "7s".to_owned();
        setup.spare += 1;
        None
    }),
    ("a plugin with sessions removed", |setup| {
        setup.plugins.retain(|plugin| plugin.name != "echo");
        None
    }),
    ("a syntax error", |_| Some("[")),
    ("an unknown key", |_| Some("[daemons]\nx = 1\n")),
    ("a plugin's file that is missing", |_| {
        Some("[plugins.gone]\npath = \"gone.wasm\"\n")
    }),
    ("a plugin without sessions removed", |setup| {
        setup.plugins.retain(|plugin| plugin.name != "more");
        None
    }),
    ("a restart key", |setup| {
        setup.spare += 1;
        None
    }),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_planned_is_what_is_done_for_each_change_under_each_rule() {
    for rule in ["auto", "restart", "ignore"] {
        let setup = Setup {
            on_change: rule.to_owned(),
            ..Setup::default()
        };
        let mut daemon = Daemon::start(setup).await;
        daemon.client().open("s", "echo").await;
        let mut seen = Vec::new();
        for (name, change) in CHANGES {
            let mut setup = daemon.setup.clone();
            let more = change(&mut setup);
            let text = setup.toml() + more.unwrap_or_default();
            let (report, output) = plan(&daemon, &text);
            let verdict = report["verdict"].as_str().unwrap_or_default().to_owned();
            assert_eq!(
                save(&daemon, &text).await,
                verdict,
                "{rule}: {name}: {report}"
            );
            let refused = verdict == "refused";
            assert_eq!(output.status.success(), !refused, "{output:?}");
            if refused {
                // Refused for the same reasons.
                let status = daemon.status().await;
                let error = status["config"]["last_error"].as_str().unwrap_or_default();
                let problems = report["problems"].as_array().expect("a list");
                assert!(!problems.is_empty());
                for problem in problems {
                    let text = problem["text"].as_str().expect("a text");
                    assert!(error.contains(text), "{text:?} in {error:?}");
                }
            } else if verdict != "ignored" {
                daemon.setup = setup;
            }
            seen.push(verdict);
        }
        let expected: [&str; 11] = match rule {
            "auto" => [
                "nothing", "hot", "refused", "restart", "restart", "refused", "refused", "refused",
                "refused", "restart", "restart",
            ],
            "restart" => [
                "nothing", "restart", "refused", "restart", "restart", "refused", "refused",
                "refused", "refused", "restart", "restart",
            ],
            // The plugin that an earlier change would have added is missing, so none is removed.
            _ => [
                "nothing", "ignored", "refused", "ignored", "ignored", "refused", "refused",
                "refused", "refused", "nothing", "ignored",
            ],
        };
        assert_eq!(seen, expected, "{rule}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_was_rolled_back_is_planned_as_refused() {
    let mut setup = Setup::default();
    setup.daemon.push("probation = \"100ms\"".to_owned());
    let daemon = Daemon::start(setup).await;
    let completed = |record: &Value| record["status"] == "completed";
    daemon.restart_record_when(1, completed).await;
    let mut bad = daemon.setup.clone();
    bad.daemon = vec!["probation = \"10m\"".to_owned()];
    bad.spare += 1;
    let bad = bad.toml();
    assert_eq!(plan(&daemon, &bad).0["verdict"], "restart");
    assert_eq!(save(&daemon, &bad).await, "restart");
    let tried = daemon.generation().await;
    signal(daemon.worker_pid().await, Signal::ABORT);
    daemon.after_generation(tried).await;
    until("the rollback to be reported", async || {
        let status = daemon.status().await;
        let error = status["config"]["last_error"].as_str()?;
        error.contains("rolled back").then_some(())
    })
    .await;
    let (report, _) = plan(&daemon, &bad);
    assert_eq!(report["verdict"], "refused");
    let text = report["problems"][0]["text"].as_str().unwrap_or_default();
    assert!(
        text.contains("rolled back") && text.contains("SIGABRT"),
        "{report}"
    );
    // A file that differs only in a comment is another file, which is planned and tried.
    let other = bad.clone() + "# corrected\n";
    assert_eq!(plan(&daemon, &other).0["verdict"], "restart");
    // Changed to something else and back again.
    let good = daemon.setup.toml() + "# as it was\n";
    assert_eq!(save(&daemon, &good).await, "nothing");
    assert_eq!(plan(&daemon, &bad).0["verdict"], "refused");
    assert_eq!(save(&daemon, &bad).await, "refused");
    assert_eq!(save(&daemon, &other).await, "restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn during_a_restart_the_plan_is_to_wait_for_its_end() {
    let mut play = Play::open().await;
    play.drain().await;
    let mut setup = play.daemon.setup.clone();
    setup.spare = 30;
    let (report, output) = plan(&play.daemon, &setup.toml());
    assert_eq!(report["verdict"], "deferred", "{report}");
    assert!(output.status.success());
    play.daemon.edit(How::Rename, |setup| setup.spare = 30);
    play.model.release("w");
    let generation = play.daemon.after_generation(play.old + 1).await;
    assert_eq!(generation, play.old + 2);
    play.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_daemon_that_stops_the_plan_is_that_it_stops() {
    let model = FakeModel::start().await;
    let daemon = Daemon::start(Setup::default().assistant(&model).grace("30s")).await;
    let client = daemon.client();
    client.open("busy", "assistant").await;
    client
        .say("busy", "[hold=w] w", None)
        .await
        .expect("it is acknowledged");
    until("the turn to run", async || running(&client).await).await;
    client
        .post("/v1/daemon/drain", &json!({}))
        .await
        .expect("the drain is accepted");
    let mut setup = daemon.setup.clone();
    setup.spare += 1;
    let (report, _) = plan(&daemon, &setup.toml());
    assert_eq!(report["verdict"], "stopping", "{report}");
    model.release("w");
}

async fn running(client: &Client) -> Option<()> {
    let reply = client.get("/v1/daemon").await.ok()?.body;
    (reply["sessions"]["running"] == 1).then_some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_daemon_runs_the_plan_is_what_a_start_would_make_of_the_file() {
    let folder = tempfile::tempdir().expect("the machine has a folder for temporary files");
    let file = folder.path().join("abide.toml");
    let setup = Setup::default();
    fs::write(&file, setup.toml()).expect("the folder is ours");
    let output = run(&file, &[], &[]);
    assert!(output.status.success(), "{output:?}");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("no daemon answers"), "{error}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("is valid"));

    // The file is at fault, and not an unreachable daemon.
    fs::write(&file, setup.toml() + "[daemons]\nx = 1\n").expect("the folder is ours");
    let output = run(&file, &[], &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        error.contains("daemons") && error.contains("abide.toml:"),
        "{error}"
    );
}
