//! The session operations that the API offers to clients and operators.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::domain::{
    Answer, Approval, ApprovalId, CancelScope, Cancelled, DeadFilter, DeadLetter, DeadPage,
    DeadPlace, Digest, EventId, HISTORY_MAX_BYTES, MessageId, NewMessage, Patterns, PluginTrial,
    Refusal, Replacement, ReplayReport, RewoundTo, SessionCopy, SessionId, SessionView, Snapshot,
    StandingApproval, TurnReport, UnixMillis,
};

use super::forecast;
use super::hub::Subscription;
use super::inspect;
use super::live_config::LiveConfig;
use super::mailbox::{Accepted, Adoption, DriverCommand, NewSession};
use super::memory_budget::Share;
use super::outcome::{self, TurnOutcome};
use super::plugins::Plugin;
use super::queries::{self, ListFilter, ListPage, SessionEvents, SessionPoints};
use super::registry::Registry;
use super::shared::Shared;
use crate::engine::LoadError;
use crate::store::check_history;

/// A handle to all sessions for the API. Cheap to clone.
#[derive(Clone)]
pub struct Clients(Registry);

impl Clients {
    pub fn of(registry: &Registry) -> Self {
        Self(registry.clone())
    }

    /// Returns the current live configuration.
    pub fn live_config(&self) -> Arc<LiveConfig> {
        self.0.live_config()
    }

    /// Waits for what needs the disk.
    ///
    /// # Errors
    /// [`Refusal::StoreStalled`] as soon as the disk completes no write.
    pub async fn while_disk_answers<T>(
        &self,
        asked: impl Future<Output = T>,
    ) -> Result<T, Refusal> {
        self.0.while_disk_answers(asked).await
    }

    /// Creates a session, or confirms that it already exists (`false`).
    pub async fn create(
        &self,
        id: &SessionId,
        new: NewSession,
    ) -> Result<(SessionView, bool), Refusal> {
        self.0
            .ask(id, |reply| DriverCommand::Create(new, reply))
            .await
    }

    /// Returns a session's current state.
    pub async fn view(&self, id: &SessionId) -> Result<SessionView, Refusal> {
        queries::view(&self.shared().store, id, self.as_of_now())
    }

    fn as_of_now(&self) -> impl Fn(SessionView) -> SessionView {
        let (shared, parts) = (self.0.shared.clone(), self.live_config());
        move |view| shared.as_of_now(&parts.plugins, view)
    }

    /// Lists sessions, ordered by id.
    pub async fn list(&self, filter: &ListFilter) -> Result<ListPage, Refusal> {
        queries::list(&self.shared().store, filter, self.as_of_now())
    }

    /// Reports the session's open turn, or else its last committed turn, step by step.
    pub async fn turn(&self, id: &SessionId) -> Result<TurnReport, Refusal> {
        inspect::turn(&self.shared().store, id)
    }

    /// Replays the turn that [`Clients::turn`] reports, offline and without effects.
    pub async fn replay(&self, id: &SessionId) -> Result<ReplayReport, Refusal> {
        inspect::replay(self.shared(), id).await
    }

    /// Closes a session permanently.
    pub async fn close(&self, id: &SessionId) -> Result<SessionView, Refusal> {
        self.0.ask(id, DriverCommand::Close).await
    }

    /// Reserves memory for a request of `bytes` while it is being read, or refuses it.
    pub fn room(&self, bytes: u64) -> Result<Share, Refusal> {
        self.shared().memory.room(bytes)
    }

    /// Accepts a message, which is synced to disk when this returns.
    pub async fn send(&self, id: &SessionId, message: NewMessage) -> Result<Accepted, Refusal> {
        let _room = self.room(message.text.len() as u64)?;
        let command = |reply| DriverCommand::Send {
            message,
            wait: None,
            reply,
        };
        self.0.ask(id, command).await
    }

