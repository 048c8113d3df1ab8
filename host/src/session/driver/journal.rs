//! The requests of the running turn to its driver: appending its steps to the log, and taking
//! messages that have arrived in the inbox meanwhile.

use tokio::sync::oneshot;

use crate::deliberate_bugs;
use crate::domain::{FailureCode, FromInbox, Message, Record, TurnFailure};
use crate::store::Durability;

use super::Driver;
use super::batch::CommitBatch;
use super::begin::Inbox;
use super::cancel::last_results;
use super::guest_task::GuestTask;
use super::park::log_parked;
use crate::session::mailbox::{DriverRequest, Urgency};

impl Driver {
    pub(super) async fn answer(&mut self, ask: DriverRequest) {
        match ask {
            DriverRequest::Record {
                records,
                urgency,
                reply,
            } => self.record(records, urgency, reply).await,
            DriverRequest::Park { records } => self.park(records).await,
            DriverRequest::Receive { reply } => self.receive(reply),
        }
    }

    /// Commits the step results that an aborted turn had on their way to the log, and nothing else.
    pub(super) async fn hear_last(&mut self, running: &mut GuestTask) {
        let results = last_results(running);
        if !results.is_empty() {
            let mut batch = CommitBatch::default();
            for record in results {
                self.stage(&mut batch, record);
            }
            self.commit(batch).await;
        }
    }

    async fn record(
        &mut self,
        records: Vec<Record>,
        mut urgency: Urgency,
        reply: oneshot::Sender<Result<(), TurnFailure>>,
    ) {
        let mut batch = CommitBatch::default();
        for record in records {
            log_parked(&record, &self.id);
            self.stage(&mut batch, record);
        }
        self.acquit();
        let verdict = self.within_journal();
        if matches!(urgency, Urgency::First) {
            deliberate_bugs::planned(&mut urgency, Urgency::Lazy);
        }
        let written = match urgency {
            Urgency::First => self.commit(batch).await,
            Urgency::Soon => self.commit_later(batch, Durability::Synced),
            Urgency::Lazy => self.commit_later(batch, Durability::Lazy),
        };
        if written {
            // An error means that the turn is being aborted. After a failed write no reply is sent:
            // the turn is aborted then, and must not continue.
            let _ = reply.send(verdict);
        }
    }

    /// Lets other suspects begin once a completed step has reset the count of deaths.
    fn acquit(&mut self) {
        let open = self
            .session
            .as_ref()
            .and_then(|session| session.progress.open.as_ref());
        if open.is_some_and(|open| open.begun.deaths == 0)
            && let Some(running) = &mut self.running
        {
            running.alone = None;
        }
    }

    fn within_journal(&self) -> Result<(), TurnFailure> {
        let Some(session) = &self.session else {
            return Ok(());
        };
        let bytes = session
            .progress
            .open
            .as_ref()
            .map_or(0, |o| o.journal.bytes);
        let limit = self.limits().journal_bytes;
        if bytes <= limit {
            return Ok(());
        }
        let plugin = &session.identity.plugin;
        Err(TurnFailure {
            code: FailureCode::Limit,
            text: format!(
                "the results of the turn's steps have {bytes} bytes, `limits.journal` allows \
                 {limit}; raise plugins.{plugin}.limits.journal if it needs more"
            ),
        })
    }

    /// Lets the running turn take from the inbox: the recovery message that it is owed and the
    /// messages that arrived since it began. They are consumed when the turn commits, and stay in
    /// the inbox if it does not.
    fn receive(&mut self, reply: oneshot::Sender<FromInbox>) {
        let limit = self.limits().event_bytes;
        let (Some(running), Some(session)) = (&mut self.running, &self.session) else {
            return;
        };
        let Some(open) = &session.progress.open else {
            return;
        };
        let noticed = running.taken.notices.iter().map(|n| n.generation).max();
        let notice = session
            .owed_meanwhile(&self.shared.settings.restarts)
            .filter(|notice| Some(notice.generation) > noticed);
        let inbox = Inbox {
            id: &self.id,
            held: &self.held,
            tail: &self.tail,
            store: &self.shared.store,
        };
        let (mut messages, mut bytes): (Vec<Message>, u64) = (Vec::new(), 0);
        for queued in &session.queue {
            if bytes >= limit {
                // The rest comes with the guest's next `receive`.
                break;
            }
            // A message that was queued before this turn began gets its own turn.
            if queued.pos < open.since || running.taken.messages.contains(&queued.id) {
                continue;
            }
            match inbox.message(queued.pos) {
                Ok(Some(message)) => {
                    bytes += message.text.len() as u64;
                    messages.push(message);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(session = %self.id, %error, "a message cannot be read");
                    break;
                }
            }
        }
        let received = FromInbox { notice, messages };
        running.taken.add(&received);
        // An error means that the turn has just ended.
        let _ = reply.send(received);
    }
}
