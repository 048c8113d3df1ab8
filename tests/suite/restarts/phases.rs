//! Edits and kills in every phase of a restart.

use std::fs;
use std::time::Duration;

use abide_tests::{
    Account, CallState, Client, Daemon, FakeModel, How, Plugin, Sent, Setup, Signal, children,
    descendants, gone, guest, signal, until,
};
use sha2::{Digest as _, Sha256};

/// Long enough for an unwanted report of a change to appear: the debounce is half a second.
const DEBOUNCE_OVER: Duration = Duration::from_millis(1200);

pub(crate) fn digest(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Waits until a daemon runs with the content of its file.
async fn runs_on_its_file(daemon: &Daemon) {
    let wanted = digest(&daemon.setup.toml());
    until("the file to be in effect", async || {
        let reply = daemon.client().get("/v1/daemon").await.ok()?.body;
        (reply["config"]["digest"] == wanted.as_str() && reply["drain"].is_null()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_edits_in_a_moment_the_last_counts() {
    let mut daemon = Daemon::start(Setup::default()).await;
    let old = daemon.generation().await;
    daemon.edit(How::Rename, |setup| setup.spare = 1);
    tokio::time::sleep(Duration::from_millis(50)).await;
    daemon.edit(How::Rename, |setup| setup.spare = 2);
    assert_eq!(daemon.after_generation(old).await, old + 1);
    runs_on_its_file(&daemon).await;
    tokio::time::sleep(DEBOUNCE_OVER).await;
    assert_eq!(daemon.generation().await, old + 1, "one restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_back_in_a_moment_restarts_nothing() {
    let mut daemon = Daemon::start(Setup::default()).await;
    let (old, worker) = (daemon.generation().await, daemon.worker_pid().await);
    daemon.edit(How::Rename, |setup| setup.spare = 1);
    tokio::time::sleep(Duration::from_millis(50)).await;
    daemon.edit(How::Rename, |setup| setup.spare = 0);
    tokio::time::sleep(DEBOUNCE_OVER).await;
    // Once the daemon reports this later edit, it has processed the earlier ones.
    daemon.edit(How::Rename, |setup| setup.comment = "later".to_owned());
    runs_on_its_file(&daemon).await;
    assert_eq!(daemon.generation().await, old);
    assert_eq!(daemon.worker_pid().await, worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_during_a_drain_is_applied_after_it() {
    let mut play = Play::open().await;
    play.drain().await;
    play.daemon.edit(How::Rename, |setup| setup.spare = 20);
    tokio::time::sleep(DEBOUNCE_OVER).await;
    play.daemon.edit(How::Rename, |setup| setup.spare = 21);
    tokio::time::sleep(DEBOUNCE_OVER).await;
    assert_eq!(play.daemon.generation().await, play.old, "still draining");
    play.model.release("w");
    runs_on_its_file(&play.daemon).await;
    let generation = play.daemon.after_generation(play.old + 1).await;
    assert_eq!(generation, play.old + 2, "the first restart, then the last");
    play.check().await;
}

/// A session with a turn in flight, and one without.
pub(crate) struct Play {
    pub(crate) daemon: Daemon,
    pub(crate) client: Client,
    pub(crate) model: FakeModel,
    pub(crate) old: u64,
    busy: Vec<Sent>,
    pub(crate) other: Vec<Sent>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Victim {
    Worker,
    Supervisor,
    Both,
}

const VICTIMS: [Victim; 3] = [Victim::Worker, Victim::Supervisor, Victim::Both];

impl Play {
    pub(crate) async fn open() -> Self {
        let model = FakeModel::start().await;
        let setup = Setup::default().assistant(&model).grace("30s");
        Self::on(setup, model).await
    }

    /// Starts a daemon with this setup, whose assistant uses this model.
    pub(crate) async fn on(setup: Setup, model: FakeModel) -> Self {
        let daemon = Daemon::start(setup).await;
        let client = daemon.client();
        client.open("busy", "assistant").await;
        client.open("other", "echo").await;
        let old = daemon.generation().await;
        let mut play = Self {
            daemon,
            client,
            model,
            old,
            busy: Vec::new(),
            other: Vec::new(),
        };
        play.say("other", "before").await;
        play.say("busy", "think [hold=w]").await;
        play.model.wait_for("think", CallState::Running, 1).await;
        play
    }

    async fn say(&mut self, id: &str, text: &str) {
        let posted = self.client.say(id, text, None).await;
        let posted = posted.expect("messages are acknowledged");
        let sent = Sent {
            message: posted.message,
            text: text.to_owned(),
        };
        match id {
            "busy" => self.busy.push(sent),
            _ => self.other.push(sent),
        }
    }

    /// Makes an edit for which the standby has to compile a component, and waits until a standby is
    /// being prepared.
    async fn prepare(&mut self) {
        let path = self.daemon.folder().join("fresh.wasm");
        let mut component = fs::read(guest("assistant")).expect("it is built");
        // A custom section, which makes it another component of the same meaning: its kind, its
        // length, its name's length and its name.
        component.extend([0, 6, 5]);
        component.extend(b"fresh");
        fs::write(&path, component).expect("the folder is ours");
        self.daemon.edit(How::Rename, |setup| {
            setup.plugins.push(Plugin {
                name: "fresh".to_owned(),
                path,
                ..Plugin::new("echo")
            });
        });
        until("a standby to be prepared", async || {
            let status = self.daemon.status().await;
            (status["restart"]["generation"].as_u64() > Some(self.old)).then_some(())
        })
        .await;
    }

    /// Makes an edit, and waits until the drain waits for the turn in flight.
    pub(crate) async fn drain(&mut self) {
        self.daemon.edit(How::Rename, |setup| setup.spare = 10);
        until("the drain", async || {
            (!self.daemon.status().await["drain"].is_null()).then_some(())
        })
        .await;
        self.say("other", "held").await;
    }

    /// Drains, and stops the new worker before it can take over from the old one, which has ended.
    async fn hand_over(&mut self) {
        self.drain().await;
        let [old, standby] = children(self.daemon.supervisor_pid())[..] else {
            panic!("a drain has two workers");
        };
        signal(standby, Signal::STOP);
        self.model.release("w");
        until("the old worker's end", async || gone(old).then_some(())).await;
    }

    /// Restarts, and returns while the new worker is on probation.
    async fn probation(&mut self) {
        self.drain().await;
        self.model.release("w");
        let generation = self.daemon.after_generation(self.old).await;
        let record = self.daemon.restart_record(generation).await;
        assert_eq!(record.expect("it is there")["status"], "probation");
    }

    /// Kills processes with SIGKILL, and starts the daemon again if its supervisor was among them.
    async fn kill(&mut self, victim: Victim) {
        let supervisor = self.daemon.supervisor_pid();
        let all = descendants(supervisor);
        let worker = children(supervisor).first().copied();
        if victim != Victim::Worker {
            signal(supervisor, Signal::KILL);
        }
        if victim != Victim::Supervisor {
            signal(worker.expect("a worker lives"), Signal::KILL);
        }
        if victim != Victim::Worker {
            self.daemon.ended().await;
            for pid in all {
                // A stopped worker can learn of its supervisor's death only from the kernel.
                until("the workers' end", async || gone(pid).then_some(())).await;
            }
            self.daemon.start_again().await;
        }
        self.client = self.daemon.client();
    }

    /// Checks that the file is in effect, and that each message was answered once.
    pub(crate) async fn check(&mut self) {
        self.model.release("w");
        runs_on_its_file(&self.daemon).await;
        self.say("other", "after").await;
        self.say("busy", "and after").await;
        let mut account = Account::default();
        account.take(&self.client, "busy", &self.busy).await;
        account.take(&self.client, "other", &self.other).await;
        account.assert_clean();
        let status = self.daemon.status().await;
        assert!(status["config"]["last_error"].is_null(), "{status}");
    }
}

/// Reaches a phase, and kills the worker, the supervisor or both in it.
async fn whoever_dies(reach: impl AsyncFn(&mut Play)) {
    for victim in VICTIMS {
        println!("{victim:?}");
        let mut play = Play::open().await;
        reach(&mut play).await;
        play.kill(victim).await;
        play.check().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_while_a_standby_is_prepared_nothing_is_lost() {
    whoever_dies(Play::prepare).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_in_a_drain_nothing_is_lost() {
    whoever_dies(Play::drain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_in_a_hand_over_nothing_is_lost() {
    whoever_dies(Play::hand_over).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_on_probation_nothing_is_lost() {
    whoever_dies(Play::probation).await;
}