    /// Accepts a message and returns a future that resolves when its turn has ended. A turn without
    /// steps is synced together with its message, so it may already have ended when this returns.
    pub async fn send_and_wait(
        &self,
        id: &SessionId,
        message: NewMessage,
    ) -> Result<(Accepted, impl Future<Output = Result<TurnOutcome, Refusal>>), Refusal> {
        let room = self.room(message.text.len() as u64)?;
        let (wait, ended) = oneshot::channel();
        let command = |reply| DriverCommand::Send {
            message,
            wait: Some(wait),
            reply,
        };
        let accepted = self.0.ask(id, command).await?;
        drop(room);
        let message = accepted.message.clone();
        let outcome = async move {
            let mut handover = self.shared().handover.subscribe();
            let outcome = tokio::select! {
                biased;
                outcome = ended => outcome.ok(),
                _ = handover.wait_for(Option::is_some) => None,
            };
            match outcome {
                Some(outcome) => Ok(outcome),
                // A duplicate, or the driver is gone: read the outcome from the log.
                None => {
                    let cursor = message.cursor().unwrap_or_default();
                    outcome::follow(self.subscription(id, cursor), &message).await
                }
            }
        };
        Ok((accepted, outcome))
    }

    /// Returns a page of the events after a position.
    pub async fn events(
        &self,
        id: &SessionId,
        after: &EventId,
        limit: usize,
    ) -> Result<SessionEvents, Refusal> {
        queries::events(&self.shared().store, id, after, limit)
    }

    /// Subscribes to the events after a position: first the stored ones, then live.
    pub async fn subscribe(
        &self,
        id: &SessionId,
        after: &EventId,
    ) -> Result<Subscription, Refusal> {
        // Refuse up front what the stream itself could only end with.
        queries::events(&self.shared().store, id, after, 1)?;
        Ok(self.subscription(id, after.cursor))
    }

    /// Cancels the open turn or the queued messages, which is synced to disk when this returns.
    pub async fn cancel(
        &self,
        id: &SessionId,
        scope: CancelScope,
    ) -> Result<(SessionView, Cancelled), Refusal> {
        self.0
            .ask(id, |reply| DriverCommand::Cancel(scope, reply))
            .await
    }

    /// Returns the restore points of a session, oldest first; the last one is its present state.
    pub async fn points(&self, id: &SessionId) -> Result<SessionPoints, Refusal> {
        queries::points(&self.shared().store, id)
    }

    /// Rewinds a session to one of its restore points, which is synced to disk when this returns.
    pub async fn rewind(
        &self,
        id: &SessionId,
        to: EventId,
        by: Option<String>,
    ) -> Result<(SessionView, RewoundTo), Refusal> {
        self.0
            .ask(id, |reply| DriverCommand::Rewind { to, by, reply })
            .await
    }

    /// Reserves memory for a session that is copied, apart from that of all others, or refuses it.
    pub fn copy_room(&self, bytes: u64) -> Result<Share, Refusal> {
        let room = self.shared().copy_memory.room(bytes);
        room.map_err(|_| Refusal::CopiesBusy)
    }

    /// Reads what a copy of a session takes along: as it is, or as it was at a restore point. The share is
    /// to be held as long as the copy is.
    pub async fn copy(
        &self,
        id: &SessionId,
        at: Option<EventId>,
    ) -> Result<(SessionCopy, Share), Refusal> {
        // How much it is shows once it was read.
        let mut room = self.copy_room(HISTORY_MAX_BYTES as u64)?;
        let command = |reply| DriverCommand::Copy { at, reply };
        let copy: SessionCopy = self.0.ask(id, command).await?;
        room.set(copy.bytes());
        Ok((copy, room))
    }

    /// Refuses a copy that comes from outside and that no session of this daemon can be: its plugin is not
    /// configured, its state is too large, or its history is none.
    pub fn check_copy(&self, copy: &SessionCopy) -> Result<(), Refusal> {
        let name = &copy.identity.plugin;
        let plugin = self.live_config().plugins.named(name)?;
        plugin.check_args(&copy.identity.args)?;
        let bad = |reason: String| Refusal::BadExport { reason };
        let limit = plugin.limits.snapshot_bytes;
        Snapshot::decode(&copy.snapshot, name, limit).map_err(|error| bad(error.to_string()))?;
        let history = check_history(&copy.history, copy.point.cursor);
        history.map_err(|error| bad(error.to_string()))
    }

