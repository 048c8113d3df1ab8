//! Looks at the configuration file, and does what its meaning asks for.

use crate::config::{Config, ConfigError, Draft, Observed, SecretFiles, Watch};
use crate::domain::{Cause, Generation, RestartRecord, UnixMillis};
use crate::fault;

use super::generation::record;
use super::handed::Handed;
use super::plan::{self, Asked, Decision};
use super::state::{Daemon, Phase, VERSION};

/// An accepted restart.
pub(super) struct Accepted {
    pub(super) generation: Generation,
    pub(super) plan: serde_json::Value,
}

impl Daemon {
    /// The watch saw other content. What was refused is watched too: a plugin that is missing may
    /// come.
    pub(super) async fn file_changed(&mut self, seen: Observed, watch: &Watch) {
        let draft = self.draft(&seen);
        if let Ok(draft) = &draft {
            let files = self
                .config
                .files()
                .into_iter()
                .chain(draft.files())
                .collect::<Vec<_>>();
            if files.iter().any(|file| !seen.others.contains_key(file)) {
                let now = tokio::task::block_in_place(|| Observed::now(&self.config.file, &files));
                match now {
                    Ok(known) => {
                        // What has been seen is what is compared with, or an edit made since
                        // would count as known.
                        let mut others = known.others;
                        others.extend(seen.others.clone());
                        watch.rearm(Observed::with(seen.bytes.clone(), others));
                    }
                    Err(error) => tracing::warn!(%error, "the configuration file went again"),
                }
            }
        }
        // Refusals have been logged, and stand in the status.
        let _ = self.consider(Asked::Watch, &seen, draft).await;
    }

    /// SIGHUP: look at the file now.
    pub(super) async fn reload(&mut self) {
        // Refusals have been logged, and stand in the status.
        let _ = self.look_at_file(Asked::Signal).await;
    }

    /// Reads the configuration file and does what its meaning asks for.
    pub(super) async fn look_at_file(
        &mut self,
        asked: Asked,
    ) -> Result<Option<Accepted>, Vec<String>> {
        // Plugins are large, and disks may be slow.
        let seen =
            tokio::task::block_in_place(|| Observed::now(&self.config.file, &self.config.files()));
        match seen {
            Ok(seen) => {
                let draft = self.draft(&seen);
                self.consider(asked, &seen, draft).await
            }
            Err(error) => {
                let text = format!(
                    "{}: cannot be read ({error}); put it back",
                    self.config.file.display()
                );
                // No more than said: it is the watch that tells as long as it is so.
                tracing::error!("{text}");
                Err(vec![text])
            }
        }
    }

    fn draft(&self, seen: &Observed) -> Result<Draft, ConfigError> {
        Config::draft(&seen.bytes, &self.config.file, &self.env)
    }

    async fn consider(
        &mut self,
        asked: Asked,
        seen: &Observed,
        draft: Result<Draft, ConfigError>,
    ) -> Result<Option<Accepted>, Vec<String>> {
        let under_way = match &self.phase {
            Phase::Serving => None,
            Phase::Preparing(planned) => Some(planned.record.generation),
            Phase::Draining { goal, .. } => Some(goal.generation()),
        };
        if let Some(generation) = under_way {
            // Its successor looks at the file as soon as it serves; if there is none, we do.
            self.missed = Some((asked, seen.clone()));
            return Ok(Some(Accepted {
                generation,
                plan: serde_json::Value::Null,
            }));
        }
        // What cannot be read is refused below, for what is wrong with it.
        let tried = draft
            .as_ref()
            .map(|draft| tokio::task::block_in_place(|| seen.narrowed(draft.files())))
            .ok();
        if asked == Asked::Watch
            && let Some(tried) = &tried
            && let Some(reason) = self.condemned.get(&tried.digest())
        {
            let text = format!(
                "this configuration was tried and rolled back: {reason}; correct it, or \
                 `abide restart` to try it again"
            );
            self.refuse(vec![text.clone()]);
            return Err(vec![text]);
        }
        // A store that cannot tell lets no plugin go.
        let sessions = |plugin: &str| self.registry.sessions_of(plugin).unwrap_or(u64::MAX);
        let decision = tokio::task::block_in_place(|| {
            let what = (seen, draft);
            plan::decide(asked, &self.config, &self.loaded, what, &self.env, sessions)
        });
        match decision {
            Decision::Nothing => {
                // Other bytes of the same meaning: from now on these are what runs.
                self.loaded = seen.clone();
                self.fixed.config.digest = seen.config;
                self.last_error = None;
                Ok(None)
            }
            Decision::Ignored(plan) => {
                tracing::info!(
                    "the configuration file changed ({}); on_config_change = \"ignore\", so it \
                     waits for `abide restart`",
                    plan.summary()
                );
                self.last_error = None;
                Ok(None)
            }
            Decision::Refused(lines) => {
                if fault::bug("restart-anyway") {
                    std::process::exit(1);
                }
                self.refuse(lines.clone());
                Err(lines)
            }
            Decision::Hot { config, plan } => match self.apply(config, seen, &plan) {
                Ok(()) => Ok(None),
                Err(lines) => {
                    self.refuse(lines.clone());
                    Err(lines)
                }
            },
            Decision::Restart { config, plan } => {
                let (cause, trigger) = match (asked, plan.summary()) {
                    (Asked::Operator, what) if what.is_empty() => {
                        (Cause::Operator, "an operator asked for it".to_owned())
                    }
                    (Asked::Operator, what) => {
                        (Cause::Operator, format!("an operator asked for it; {what}"))
                    }
                    (Asked::Watch | Asked::Signal, what) => (Cause::Config, what),
                };
                let record = RestartRecord {
                    config_from: Some(self.config.digest),
                    config_to: Some(config.digest),
                    tried: tried.as_ref().map(Observed::digest),
                    ..record(
                        self.next_generation(),
                        cause,
                        &trigger,
                        VERSION,
                        UnixMillis::now(),
                    )
                };
                let generation = record.generation;
                let secrets = tokio::task::block_in_place(|| {
                    SecretFiles::of(&config, &SecretFiles::default())
                });
                let handed = Handed::of(tried.as_ref().unwrap_or(seen), &secrets);
                let accepted = self.accept(record, handed).await;
                accepted.inspect_err(|lines| self.refuse(lines.clone()))?;
                Ok(Some(Accepted {
                    generation,
                    plan: super::foretell::told(&plan),
                }))
            }
        }
    }

    pub(super) fn refuse(&mut self, lines: Vec<String>) {
        let text = lines.join("\n");
        if self.last_error.as_ref() != Some(&text) {
            tracing::error!("the changed configuration is refused, nothing is restarted:\n{text}");
            metrics::counter!("abide_config_refused_total").increment(1);
        }
        self.last_error = Some(text);
    }

    /// What was seen while a restart was under way that came to nothing.
    pub(super) async fn look_at_missed(&mut self) {
        if let Some((asked, seen)) = self.missed.take() {
            // Refusals have been logged, and stand in the status.
            let draft = self.draft(&seen);
            let _ = self.consider(asked, &seen, draft).await;
        }
    }
}
