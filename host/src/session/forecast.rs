//! What would become of the sessions of plugins that are about to have other components: each is tried on
//! copies, before the drain. Nothing of a session changes; the same trial is taken again before its first
//! turn on the component, from the state that it has by then.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::domain::{
    BadSnapshot, Capabilities, Digest, Generation, Limits, LogPos, Patterns, PluginTrial, Refusal,
    Session, SessionCopy, SessionId, Snapshot, TrialReport,
};
use crate::engine::{Component, Engine, processors};
use crate::store::{Store, StoreError};

use super::driver::begun_on;
use super::plugins::Plugin;
use super::queries::count_of;
use super::registry::Registry;
use super::replay::Subject;
use super::trial::Trial;

/// How many sessions are read at once.
const PAGE: usize = 128;

/// Held while a trial goes on that a client has asked for.
static ALONE: LazyLock<Arc<Mutex<()>>> = LazyLock::new(Arc::default);

/// A plugin that is to have another component.
#[derive(Clone, Debug)]
pub struct NewComponent {
    pub plugin: String,
    pub component: Digest,
    pub source: ComponentSource,
    /// What the operator has set for it then.
    pub limits: Limits,
    pub grants: Capabilities,
}

/// Where a component is found that is to be tried.
#[derive(Clone, Debug)]
pub enum ComponentSource {
    /// It is kept in the data folder.
    Kept,
    /// It was loaded already, and need not be kept.
    Loaded(Arc<Component>),
    /// Nowhere; with the reason.
    Gone(String),
}

/// Waits until no other trial goes on that a client has asked for, and keeps further ones waiting until the
/// guard is dropped: each computes, and takes memory. A restart's own trial waits for none.
pub async fn trial_alone() -> OwnedMutexGuard<()> {
    ALONE.clone().lock_owned().await
}

/// Tries one component, which need not be kept, on all sessions of its plugin within `budget`.
pub(super) async fn of_one(
    registry: &Registry,
    name: String,
    plugin: Plugin,
    budget: Duration,
) -> Result<PluginTrial, Refusal> {
    let sessions = count(registry, &name).await?;
    let found = PluginTrial::new(name, plugin.component.digest(), sessions);
    let first = active(registry).await;
    let ends = Some(Instant::now() + budget);
    let ground = TrialGround::of(registry);
    Ok(ground.try_one(plugin, found, first, ends).await)
}

/// Tries a component on all sessions of a store that no daemon uses.
pub async fn forecast_stored(
    engine: &Engine,
    store: Store,
    name: String,
    plugin: Plugin,
) -> Result<PluginTrial, Refusal> {
    let sessions = count_of(&store, &name)?;
    let found = PluginTrial::new(name, plugin.component.digest(), sessions);
    let ground = TrialGround {
        engine: engine.clone(),
        store,
        generation: Generation(0),
    };
    Ok(ground.try_one(plugin, found, Vec::new(), None).await)
}

/// Tries a component on an exported session.
pub async fn forecast_export(engine: &Engine, copy: &SessionCopy, plugin: Plugin) -> TrialReport {
    let limit = plugin.limits.snapshot_bytes;
    let snapshot = match Snapshot::decode(&copy.snapshot, &copy.identity.plugin, limit) {
        Ok(snapshot) => snapshot,
        Err(bad) => return TrialReport::failed(bad.to_string()),
    };
    let begun = begun_on(copy.point.turn, plugin.component.digest(), Generation(0));
    let trial = Trial {
        engine: engine.clone(),
        id: copy.session.clone(),
        identity: copy.identity.clone(),
        plugin: Arc::new(plugin),
        // An export has not what its last turn began with.
        last: None,
    };
    trial.run(&begun, &snapshot).await
}

