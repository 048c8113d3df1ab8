//! The daemon that is upgraded and goes back, its open turns, and what they do.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use abide_tests::{
    CallState, Daemon, Event, FakeModel, How, Plugin, Setup, Signal, signal, tool_server, until,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::binaries::{Binaries, Which};
use crate::talkers::Talkers;

/// Sessions with an open turn, in each round.
const OPEN: u64 = 3;

pub(crate) struct UpgradeStage {
    binaries: Binaries,
    daemon: Daemon,
    /// What `FORMAT` says since the older binary has passed its probation: a version with a newer format
    /// must not raise it before it has passed its own.
    format: Option<String>,
    talkers: Talkers,
    model: FakeModel,
    /// Outside of the daemon's folder: the daemon cannot lose the record of what the tools did.
    effects: TempDir,
    /// The messages whose turns call a tool, by the token of the call.
    calls: BTreeMap<String, (String, String)>,
    wrong: Vec<String>,
}

impl UpgradeStage {
    /// Starts the older binary on a new folder.
    pub(crate) async fn start(binaries: Binaries) -> Self {
        let folder = tempfile::tempdir().expect("the machine has a folder for temporary files");
        let effects = tempfile::tempdir().expect("the machine has a folder for temporary files");
        let link = folder.path().join("abide");
        binaries.link(&link, Which::Old);
        let model = FakeModel::start().await;
        let setup = Setup {
            model: Some(model.base_url()),
            plugins: vec![
                Plugin::new("echo"),
                Plugin::new("scripted").with_model_and_tools(),
            ],
            grace: "300ms".to_owned(),
            daemon: vec![probation("200ms")],
            binary: Some(link),
            ..Setup::default()
        };
        let setup = setup.recording_tools(&tool_server(), &effects.path().join("effects"));
        let daemon = Daemon::start_in(folder, setup).await;
        let client = daemon.client();
        for n in 0..OPEN {
            client.open(&format!("open {n}"), "scripted").await;
        }
        Self {
            talkers: Talkers::start(&client).await,
            binaries,
            daemon,
            format: None,
            model,
            effects,
            calls: BTreeMap::new(),
            wrong: Vec::new(),
        }
    }

    fn link(&self) -> PathBuf {
        self.daemon.folder().join("abide")
    }

    /// Restarts into the older binary, and waits until it has passed its probation.
    pub(crate) async fn downgrade(&mut self) {
        let generation = self.restart(Which::Old, "200ms").await;
        let is_over = |record: &Value| record["status"] == "completed";
        self.daemon.restart_record_when(generation, is_over).await;
        if self.format.is_none() {
            self.format = self.read_format();
        }
        self.check(Which::Old).await;
    }

    /// Upgrades to the present binary, whose probation does not end. Returns its generation.
    pub(crate) async fn upgrade(&mut self) -> u64 {
        let generation = self.restart(Which::New, "10m").await;
        self.check(Which::New).await;
        generation
    }

    /// Replaces the binary, then changes the configuration, which restarts the daemon.
    async fn restart(&mut self, which: Which, length: &str) -> u64 {
        let old = self.daemon.generation().await;
        self.binaries.link(&self.link(), which);
        self.daemon.edit(How::Rename, |setup| {
            setup.daemon = vec![probation(length)];
            setup.spare += 1;
        });
        self.daemon.after_generation(old).await
    }

    /// Kills the worker, which says nothing about its binary: the next one runs the same.
    pub(crate) async fn kill_worker(&mut self, which: Which) {
        let old = self.daemon.generation().await;
        self.daemon.kill_worker().await;
        self.daemon.after_generation(old).await;
        self.check(which).await;
    }

    /// Lets the worker die by its own doing in its probation: the older binary comes back.
    pub(crate) async fn fail_probation(&mut self, tried: u64) {
        let old = self.daemon.generation().await;
        self.daemon.signal_worker(Signal::ABORT).await;
        self.daemon.after_generation(old).await;
        self.check(Which::Old).await;
        let record = self.daemon.restart_record(old).await;
        let status = record.map(|record| record["status"].clone());
        if status != Some(json!("rolled_back")) {
            let line = format!("generation {old} (upgraded in {tried}) is {status:?}");
            self.wrong.push(line);
        }
    }

