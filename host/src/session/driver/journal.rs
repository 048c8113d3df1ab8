//! What the running turn asks of its driver: to put its steps into the log, and for what came into
//! the inbox meanwhile.

use tokio::sync::oneshot;

use crate::domain::{
    FailureCode, FromInbox, Journal, Message, MessageId, Notice, Record, StepResult, TurnFailure,
};
use crate::failpoint;
use crate::store::Durability;

use super::Driver;
use super::begin::{GuestTask, Inbox};
use super::cancel::last_results;
use super::commit::CommitBatch;
use crate::session::mailbox::{DriverRequest, Urgency};

/// What a turn took from the inbox, to be consumed when it commits.
#[derive(Default)]
pub(super) struct Consumed {
    pub(super) messages: Vec<MessageId>,
    pub(super) notices: Vec<Notice>,
}

impl Consumed {
    /// What an interrupted turn had taken.
    pub(super) fn by(journal: &Journal) -> Self {
        let mut taken = Self::default();
        let done = journal.steps().iter().flat_map(|step| &step.done);
        for done in done.flatten() {
            if let Ok(StepResult::Receive(received)) = &done.result {
                taken.add(received);
            }
        }
        taken
    }

    fn add(&mut self, received: &FromInbox) {
        let ids = received.messages.iter().map(|message| message.id.clone());
        self.messages.extend(ids);
        self.notices.extend(received.notice.clone());
    }
}

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

    /// A turn that has been cut may have had a result on the way: it is kept, and nothing else.
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
        urgency: Urgency,
        reply: oneshot::Sender<Result<(), TurnFailure>>,
    ) {
        let mut batch = CommitBatch::default();
        for record in records {
            self.stage(&mut batch, record);
        }
        let verdict = self.within_journal();
        let written = match urgency {
            Urgency::First if failpoint::bug("plan-late") => {
                self.commit_later(batch, Durability::Lazy)
            }
            Urgency::First => self.commit(batch).await,
            Urgency::Soon => self.commit_later(batch, Durability::Synced),
            Urgency::Lazy => self.commit_later(batch, Durability::Lazy),
        };
        if written {
            // An error means that the turn is being cut. After a failed write it is: it must hear
            // nothing more.
            let _ = reply.send(verdict);
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

    /// The running turn takes what waits: the recovery message that it is owed, and what came since
    /// it began. It is consumed when the turn commits, and stays in the inbox if it does not.
    fn receive(&mut self, reply: oneshot::Sender<FromInbox>) {
        let limit = self.limits().event_bytes;
        let (Some(running), Some(session)) = (&mut self.running, &self.session) else {
            return;
        };
        let Some(open) = &session.progress.open else {
            return;
        };
        let told = running.taken.notices.iter().map(|n| n.generation).max();
        let notice = session
            .owed_meanwhile(&self.shared.settings.restarts)
            .filter(|notice| Some(notice.generation) > told);
        let inbox = Inbox {
            id: &self.id,
            held: &self.held,
            tail: &self.tail,
            store: &self.shared.store,
        };
        let (mut messages, mut bytes): (Vec<Message>, u64) = (Vec::new(), 0);
        for queued in &session.queue {
            if bytes >= limit {
                // The rest comes with the next look.
                break;
            }
            // What had been waiting when the turn began keeps its turn.
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
