//! Applies a program's disturbances to a daemon.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use abide_tests::checker::program::{Disturbance, Invalid, Save, Variant};
use abide_tests::{How, Plugin, Setup, variant};
use serde_json::{Value, json};

use crate::stage::{ChaosStage, GLANCE, PLUGIN};

/// How long an invalid configuration may go unnoticed.
const NOTICED: Duration = Duration::from_secs(20);
/// The time after which an error that equals the previous one counts as the awaited one.
const SAME_AGAIN: Duration = Duration::from_secs(3);
/// How long the daemon is observed afterwards for consequences.
const AFTERMATH_MS: u64 = 300;

impl ChaosStage {
    pub(crate) async fn disturb(&mut self, what: &Disturbance) {
        match what {
            Disturbance::KillWorker => self.kill_worker(),
            Disturbance::KillSupervisor => self.kill_supervisor(),
            Disturbance::KillBoth => self.kill_both(false),
            Disturbance::PowerCut => self.kill_both(true),
            Disturbance::Fault { arm, power } => self.arm(arm.clone(), *power),
            Disturbance::Edit(save) => self.edit(*save),
            Disturbance::EditTwice { gap_ms } => {
                self.edit(Save::Rename);
                self.tend(*gap_ms).await;
                self.edit(Save::Rename);
            }
            Disturbance::Component(to) => self.change_component(*to),
            Disturbance::InvalidEdit(invalid) => self.edit_invalid(*invalid).await,
            Disturbance::Restart => {
                self.restarts();
                self.count("restarts asked for");
                // Another restart may be in progress, and the daemon may be down.
                let _ = self.client.post("/v1/daemon/restart", &json!({})).await;
            }
            Disturbance::Stop => {
                self.count("stops");
                self.stop().await;
            }
            Disturbance::Damage {
                harm,
                seed,
                mending,
            } => self.damage(*harm, *seed, mending.clone()).await,
        }
        self.look().await;
    }

    fn edit(&mut self, save: Save) {
        self.restarts();
        self.count("edits");
        let how = match save {
            Save::Rename => How::Rename,
            Save::Truncate => How::Truncate,
        };
        self.daemon.edit(how, |setup| setup.spare += 1);
    }

    /// Has the plugin have another component.
    fn change_component(&mut self, to: Variant) {
        self.restarts();
        self.count("component changes");
        let path = self.folder.join(format!("{PLUGIN}-{}.wasm", to.as_str()));
        // It was complete before the configuration named it.
        if !path.exists() {
            fs::write(&path, variant(to.as_str())).expect("the folder is ours");
        }
        self.daemon.edit(How::Rename, |setup| {
            let mut plugins = setup.plugins.iter_mut();
            if let Some(plugin) = plugins.find(|plugin| plugin.name == PLUGIN) {
                plugin.path = path;
            }
        });
    }

    /// Writes an invalid configuration for an idle daemon, which must report it and do nothing
    /// else; then writes a valid one.
    async fn edit_invalid(&mut self, invalid: Invalid) {
        self.disarm();
        let Some(before) = self.at_rest().await else {
            return;
        };
        self.count("invalid edits");
        let mut holder = None;
        let mut setup = self.daemon.setup.clone();
        let text = match invalid {
            Invalid::Syntax => format!("{}\n[[[", setup.toml()),
            Invalid::UnknownKey => {
                setup.daemon.push("nonsense = 1".to_owned());
                setup.toml()
            }
            Invalid::NoPlugin => self.with_plugin(setup, "gone.wasm"),
            Invalid::NoComponent => {
                fs::write(self.folder.join("plain.wasm"), "plain text")
                    .expect("the folder is ours");
                self.with_plugin(setup, "plain.wasm")
            }
            Invalid::DataDir => {
                setup.data_dir = "elsewhere".to_owned();
                setup.toml()
            }
            Invalid::AddressInUse => {
                let held = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
                setup.port = held.local_addr().expect("a bound socket has one").port();
                holder = Some(held);
                setup.toml()
            }
        };
        self.daemon.write_config(&text, How::Rename);
        let started = Instant::now();
        while !self.told_of_it(&before, started.elapsed()).await {
            self.look().await;
            if started.elapsed() > NOTICED {
                self.trouble(format!("{invalid:?}: nobody was told of it"));
                break;
            }
            tokio::time::sleep(GLANCE).await;
        }
        self.tend(AFTERMATH_MS).await;
        let after = self.get("/v1/daemon").await;
        let what = |status: &Value| {
            let of = ["generation", "pid"].map(|key| status[key].clone());
            (
                of,
                status["config"]["digest"].clone(),
                status["state"].clone(),
            )
        };
        match after {
            Some(after) if what(&after) == what(&before) => {}
            Some(after) => self.trouble(format!(
                "{invalid:?} was acted on: {:?} before, {:?} after",
                what(&before),
                what(&after)
            )),
            None => self.trouble(format!("{invalid:?}: it does not serve any more")),
        }
        drop(holder);
        let valid = self.daemon.setup.toml();
        self.daemon.write_config(&valid, How::Rename);
    }

    fn with_plugin(&self, setup: Setup, file: &str) -> String {
        let plugin = Plugin {
            name: "invalid".to_owned(),
            path: self.folder.join(file),
            capabilities: Vec::new(),
            limits: Vec::new(),
        };
        setup.plugin(plugin).toml()
    }

    /// Returns whether the daemon reports that the configuration is invalid, or acts on it.
    async fn told_of_it(&self, before: &Value, since: Duration) -> bool {
        let Some(status) = self.get("/v1/daemon").await else {
            return false;
        };
        let error = &status["config"]["last_error"];
        let refused =
            status["restart"]["status"] == "refused" && status["restart"] != before["restart"];
        let acted = status["generation"] != before["generation"];
        // A repeated error is indistinguishable from the previous one.
        let new = *error != before["config"]["last_error"] || since > SAME_AGAIN;
        (!error.is_null() && new) || refused || acted
    }
}
