//! A daemon in a folder of its own, which may die at any moment and is started again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use abide_tests::checker::program::{Arm, Who};
use abide_tests::{
    Client, Daemon, FakeModel, PATIENCE, Plugin, Setup, Signal, abide_binary, arguments, children,
    is_about, signal,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::power::{Cut, Power};

/// The plugin of all sessions.
pub(crate) const PLUGIN: &str = "scripted";
/// The interval at which the daemon is polled.
pub(crate) const GLANCE: Duration = Duration::from_millis(10);
/// How long a worker may outlive its supervisor.
const AFTERLIFE: Duration = Duration::from_secs(10);
/// How long after a kill an exit of the daemon is expected.
const MOURNING: Duration = Duration::from_secs(10);
/// How often the daemon may exit unexpectedly before it is not started again.
const SURPRISES: usize = 3;
/// The time after which an edit is repeated if the daemon does not serve it: after its standby was
/// killed, the daemon refuses the digest until the bytes change.
const EDIT_AGAIN: Duration = Duration::from_secs(8);

/// The parts of which a stage is built.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChaosParts {
    /// The tool server; `None` for programs without tools.
    pub(crate) tools: Option<PathBuf>,
    /// The deliberate bug that is enabled.
    pub(crate) bug: Option<String>,
}

/// How a stage is to be.
pub(crate) struct StageSettings {
    /// `shutdown_grace_period`, in milliseconds.
    pub(crate) grace_ms: u64,
    /// `probation`, in milliseconds: the first one is over before the run begins. `None`: its default, which
    /// nobody waits for.
    pub(crate) probation_ms: Option<u64>,
    /// Whether its power will be cut.
    pub(crate) cuts: bool,
}

/// A daemon in a folder of its own that a chaos run disturbs, and the facts about it.
pub(crate) struct ChaosStage {
    pub(crate) daemon: Daemon,
    pub(crate) client: Client,
    pub(crate) folder: PathBuf,
    /// How often each disturbance was applied, by name.
    pub(crate) done: BTreeMap<&'static str, u64>,
    /// Problems that were noticed during the run.
    pub(crate) troubles: Vec<String>,
    /// The periods in which the daemon was disturbed.
    pub(crate) disturbed: Vec<(u64, u64)>,
    /// When a file of the data folder was damaged. From then on the daemon may restart by itself, to mend
    /// its store.
    pub(crate) damaged_since: Option<u64>,
    /// How often the power was cut.
    pub(crate) power_cuts: usize,
    /// What `abide store salvage` has printed.
    pub(crate) salvaged: String,
    /// Since when restarts have been requested that may not have ended.
    restarting_since: Option<u64>,
    power: Power,
    armed: Option<Armed>,
    /// The number of lines of the file `fired` that have been read.
    fired: usize,
    mourned_until: Option<Instant>,
    cut_power: bool,
    surprises: usize,
    // Stops when the stage is dropped.
    _model: FakeModel,
}

struct Armed {
    arm: Arm,
    power: bool,
    since_ms: u64,
}

pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |since| since.as_millis() as u64)
}

impl ChaosStage {
    /// Starts a daemon. Its folder stays until [`ChaosStage::clean`].
    pub(crate) async fn new(name: &str, settings: StageSettings, means: &ChaosParts) -> Self {
        let StageSettings {
            grace_ms,
            probation_ms,
            cuts,
        } = settings;
        let folder = tempfile::Builder::new()
            .prefix(&format!("abide-{name}-"))
            .disable_cleanup(true)
            .tempdir()
            .expect("the machine has a folder for temporary files");
        let path = folder.path().to_path_buf();
        let inside = |name: &str| path.join(name);
        for folder in ["data", "faults"] {
            fs::create_dir(inside(folder)).expect("the folder is ours");
        }
        fs::write(inside("effects"), "").expect("the folder is ours");
        let model = FakeModel::start().await;
        let power = Power::new(&inside("data"), cuts, name);
        let mut scripted = Plugin::new(PLUGIN);
        scripted.capabilities = vec!["llm = [\"local\"]".to_owned()];
        let mut setup = Setup {
            model: Some(model.base_url()),
            grace: format!("{grace_ms}ms"),
            ..Setup::default()
        };
        let mut variable = |name: &str, value: String| setup.env.push((name.to_owned(), value));
        variable("ABIDE_FAULTS", inside("faults").display().to_string());
        if let Some(bug) = &means.bug {
            variable("ABIDE_BUG", bug.clone());
        }
        if let Some(tools) = &means.tools {
            scripted = scripted.with_model_and_tools();
            setup = setup.recording_tools(tools, &inside("effects"));
        }
        setup.env.extend(power.env());
        let mut setup = setup.plugin(scripted);
        let probation = probation_ms.map(|ms| format!("probation = \"{ms}ms\""));
        setup.daemon.extend(probation);
        // So that roll-outs end within a run, but not of a component that fails in two of three turns.
        setup.daemon.push("canary_turns = 12".to_owned());
        let daemon = Daemon::start_in(folder, setup).await;
        let mut stage = Self {
            client: daemon.client(),
            daemon,
            folder: path,
            done: BTreeMap::new(),
            troubles: Vec::new(),
            disturbed: Vec::new(),
            damaged_since: None,
            power_cuts: 0,
            salvaged: String::new(),
            restarting_since: None,
            power,
            armed: None,
            fired: 0,
            mourned_until: None,
            cut_power: false,
            surprises: 0,
            _model: model,
        };
        if probation_ms.is_some() {
            stage.past_probation().await;
        }
        stage
    }