/// Tries all of them within `budget`: sessions that are active or were of late first, then the others. What is
/// found of each plugin is in `found`, as far as it goes.
pub(super) async fn run(
    registry: &Registry,
    new: Vec<NewComponent>,
    budget: Duration,
    found: &watch::Sender<Vec<PluginTrial>>,
) {
    let ends = Instant::now() + budget;
    let engine = &registry.shared.engine;
    let mut plugins = Vec::new();
    for new in new {
        let name = new.plugin.clone();
        let sessions = count(registry, &name).await.unwrap_or_else(|error| {
            tracing::warn!(plugin = name, %error, "its sessions cannot be counted");
            0
        });
        let mut of_plugin = PluginTrial::new(name.clone(), new.component, sessions);
        let plugin = tokio::time::timeout_at(ends, load(engine, new)).await;
        match plugin.unwrap_or_else(|_| Err("loading it takes too long".to_owned())) {
            Ok(plugin) => plugins.push((name, plugin)),
            Err(reason) => {
                tracing::warn!(plugin = name, reason, "the new component cannot be tried");
                of_plugin.untried_for(&reason);
            }
        }
        found.send_modify(|all| all.push(of_plugin));
    }
    let first = active(registry).await;
    let add = |plugin: &str, id: SessionId, report: TrialReport| {
        found.send_modify(|all| {
            if let Some(found) = all.iter_mut().find(|it| it.plugin == plugin) {
                found.add(id, report);
            }
        });
    };
    let ground = TrialGround::of(registry);
    ground.try_all(plugins, first, Some(ends), add).await;
}

async fn count(registry: &Registry, plugin: &str) -> Result<u64, Refusal> {
    let (registry, plugin) = (registry.clone(), plugin.to_owned());
    let count = tokio::task::spawn_blocking(move || registry.sessions_of(&plugin)).await;
    count.unwrap_or_else(|error| {
        Err(Refusal::NothingFound {
            reason: error.to_string(),
        })
    })
}

/// Returns the sessions that are active or were of late; none if they cannot be read, for all are tried.
async fn active(registry: &Registry) -> Vec<SessionId> {
    let registry = registry.clone();
    let active = tokio::task::spawn_blocking(move || registry.active_ids()).await;
    active.ok().and_then(Result::ok).unwrap_or_default()
}

async fn load(engine: &Engine, new: NewComponent) -> Result<Arc<Plugin>, String> {
    let component = match new.source {
        ComponentSource::Kept => kept(engine, new.component).await?,
        ComponentSource::Loaded(component) => component,
        ComponentSource::Gone(reason) => return Err(reason),
    };
    let plugin = Plugin {
        component,
        limits: new.limits,
        grants: new.grants,
    };
    Ok(Arc::new(plugin))
}

async fn kept(engine: &Engine, digest: Digest) -> Result<Arc<Component>, String> {
    let engine = engine.clone();
    let load = move || engine.kept(digest);
    let loaded = tokio::task::spawn_blocking(load).await;
    let loaded = loaded.map_err(|error| error.to_string())?;
    let component = loaded.map_err(|error| error.to_string())?;
    component.ok_or_else(|| "it is not kept".to_owned())
}

/// The plugins that are tried, by name, with the component that is tried.
type Tried = [(String, Arc<Plugin>)];

/// What trials need beside the component.
#[derive(Clone)]
struct TrialGround {
    engine: Engine,
    store: Store,
    generation: Generation,
}

impl TrialGround {
    fn of(registry: &Registry) -> Self {
        let shared = &registry.shared;
        Self {
            engine: shared.engine.clone(),
            store: shared.store.clone(),
            generation: shared.settings.generation,
        }
    }

    /// Tries one plugin on all of its sessions.
    async fn try_one(
        &self,
        plugin: Plugin,
        mut found: PluginTrial,
        first: Vec<SessionId>,
        ends: Option<Instant>,
    ) -> PluginTrial {
        let plugins = vec![(found.plugin.clone(), Arc::new(plugin))];
        let add = |_: &str, id: SessionId, report: TrialReport| found.add(id, report);
        self.try_all(plugins, first, ends, add).await;
        found
    }

