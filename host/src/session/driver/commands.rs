//! The commands that clients and operators send to a session.

use std::sync::Arc;

use crate::domain::{
    ClockReading, Created, Digest, Limits, MessageId, NewMessage, Owed, PointAct, Record, Refusal,
    Relabelled, Session, SessionView, Snapshot, UnixMillis,
};
use crate::engine::{Context, GuestFailure, GuestJob, Product};

use super::Driver;
use super::batch::CommitBatch;
use crate::session::drain::Gate;
use crate::session::mailbox::{Accepted, DriverCommand, NewSession, ReplyTo};
use crate::session::plugins::Plugin;
use crate::session::queries::refusal;

/// Refuses all commands with the same refusal.
pub(super) fn refuse_all(commands: impl Iterator<Item = DriverCommand>, refusal: &Refusal) {
    for command in commands {
        let no = refusal.clone();
        // An error means that the client has gone.
        match command {
            DriverCommand::Create(_, reply) => drop(reply.send(Err(no))),
            DriverCommand::Send { reply, .. } | DriverCommand::Retry { reply, .. } => {
                drop(reply.send(Err(no)));
            }
            DriverCommand::Close(reply)
            | DriverCommand::Resume(reply)
            | DriverCommand::Adopt { reply, .. } => drop(reply.send(Err(no))),
            DriverCommand::Cancel(_, reply) => drop(reply.send(Err(no))),
            DriverCommand::Decide { reply, .. } => drop(reply.send(Err(no))),
            DriverCommand::Rewind { reply, .. } => drop(reply.send(Err(no))),
            DriverCommand::Copy { reply, .. } => drop(reply.send(Err(no))),
            DriverCommand::BeginCopy { reply, .. } => drop(reply.send(Err(no))),
            DriverCommand::FireTimers(done) => drop(done.send(())),
            // Dropped: without a reply, the relaunch compares the session with the store.
            DriverCommand::Relaunch(_) => {}
        }
    }
}

impl Driver {
    /// Decides one command: adds its records to the batch, and its reply waits for the batch's
    /// sync.
    pub(super) async fn decide(&mut self, command: DriverCommand, batch: &mut CommitBatch) {
        match command {
            DriverCommand::Create(new, reply) => match Box::pin(self.create(new, batch)).await {
                Ok(created) => batch.answer(reply, created),
                Err(no) => drop(reply.send(Err(no))),
            },
            DriverCommand::Send {
                message,
                wait,
                reply,
            } => match self.send(message, batch) {
                Ok(accepted) => match wait.filter(|_| !accepted.duplicate) {
                    Some(wait) => {
                        self.waiters.push((accepted.message.clone(), wait));
                        batch.answer_in_time(reply, accepted);
                    }
                    None => batch.answer(reply, accepted),
                },
                Err(no) => drop(reply.send(Err(no))),
            },
            // Boxed: a rare command must not enlarge the future of every driver.
            DriverCommand::Close(reply) => Box::pin(self.act(batch, reply, Session::close)).await,
            DriverCommand::Cancel(scope, reply) => {
                Box::pin(self.cancel(&scope, batch, reply)).await
            }
            DriverCommand::Resume(reply) => match Box::pin(self.resume(batch)).await {
                Ok(view) => batch.answer(reply, view),
                Err(no) => drop(reply.send(Err(no))),
            },
            DriverCommand::Adopt { adoption, reply } => {
                match Box::pin(self.adopt(adoption, batch)).await {
                    Ok(view) => batch.answer(reply, view),
                    Err(no) => drop(reply.send(Err(no))),
                }
            }
            DriverCommand::Retry {
                message,
                force,
                reply,
            } => match self.retry(message, force, batch) {
                Ok(accepted) => batch.answer(reply, accepted),
                Err(no) => drop(reply.send(Err(no))),
            },
            DriverCommand::Decide { id, answer, reply } => {
                self.take_answer(&id, &answer, batch, reply)
            }
            DriverCommand::Rewind { to, by, reply } => {
                match Box::pin(self.rewind(&to, by, batch)).await {
                    Ok(rewound) => batch.answer(reply, rewound),
                    Err(no) => drop(reply.send(Err(no))),
                }
            }
            // Reads only.
            DriverCommand::Copy { at, reply } => {
                drop(reply.send(Box::pin(self.copy(at.as_ref(), batch)).await));
            }
            DriverCommand::BeginCopy {
                copy,
                how,
                by,
                reply,
            } => match Box::pin(self.begin_copy(*copy, how, by, batch)).await {
                Ok(view) => batch.answer(reply, view),
                Err(no) => drop(reply.send(Err(no))),
            },
            DriverCommand::FireTimers(done) => {
                self.expire(batch);
                self.fire_timers(batch);
                batch.done(done);
            }
            DriverCommand::Relaunch(reply) => {
                self.try_again(batch);
                self.relaunching.push(reply);
            }
        }
    }