    /// Creates a session as a copy of another one, which is synced to disk when this returns. Whoever has
    /// read the copy holds its share.
    pub async fn begin_copy(
        &self,
        id: &SessionId,
        copy: SessionCopy,
        how: Replacement,
        by: Option<String>,
    ) -> Result<SessionView, Refusal> {
        let command = |reply| DriverCommand::BeginCopy {
            copy: Box::new(copy),
            how,
            by,
            reply,
        };
        self.0.ask(id, command).await
    }

    /// Tries a component, which is not kept, on all sessions of a plugin within `budget`. Changes nothing. Waits
    /// for other trials of clients.
    pub async fn try_component(
        &self,
        plugin: &str,
        component: Vec<u8>,
        budget: Duration,
    ) -> Result<PluginTrial, Refusal> {
        let _alone = forecast::trial_alone().await;
        let present = self.live_config().plugins.named(plugin)?;
        let engine = self.shared().engine.clone();
        let loaded = tokio::task::spawn_blocking(move || engine.load(&component)).await;
        let bad = |reason: String| Refusal::BadComponent { reason };
        let loaded = loaded.map_err(|error| bad(error.to_string()))?;
        let tried = Plugin {
            component: loaded.map_err(|error| bad(error.to_string()))?,
            ..Plugin::clone(&present)
        };
        forecast::of_one(&self.0, plugin.to_owned(), tried, budget).await
    }

