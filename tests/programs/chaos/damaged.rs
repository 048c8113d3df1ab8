//! Damages a file of a dead daemon's data folder, brings the daemon back in whatever way it says, and
//! finds out which sessions it names.

use std::time::Duration;

use abide_tests::PATIENCE;
use abide_tests::checker::program::Arm;
use abide_tests::damage::{
    self, DamagedStart, Harm, damage, damaged_start, files_by_kind, is_logged, named_by, names,
};
use anyhow::anyhow;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::stage::{ChaosStage, now_ms};

/// The share of damage that hits a table or a log, in which the sessions are.
const WITH_SESSIONS: f64 = 0.7;
/// How long the answer about a session may take.
const ANSWER: Duration = Duration::from_secs(5);

impl ChaosStage {
    /// Kills the daemon, damages a file, and starts it again; if it mends its store, it may die at that, as
    /// `mending` says. If it refuses, what can be read is salvaged, and it is started on that.
    pub(crate) async fn damage(&mut self, harm: Harm, seed: u64, mending: Option<Arm>) {
        self.disarm();
        self.kill_both(false);
        self.bury().await;
        self.damaged_since = Some(now_ms());
        match self.harm(harm, seed) {
            Ok(Some(what)) => self.count(what),
            Ok(None) => return,
            Err(error) => return self.trouble(format!("nothing can be damaged: {error:#}")),
        }
        match self.start_damaged(mending).await {
            DamagedStart::Serves => {}
            DamagedStart::Refuses(reason) => {
                self.count("salvages");
                if let Err(error) = self.repair(&reason).await {
                    self.trouble(format!("{error:#}; it had refused: {reason}"));
                }
            }
            DamagedStart::Neither(why) => self.trouble(format!("on a damaged folder {why}")),
        }
    }

    async fn start_damaged(&mut self, mending: Option<Arm>) -> DamagedStart {
        let died_before = self.fired().0;
        if let Some(arm) = mending {
            self.arm(arm, false);
        }
        self.count("boots");
        self.daemon.spawn_again();
        let start = damaged_start(&mut self.daemon, PATIENCE).await;
        self.disarm();
        if self.fired().0 == died_before {
            return start;
        }
        self.count("kills: while a store is mended");
        if self.daemon.exited().is_none() {
            return start;
        }
        self.bury().await;
        self.count("boots");
        self.daemon.spawn_again();
        damaged_start(&mut self.daemon, PATIENCE).await
    }

    /// Damages a drawn file. Returns how that is counted; nothing if the file cannot be damaged so.
    fn harm(&self, harm: Harm, seed: u64) -> anyhow::Result<Option<&'static str>> {
        let mut random = StdRng::seed_from_u64(seed);
        let files = files_by_kind(&self.folder.join("data"))?;
        let holds_sessions = |kind: &str| kind.starts_with("table") || kind.ends_with(".log");
        let only_these = random.random_bool(WITH_SESSIONS);
        let kinds: Vec<&String> = files
            .keys()
            .filter(|kind| !only_these || holds_sessions(kind))
            .collect();
        if kinds.is_empty() {
            return Err(anyhow!("there is no such file"));
        }
        let kind = kinds[random.random_range(0..kinds.len())].clone();
        let damaged = damage(&files, &kind, harm, &mut random)?;
        Ok(damaged.map(|_| match kind {
            kind if kind.starts_with("table") => "damaged: tables",
            kind if kind.ends_with(".log") => "damaged: logs",
            kind if kind.starts_with("db/") => "damaged: lists of tables",
            _ => "damaged: other files",
        }))
    }

    /// Repairs the folder as the refusal says, or writes what can be read into another one, and starts the
    /// daemon on that.
    async fn repair(&mut self, refusal: &str) -> anyhow::Result<()> {
        if self.daemon.exited().is_none() {
            self.stop().await;
        }
        self.bury().await;
        self.salvaged = damage::repair(&mut self.daemon, refusal, "salvaged")?.to_string();
        self.count("boots");
        self.daemon.spawn_again();
        match damaged_start(&mut self.daemon, PATIENCE).await {
            DamagedStart::Serves => Ok(()),
            DamagedStart::Refuses(why) | DamagedStart::Neither(why) => {
                Err(anyhow!("what was salvaged does not start: {why}"))
            }
        }
    }

    /// Returns the words in which the daemon or the salvage names a session as touched by damage: in its
    /// state, in a finding, in the log or in the report.
    pub(crate) async fn touched(&self, id: &str) -> Option<String> {
        self.damaged_since?;
        let get = async |path: &str| {
            let reply = tokio::time::timeout(ANSWER, self.client.get(path)).await;
            reply.ok()?.ok()
        };
        if let Some(session) = get(&format!("/v1/sessions/{id}")).await {
            let words = session.body.to_string();
            if let Some(words) = named_by(&session.body) {
                return Some(words);
            }
            if session.status >= 500 && words.contains("damage") {
                return Some(words);
            }
        }
        let findings = get("/v1/daemon")
            .await
            .map(|status| status.body["watchdog"].to_string());
        let texts = [findings.unwrap_or_default(), self.salvaged.clone()];
        if let Some(text) = texts.into_iter().find(|text| names(text, id)) {
            return Some(text);
        }
        is_logged(&self.daemon.log(), id).then(|| "a line of the log".to_owned())
    }
}