    /// Tries plugins on all of their sessions, `first` first, until it is time. `add` takes what was found of
    /// a session of this plugin.
    async fn try_all(
        &self,
        plugins: Vec<(String, Arc<Plugin>)>,
        first: Vec<SessionId>,
        ends: Option<Instant>,
        mut add: impl FnMut(&str, SessionId, TrialReport),
    ) {
        let plugins: Arc<Tried> = plugins.into();
        let mut known = HashSet::new();
        let mut pages = Pages {
            store: self.store.clone(),
            first: Some(first),
            after: None,
        };
        let is_over = || ends.is_some_and(|ends| Instant::now() >= ends);
        while !is_over() && !plugins.is_empty() {
            let page = match pages.next().await {
                Ok(Some(page)) => page,
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "not all sessions are tried");
                    return;
                }
            };
            let mut due = page.into_iter().filter(|id| known.insert(id.clone()));
            // Each on a thread of its own; dropped, they end.
            let mut running = JoinSet::new();
            loop {
                while running.len() < processors().div_ceil(2)
                    && let Some(id) = due.next()
                {
                    let (ground, plugins) = (self.clone(), plugins.clone());
                    running.spawn(async move { ground.try_stored(&plugins, id).await });
                }
                let ended = match ends {
                    Some(ends) => tokio::time::timeout_at(ends, running.join_next()).await,
                    None => Ok(running.join_next().await),
                };
                // It is time, or none is left.
                let Ok(Some(ended)) = ended else { break };
                // A panic is logged, and says nothing about a component.
                if let Ok(Some((plugin, id, report))) = ended {
                    add(&plugin, id, report);
                }
            }
        }
    }

    /// Tries a session as it is stored. None if its plugin is another one, or if it is closed.
    async fn try_stored(
        &self,
        plugins: &Tried,
        id: SessionId,
    ) -> Option<(String, SessionId, TrialReport)> {
        let (store, of) = (self.store.clone(), id.clone());
        let load = move || store.load(&of);
        // Its driver meets an error, too, and says what is to be done.
        let session = tokio::task::spawn_blocking(load).await.ok()?.ok()??;
        let name = &session.identity.plugin;
        let (_, plugin) = plugins.iter().find(|(of, _)| of == name)?;
        if session.progress.closed.is_some() {
            return None;
        }
        let report = self.try_session(&id, &session, plugin).await;
        let report = report.unwrap_or_else(|report| report);
        Some((session.identity.plugin, id, report))
    }

    async fn try_session(
        &self,
        id: &SessionId,
        session: &Session,
        plugin: &Arc<Plugin>,
    ) -> Result<TrialReport, TrialReport> {
        let (progress, identity) = (&session.progress, &session.identity);
        let component = plugin.component.digest();
        if !progress.is_untried_on(component) {
            return Ok(TrialReport::passed());
        }
        let (store, of, at) = (self.store.clone(), id.clone(), progress.snapshot.at);
        let (name, limit) = (identity.plugin.clone(), plugin.limits.snapshot_bytes);
        let read = move || snapshot(&store, &of, at, &name, limit);
        let read = tokio::task::spawn_blocking(read).await;
        let snapshot = read.map_err(|error| TrialReport::untried(error.to_string()))??;
        let begun = begun_on(progress.last_turn, component, self.generation);
        let trial = Trial {
            engine: self.engine.clone(),
            id: id.clone(),
            identity: identity.clone(),
            plugin: plugin.clone(),
            last: Subject::last(progress).map(|last| (self.store.clone(), last)),
        };
        Ok(trial.run(&begun, &snapshot).await)
    }
}

fn snapshot(
    store: &Store,
    id: &SessionId,
    at: LogPos,
    plugin: &str,
    limit: u64,
) -> Result<Snapshot, TrialReport> {
    let untried = |reason: String| TrialReport::untried(reason);
    let stored = store.snapshot(id, at);
    let stored = stored.map_err(|error| untried(error.to_string()))?;
    // One that is missing may be made again by its driver.
    let stored = stored.ok_or_else(|| untried("its snapshot is missing".to_owned()))?;
    Snapshot::decode(&stored, plugin, limit).map_err(|bad| match bad {
        BadSnapshot::TooLarge { .. } => TrialReport::failed(bad.to_string()),
        bad => untried(bad.to_string()),
    })
}

/// All sessions, page by page.
struct Pages {
    store: Store,
    /// Those that come first, until they were returned.
    first: Option<Vec<SessionId>>,
    after: Option<SessionId>,
}

impl Pages {
    async fn next(&mut self) -> Result<Option<Vec<SessionId>>, StoreError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let (store, after) = (self.store.clone(), self.after.clone());
        let list = move || store.list(after.as_ref(), PAGE, &Patterns::all());
        let page = tokio::task::spawn_blocking(list).await;
        // The listing does not panic; if it did, the store would be as good as closed.
        let page = page.unwrap_or(Err(StoreError::Closed))?;
        let ids: Vec<_> = page.into_iter().map(|summary| summary.id).collect();
        self.after = ids.last().cloned();
        Ok(self.after.is_some().then_some(ids))
    }
}