    pub(super) fn limits(&self) -> Limits {
        let plugin = self
            .session
            .as_ref()
            .map(|session| session.identity.plugin.as_str());
        let plugin = plugin.and_then(|name| self.shared.live_config().plugin(name));
        plugin.map_or_else(Limits::default, |plugin| plugin.limits.clone())
    }

    pub(super) fn existing(&self) -> Result<&Session, Refusal> {
        self.session
            .as_ref()
            .ok_or_else(|| Refusal::UnknownSession(self.id.to_string()))
    }

    async fn create(
        &mut self,
        new: NewSession,
        batch: &mut CommitBatch,
    ) -> Result<(SessionView, bool), Refusal> {
        if let Some(session) = &self.session {
            if let Some(at) = session.progress.closed {
                return Err(Refusal::Closed { at });
            }
            if session.identity.plugin != new.plugin {
                return Err(Refusal::Exists { what: "plugin" });
            }
            let args: serde_json::Value =
                serde_json::from_str(&session.identity.args).unwrap_or_default();
            if args != new.args {
                return Err(Refusal::Exists { what: "args" });
            }
            if let Some(labels) = new
                .labels
                .filter(|labels| *labels != session.identity.labels)
            {
                self.stage(
                    batch,
                    Record::Relabelled(Relabelled {
                        labels,
                        at: Self::now(),
                    }),
                );
            }
            return Ok((self.existing()?.view(&self.id), false));
        }
        self.shared.space.check()?;
        let present = self.plugin(&new.plugin)?;
        let args = new.args.to_string();
        present.check_args(&args)?;
        let read = ClockReading::now();
        let now = read.wall;
        let mut job = GuestJob {
            component: present.component.clone(),
            context: Context {
                session: self.id.clone(),
                plugin: new.plugin.clone(),
                args: args.clone(),
            },
            limits: present.limits.clone(),
            grants: present.grants.clone(),
            timers: Vec::new(),
            now,
            seed: rand::random(),
        };
        let (first, _) = self.next_plugin(&new.plugin, &present, None).await;
        let opened = self.open_on(&mut job, &present, first).await?;
        if opened.is_err() {
            self.shared.rollouts.left(&new.plugin, first, &self.id);
        }
        let proven = self.shared.rollouts.instead_of(&new.plugin, first);
        let (opened, component, failed) = match (opened, proven) {
            (Ok(opened), _) => (opened, first, None),
            (Err(failure), Some(proven)) if self.is_guests(&failure) => {
                let opened = self.open_on(&mut job, &present, proven).await?;
                let failed = super::end::failure_of(failure).text;
                (opened.map_err(open_failed)?, proven, Some(failed))
            }
            (Err(failure), _) => return Err(open_failed(failure)),
        };
        self.log_guest(&opened.logs, opened.logs_dropped, 0);
        let record = Record::Created(Created {
            plugin: new.plugin.clone(),
            args,
            labels: new.labels.unwrap_or_default(),
            generation: self.shared.settings.generation,
            component,
            schema: opened.schema,
            outputs: opened.outputs,
            timers: opened.timers,
            at: now,
        });
        self.stage_timers(batch, record, read);
        if let Some(failed) = failed {
            let reason = format!("it cannot be created on it: {failed}");
            let moved = self.existing()?.go_back(first, component, &reason, now);
            if let (Some(moved), Ok(())) = (moved, self.shared.store.may_move_sessions()) {
                self.stage(batch, Record::Moved(moved));
            }
            self.count_failure(first, None, &reason);
        }
        let snapshot = Snapshot {
            plugin: new.plugin,
            component,
            schema: opened.schema,
            data: opened.data,
        };
        let bytes = snapshot.encode();
        let session = self.existing()?;
        batch.snapshot(session.point(0, bytes.len(), Owed::default(), now), bytes);
        self.proven = true;
        Ok((self.existing()?.view(&self.id), true))
    }

    /// Opens a guest on this component.
    async fn open_on(
        &self,
        job: &mut GuestJob,
        present: &Arc<Plugin>,
        component: Digest,
    ) -> Result<Result<Product, GuestFailure>, Refusal> {
        let name = &job.context.plugin;
        let plugin = self.shared.plugin_on(name, present, component).await;
        let plugin = plugin.map_err(|error| Refusal::NothingFound {
            reason: error.to_string(),
        })?;
        job.component = plugin.component.clone();
        job.limits = plugin.limits.clone();
        job.grants = plugin.grants.clone();
        let mut gate = self.gate.clone();
        tokio::select! {
            opened = self.shared.engine.open(job) => Ok(opened),
            // Nothing has been created yet: the client may retry with the next worker.
            _ = gate.wait_for(|gate| *gate == Gate::Closing) => Err(Refusal::Restarting),
        }
    }