    /// Reads the component that wrote a snapshot.
    pub async fn component_bytes(&self, component: Digest) -> Result<Vec<u8>, Refusal> {
        let engine = self.shared().engine.clone();
        let read = move || engine.kept_bytes(component);
        let cannot = |reason: String| Refusal::CannotReturn { reason };
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok(Some(bytes))) => Ok(bytes),
            Ok(Ok(None)) => Err(cannot(format!(
                "its component {component} is no longer kept"
            ))),
            Ok(Err(error)) => Err(cannot(error.to_string())),
            Err(error) => Err(cannot(error.to_string())),
        }
    }

    /// Makes sure that the component of an imported session is here: its plugin's, one that this plugin had
    /// before, or the one that comes with it, which is compiled and kept then. Waits for that. `trusted`
    /// callers may have the plugin run any component that is kept or comes along: others could give one
    /// plugin's grants to another's code.
    pub async fn provide_component(
        &self,
        plugin: &str,
        component: Digest,
        bytes: Option<Vec<u8>>,
        trusted: bool,
    ) -> Result<(), Refusal> {
        let present = self.live_config().plugins.named(plugin)?;
        let (engine, name) = (self.shared().engine.clone(), plugin.to_owned());
        let provide = move || {
            let kept = engine.kept_bytes(component)?;
            let was_its = present.component.digest() == component
                || engine.kept_settings(component, &name).is_some();
            let bytes = match (kept, bytes) {
                (Some(kept), _) if was_its || trusted => kept,
                (None, Some(bytes)) if trusted => {
                    engine.load(&bytes)?;
                    bytes
                }
                _ => return Ok(false),
            };
            // As good as new: it is not about to be removed.
            engine.keep(&bytes)?;
            let settings = present.settings();
            if !was_its && let Err(error) = engine.keep_settings(component, &name, &settings) {
                tracing::warn!(plugin = name, %error, "a plugin's settings are not kept with its component");
            }
            Ok(true)
        };
        let bad = |reason: String| Refusal::BadExport { reason };
        match tokio::task::spawn_blocking(provide).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(Refusal::ComponentMissing { component }),
            Ok(Err(error)) => {
                let error: LoadError = error;
                Err(bad(format!("its component cannot be run: {error}")))
            }
            Err(error) => Err(bad(error.to_string())),
        }
    }

    /// Records a human's answer to an approval, which is synced to disk when this returns.
    pub async fn decide(&self, id: ApprovalId, answer: Answer) -> Result<Approval, Refusal> {
        let unknown = || Refusal::UnknownApproval(id.to_string());
        let session = id.session().ok_or_else(unknown)?;
        if self
            .shared()
            .store
            .load(&session)
            .map_err(queries::refusal)?
            .is_none()
        {
            return Err(unknown());
        }
        let command = |reply| DriverCommand::Decide { id, answer, reply };
        self.0.ask(&session, command).await
    }

    /// Approves a call, and from then on each one like it in its session. Both are synced to disk when this
    /// returns; it goes on if the caller leaves. Where the second fails, the call is approved once.
    pub async fn approve_always(
        &self,
        id: ApprovalId,
        answer: Answer,
    ) -> Result<Approval, Refusal> {
        let unknown = || Refusal::UnknownApproval(id.to_string());
        let session = id.session().ok_or_else(unknown)?;
        let approval = self.approval(&id)?;
        if approval.arguments_cut {
            return Err(Refusal::ArgumentsCut);
        }
        let standing = StandingApproval::of(&approval, answer.by.clone(), UnixMillis::now());
        self.shared().standing.check_room()?;
        let this = self.clone();
        let approving = tokio::spawn(async move {
            let decided = this.decide(id, answer).await?;
            this.shared().standing.add(session, standing).await?;
            Ok(decided)
        });
        approving.await.unwrap_or(Err(Refusal::Restarting))
    }

    /// Returns the standing approvals of the sessions whose ids match.
    pub fn standing_approvals(&self, ids: &Patterns) -> Vec<StandingApproval> {
        self.shared().standing.list(ids)
    }

    /// Revokes a standing approval: its call is asked about again.
    pub async fn revoke_standing(&self, id: &ApprovalId) -> Result<StandingApproval, Refusal> {
        self.shared().standing.revoke(id).await
    }

    /// Returns an approval, with the whole arguments of its call while its turn is open.
    pub fn approval(&self, id: &ApprovalId) -> Result<Approval, Refusal> {
        queries::approval(&self.shared().store, id)
    }

    /// Returns the pending approvals of at most `limit` sessions after `after` whose ids match `ids`,
    /// ordered by session, and the session to continue after if there may be more.
    pub async fn approvals(
        &self,
        after: Option<&SessionId>,
        limit: usize,
        ids: &Patterns,
    ) -> Result<(Vec<Approval>, Option<SessionId>), Refusal> {
        let waiting = self.shared().store.approvals(after, limit, ids);
        waiting.map_err(queries::refusal)
    }

    /// Lets a session run again that is faulted, or waits after a cut of its history.
    pub async fn resume(&self, id: &SessionId) -> Result<SessionView, Refusal> {
        self.0.ask(id, DriverCommand::Resume).await
    }

    /// Has a session run on its plugin's component again.
    pub async fn adopt(&self, id: &SessionId, adoption: Adoption) -> Result<SessionView, Refusal> {
        let command = |reply| DriverCommand::Adopt { adoption, reply };
        self.0.ask(id, command).await
    }

    /// Moves a dead letter (`None`: the last one) back into the inbox. With `force`, even if its
    /// turn made calls that cannot be repeated.
    pub async fn retry(
        &self,
        id: &SessionId,
        message: Option<MessageId>,
        force: bool,
    ) -> Result<Accepted, Refusal> {
        let command = |reply| DriverCommand::Retry {
            message,
            force,
            reply,
        };
        self.0.ask(id, command).await
    }

    /// Returns at most `limit` dead letters of all sessions after `after`.
    pub async fn all_dead(
        &self,
        after: Option<&DeadPlace>,
        limit: usize,
        filter: &DeadFilter<'_>,
    ) -> Result<DeadPage, Refusal> {
        let letters = self.shared().store.all_dead(after, limit, filter);
        letters.map_err(queries::refusal)
    }

    /// Returns the session's dead letters, oldest first.
    pub async fn dead(
        &self,
        id: &SessionId,
        after: Option<&MessageId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, Refusal> {
        queries::dead(&self.shared().store, id, after, limit)
    }

    fn subscription(&self, id: &SessionId, after: u64) -> Subscription {
        let shared = self.shared();
        let handover = shared.handover.subscribe();
        Subscription::new(
            id.clone(),
            after,
            &shared.hubs,
            handover,
            shared.store.clone(),
        )
    }

    fn shared(&self) -> &Shared {
        &self.0.shared
    }
}