    /// Waits until what this version keeps can be kept in the data folder.
    async fn past_probation(&mut self) {
        let started = Instant::now();
        loop {
            let status = self.get("/v1/daemon").await;
            if status.as_ref().is_some_and(|status| status["format"] == 2) {
                return;
            }
            if started.elapsed() > PATIENCE {
                return self.trouble(format!("the first probation does not end: {status:?}"));
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }

    pub(crate) fn trouble(&mut self, text: String) {
        self.troubles.push(text);
    }

    /// Removes the folder of a run without violations.
    pub(crate) fn clean(self) {
        let folder = self.folder.clone();
        drop(self);
        // Anything that cannot be removed is in the system's temporary directory.
        let _ = fs::remove_dir_all(folder);
    }

    fn faults(&self, name: &str) -> PathBuf {
        self.folder.join("faults").join(name)
    }

    /// Arms a failpoint.
    pub(crate) fn arm(&mut self, arm: Arm, power: bool) {
        self.disarm();
        let aside = self.faults("arm.new");
        // Renamed into place, so that no process reads a half-written line.
        fs::write(&aside, arm.line()).expect("the folder is ours");
        fs::rename(&aside, self.faults("arm")).expect("the folder is ours");
        self.count("faults armed");
        self.armed = Some(Armed {
            arm,
            power,
            since_ms: now_ms(),
        });
    }

    /// Disarms the failpoint, if it has not fired.
    pub(crate) fn disarm(&mut self) {
        // Removed before `fired` is read, so that no late firing is missed. A missing file is fine:
        // the failpoint has fired, or will not.
        let _ = fs::remove_file(self.faults("arm"));
        self.read_fired();
        self.armed = None;
    }

    /// Returns how many failpoints have fired, and the last of them.
    pub(crate) fn fired(&self) -> (usize, Option<String>) {
        let text = fs::read_to_string(self.faults("fired")).unwrap_or_default();
        (text.lines().count(), text.lines().last().map(str::to_owned))
    }

    fn read_fired(&mut self) {
        let (count, _) = self.fired();
        if count <= self.fired {
            return;
        }
        self.fired = count;
        self.count("kills: fault point");
        let now = now_ms();
        let Some(Armed {
            arm,
            power,
            since_ms,
        }) = self.armed.take()
        else {
            self.disturbed.push((now.saturating_sub(5000), now));
            return;
        };
        self.disturbed.push((since_ms, now));
        self.power.torn();
        if arm.who != Who::Worker {
            self.mourn();
            self.cut_power |= power && arm.who == Who::Both;
        }
    }

    fn mourn(&mut self) {
        self.mourned_until = Some(Instant::now() + MOURNING);
    }

    pub(crate) fn kill_worker(&mut self) {
        if let Some(worker) = children(self.daemon.supervisor_pid()).first() {
            self.power.kill(*worker);
            self.count("kills: worker");
            self.instant();
        }
    }

    pub(crate) fn kill_supervisor(&mut self) {
        if self.daemon.exited().is_none() {
            self.power.kill(self.daemon.supervisor_pid());
            self.power.torn();
            self.count("kills: supervisor");
            self.instant();
            self.mourn();
        }
    }

    /// Kills supervisor and workers, or cuts the power.
    pub(crate) fn kill_both(&mut self, power: bool) {
        if power {
            self.cut();
        } else {
            let workers = children(self.daemon.supervisor_pid());
            for pid in [self.daemon.supervisor_pid()].into_iter().chain(workers) {
                self.power.kill(pid);
            }
            self.power.torn();
        }
        self.count(match power {
            true => "kills: power cut",
            false => "kills: both",
        });
        self.instant();
        self.mourn();
    }

    /// Cuts the power.
    fn cut(&mut self) {
        match self.power.cut() {
            Cut::Done(losses) => {
                self.power_cuts += 1;
                *self.done.entry("lost unsynced bytes").or_default() += losses.bytes;
                *self.done.entry("lost unsynced names").or_default() += losses.entries;
            }
            Cut::Void => self.count("power cuts void"),
            Cut::Failed(text) => self.trouble(format!("the power cannot be cut: {text}")),
        }
        let new = self.power.env();
        let env = &mut self.daemon.setup.env;
        env.retain(|(name, _)| !new.iter().any(|(other, _)| other == name));
        env.extend(new);
    }

    /// Sends SIGTERM to the daemon, and waits for its exit; [`ChaosStage::look`] starts it again.
    pub(crate) async fn stop(&mut self) {
        self.restarts();
        signal(self.daemon.supervisor_pid(), Signal::TERM);
        self.mourn();
        let started = Instant::now();
        while self.daemon.exited().is_none() {
            if started.elapsed() > PATIENCE {
                self.trouble(format!("asked to stop, it has not after {PATIENCE:?}"));
                return self.kill_both(false);
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    fn instant(&mut self) {
        let now = now_ms();
        self.disturbed.push((now, now));
    }

    /// Records that a restart was requested.
    pub(crate) fn restarts(&mut self) {
        self.restarting_since.get_or_insert(now_ms());
    }

    /// Polls the daemon once: starts it again if it has exited.
    pub(crate) async fn look(&mut self) {
        self.read_fired();
        let Some(status) = self.daemon.exited() else {
            return;
        };
        // A failpoint may have fired since the first read.
        self.read_fired();
        let expected = self
            .mourned_until
            .is_some_and(|until| Instant::now() < until);
        if !expected {
            self.surprises += 1;
            let log = self.daemon.log();
            let tail: Vec<_> = log.lines().rev().take(5).collect();
            self.trouble(format!("it ended by itself with {status}: {tail:#?}"));
            assert!(
                self.surprises <= SURPRISES,
                "it ends by itself again and again; kept: {}; {:#?}",
                self.folder.display(),
                self.troubles
            );
        }
        // All workers must be gone before the cut and the next start: the store has one owner.
        self.bury().await;
        if std::mem::take(&mut self.cut_power) {
            self.cut();
        }
        self.count("boots");
        self.daemon.spawn_again();
    }

    /// Waits for the exit of workers whose supervisor is dead.
    pub(crate) async fn bury(&mut self) {
        let started = Instant::now();
        loop {
            let left = processes_of(&self.folder);
            if left.is_empty() {
                return;
            }
            if started.elapsed() > AFTERLIFE {
                self.trouble(format!("workers outlive their supervisor: {left:?}"));
                for pid in left {
                    signal(pid, Signal::KILL);
                }
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Keeps the daemon running for that time.
    pub(crate) async fn tend(&mut self, for_ms: u64) {
        let until = Instant::now() + Duration::from_millis(for_ms);
        loop {
            self.look().await;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(GLANCE)).await;
        }
    }

    /// Returns the body of `GET path`, if its status is 200.
    pub(crate) async fn get(&self, path: &str) -> Option<Value> {
        let reply = self.client.get(path).await.ok()?;
        (reply.status == 200).then_some(reply.body)
    }

    /// Returns the digest of the configuration file's bytes.
    pub(crate) fn file_digest(&self) -> String {
        let bytes = fs::read(self.folder.join("abide.toml")).unwrap_or_default();
        let digest = Sha256::digest(&bytes);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Waits until the daemon serves the configuration in its file, and no restart is under way. Returns
    /// its status.
    pub(crate) async fn at_rest(&mut self) -> Option<Value> {
        let started = Instant::now();
        let mut edited = started;
        let mut last = None;
        loop {
            self.look().await;
            if let Some(status) = self.get("/v1/daemon").await {
                let digest = status["config"]["digest"].as_str().unwrap_or_default();
                let same = digest.ends_with(&self.file_digest());
                // A standby that is being prepared will take over, whatever is written meanwhile.
                let restarts = status["restart"]["status"] == "running";
                let serves = status["state"] == "serving" && status["drain"].is_null();
                if same && serves && !restarts {
                    if let Some(since) = self.restarting_since.take() {
                        self.disturbed.push((since, now_ms()));
                    }
                    return Some(status);
                }
                if !same && edited.elapsed() > EDIT_AGAIN {
                    self.count("edits made again");
                    self.daemon
                        .edit(abide_tests::How::Rename, |setup| setup.spare += 1);
                    edited = Instant::now();
                }
                last = Some(status);
            }
            if started.elapsed() > PATIENCE {
                self.trouble(format!(
                    "it does not serve its valid configuration within {PATIENCE:?}: {last:?}"
                ));
                return None;
            }
            tokio::time::sleep(GLANCE).await;
        }
    }
}

/// Returns the living processes of the daemon (supervisors and workers) in a folder, without tool
/// servers.
fn processes_of(folder: &Path) -> Vec<i32> {
    let binary = abide_binary();
    living(|pid| arguments(pid).first() == Some(&binary) && is_about(pid, folder))
}

/// Returns the living processes that were started in the folder, including tool servers, which have its
/// environment.
pub(crate) fn descendants_of(folder: &Path) -> Vec<i32> {
    let mark = format!("ABIDE_TOOLS_LOG={}", folder.join("effects").display());
    let mut found = living(|pid| has_variable(pid, &mark));
    found.extend(processes_of(folder));
    found
}

fn has_variable(pid: i32, variable: &str) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment
        .split(|byte| *byte == 0)
        .any(|entry| entry == variable.as_bytes())
}

fn living(wanted: impl Fn(i32) -> bool) -> Vec<i32> {
    let Ok(folders) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = folders.filter_map(|folder| {
        let folder = folder.ok()?;
        let pid = folder.file_name().to_str()?.parse().ok()?;
        wanted(pid).then_some(pid)
    });
    pids.collect()
}