    fn send(&mut self, message: NewMessage, batch: &mut CommitBatch) -> Result<Accepted, Refusal> {
        let session = self.existing()?;
        if let Some(key) = &message.key {
            if let Some(at) = session.progress.closed {
                return Err(Refusal::Closed { at });
            }
            let unwritten = batch.known_key(&key.key);
            let known = match unwritten.or_else(|| self.unwritten_key(&key.key)) {
                Some(known) => Some(known),
                None => self
                    .shared
                    .store
                    .key(&self.id, &key.key)
                    .map_err(refusal)?
                    .map(|known| (known.message, known.body)),
            };
            if let Some((message, body)) = known {
                if body != key.body {
                    return Err(Refusal::KeyReused);
                }
                let cursor = message.cursor().unwrap_or_default();
                return Ok(Accepted {
                    message,
                    cursor,
                    timeline: session.progress.timeline.of(cursor).cloned(),
                    duplicate: true,
                });
            }
        }
        let record = session.receive(message, &self.limits(), Self::now())?;
        self.shared.space.check()?;
        self.stage(batch, record);
        if *self.gate.borrow() != Gate::Open {
            self.shared
                .turns
                .held
                .fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
        let cursor = self.existing()?.cursor();
        Ok(Accepted {
            message: MessageId::on(self.timeline(), cursor),
            cursor,
            timeline: self.timeline().cloned(),
            duplicate: false,
        })
    }

    /// Carries out an operator's action; if it ends the open turn, the running guest is aborted.
    async fn act(
        &mut self,
        batch: &mut CommitBatch,
        reply: ReplyTo<SessionView>,
        decide: impl Fn(&Session, UnixMillis) -> Result<Vec<Record>, Refusal>,
    ) {
        let decide = |driver: &Self| decide(driver.existing()?, Self::now());
        let records = match self.carry_out(batch, decide).await {
            Ok(records) => records,
            Err(no) => return drop(reply.send(Err(no))),
        };
        for record in records {
            self.stage(batch, record);
        }
        if let Some(session) = &self.session {
            batch.answer(reply, session.view(&self.id));
        }
    }

    fn retry(
        &mut self,
        message: Option<MessageId>,
        force: bool,
        batch: &mut CommitBatch,
    ) -> Result<Accepted, Refusal> {
        let session = self.existing()?;
        let store = &self.shared.store;
        let letter = match &message {
            Some(message) => store.dead_letter(&self.id, message).map_err(refusal)?,
            None => store
                .dead(&self.id, None, usize::MAX)
                .map_err(refusal)?
                .pop(),
        };
        let letter = letter.ok_or(Refusal::NoDeadLetter)?;
        let message = letter.message.id.clone();
        if session.queue.iter().any(|queued| queued.id == message) {
            // A second retry arrived before the first was synced.
            return Err(Refusal::NoDeadLetter);
        }
        let cursor = session.cursor();
        let record = session.retry(letter, force, &self.limits(), Self::now())?;
        self.shared.space.check()?;
        batch.acted(PointAct::Retry);
        self.stage(batch, record);
        Ok(Accepted {
            message,
            cursor,
            timeline: self.timeline().cloned(),
            duplicate: false,
        })
    }

    /// Resumes a faulted session after a restart if its plugin's component has changed in a way
    /// that may repair the fault.
    fn try_again(&mut self, batch: &mut CommitBatch) {
        let mended = self.session.as_ref().is_some_and(|session| {
            let name = &session.identity.plugin;
            let (Ok(present), Ok(next)) = (self.plugin(name), self.configured(session)) else {
                return false;
            };
            let rollouts = &self.shared.rollouts;
            let offered = rollouts.offered(name, present.component.digest());
            let by_offered = session.mended_by(offered);
            if by_offered {
                // It has nothing to lose.
                rollouts.admit(name, offered, &self.id);
            }
            by_offered || session.mended_by(next)
        });
        let resumed = self
            .session
            .as_ref()
            .and_then(|s| s.resume(Self::now()).ok());
        if let Some(record) = resumed.filter(|_| mended) {
            self.stage(batch, record);
        }
    }
}

fn open_failed(failure: GuestFailure) -> Refusal {
    Refusal::OpenFailed(super::end::failure_of(failure))
}