    /// Kills all processes, and starts the older binary by hand.
    pub(crate) async fn kill_all(&mut self) {
        let worker = self.daemon.worker_pid().await;
        signal(self.daemon.supervisor_pid(), Signal::KILL);
        signal(worker, Signal::KILL);
        self.daemon.ended().await;
        self.binaries.link(&self.link(), Which::Old);
        self.daemon.start_again().await;
        self.check(Which::Old).await;
    }

    /// Notes it if another binary serves than is to, or if the folder's format has been raised.
    async fn check(&mut self, which: Which) {
        let pid = self.daemon.worker_pid().await;
        let runs = self.binaries.of(pid);
        if runs != Some(which) {
            self.wrong.push(format!("{runs:?} serves, not {which:?}"));
        }
        let format = self.read_format();
        if format.is_none() || format != self.format {
            self.wrong.push(format!("the format is {format:?}"));
        }
    }

    fn read_format(&self) -> Option<String> {
        fs::read_to_string(self.daemon.folder().join("data/FORMAT")).ok()
    }

    /// Opens turns that have done a call and wait for the model.
    pub(crate) async fn open_turns(&mut self, round: u64) {
        for n in 0..OPEN {
            let (session, token) = (format!("open {n}"), format!("call {round} {n}"));
            let acts = json!([
                {"act": "call", "tool": "record", "token": token},
                {"act": "llm", "text": format!("first {round} {n} [hold=first {round}]")},
                {"act": "call", "tool": "record", "token": format!("{token}, again")},
                {"act": "llm", "text": format!("second {round} {n} [hold=second {round}]")},
            ]);
            let script = json!({"id": token, "acts": acts}).to_string();
            let posted = until("a script to be acknowledged", async || {
                let client = self.daemon.client();
                client.say(&session, &script, Some(&token)).await.ok()
            });
            let message = posted.await.message;
            for token in [token.clone(), format!("{token}, again")] {
                let message = (session.clone(), message.clone());
                self.calls.insert(token, message);
            }
        }
        self.wait_for(&format!("first {round} ")).await;
    }

    /// Lets the open turns do their second call, in the present binary.
    pub(crate) async fn open_turns_go_on(&mut self, round: u64) {
        self.model.release(&format!("first {round}"));
        self.wait_for(&format!("second {round} ")).await;
    }

    /// Waits until the model is asked by all open turns.
    async fn wait_for(&self, about: &str) {
        let count = OPEN as usize;
        self.model.wait_for(about, CallState::Running, count).await;
    }

    /// Lets the open turns end.
    pub(crate) async fn end_turns(&mut self, round: u64) {
        self.model.release(&format!("second {round}"));
        for n in 0..OPEN {
            self.daemon.client().until_idle(&format!("open {n}")).await;
        }
    }

    /// Returns everything that is wrong.
    pub(crate) async fn audit(mut self) -> Vec<String> {
        let client = self.daemon.client();
        let account = self.talkers.audit(&client).await;
        println!(
            "{} messages acknowledged, {} answered once; {} calls of tools",
            account.acknowledged,
            account.answered_once,
            self.calls.len()
        );
        self.wrong.extend(account.wrong);
        let log = fs::read_to_string(self.effects.path().join("effects")).unwrap_or_default();
        for (token, (session, message)) in &self.calls {
            let lines = log.lines().filter_map(|line| line.split_once('\t'));
            let done = lines.filter(|(of, _)| of == token).count();
            let events = client.events(session, 0).await;
            let ends = events.iter().filter(|event| event.ends(message));
            let result = result(&events, token);
            let is_right = match result.as_deref() {
                Some("ok") => done == 1,
                // Whether it happened is unknown, and the guest was told so.
                Some("unknown") => done <= 1,
                _ => false,
            };
            if !is_right || ends.count() != 1 {
                let line = format!("{session}: {token}: {result:?}, done {done} times");
                self.wrong.push(line);
            }
        }
        self.wrong
    }
}

fn probation(length: &str) -> String {
    format!("probation = \"{length}\"")
}

/// Returns the result of a call as the guest reports it.
fn result(events: &[Event], token: &str) -> Option<String> {
    let mut reports = events.iter().filter_map(|event| event.data.as_ref());
    let report = reports.find(|data| data["kind"] == "call" && data["token"] == token)?;
    Some(report["result"].as_str()?.to_owned())
}
