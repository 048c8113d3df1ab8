//! Turns that wait for a human: parked, answered, expired.

use crate::domain::{Answer, Approval, ApprovalId, Record, Refusal};

use super::Driver;
use super::commit::CommitBatch;
use crate::session::mailbox::ReplyTo;

impl Driver {
    /// Asks a human. The turn's guest is dropped: its journal is its state, and it takes neither
    /// memory nor a place among those that run, for however long this lasts.
    pub(super) async fn park(&mut self, records: Vec<Record>) {
        let mut batch = CommitBatch::default();
        for record in records {
            log_parked(&record, &self.id);
            self.stage(&mut batch, record);
        }
        if let Some(mut running) = self.running.take() {
            running.abort().await;
        }
        if self.commit(batch).await {
            // When it expires.
            self.timers_may_have_changed();
        }
    }

    /// What the open turn asked so far.
    pub(super) fn approvals(&self) -> Vec<Approval> {
        let open = self.session.as_ref().and_then(|s| s.progress.open.as_ref());
        open.map_or_else(Vec::new, |open| open.approvals.clone())
    }

    /// Takes a human's answer, or says what became of the approval before.
    pub(super) fn take_answer(
        &mut self,
        id: &ApprovalId,
        answer: &Answer,
        batch: &mut CommitBatch,
        reply: ReplyTo<Approval>,
    ) {
        let unknown = || Refusal::UnknownApproval(id.to_string());
        let decided = match &self.session {
            Some(session) => session.answer(id, answer, Self::now()),
            None => Err(unknown()),
        };
        let approval = match decided {
            Ok(Ok(record)) => {
                log_parked(&record, &self.id);
                self.stage(batch, record);
                self.approvals().into_iter().find(|known| known.id == *id)
            }
            Ok(Err(before)) => Some(before),
            Err(no) => return drop(reply.send(Err(no))),
        };
        match approval {
            Some(approval) => batch.answer(reply, approval),
            None => drop(reply.send(Err(unknown()))),
        }
    }

    /// Ends the approvals that nobody answered in time.
    pub(super) fn expire(&mut self, batch: &mut CommitBatch) {
        let now = Self::now();
        let expired = self.session.as_ref().map(|session| session.expire(now));
        for record in expired.unwrap_or_default() {
            log_parked(&record, &self.id);
            self.stage(batch, record);
        }
    }
}

/// Counts it, and says so.
fn log_parked(record: &Record, session: &crate::domain::SessionId) {
    let (status, tool) = match record {
        Record::Asked(asked) => ("asked", &asked.tool),
        Record::Decided(decided) => (decided.status.as_str(), &decided.tool),
        _ => return,
    };
    tracing::info!(%session, tool, status, "approval");
    metrics::counter!("abide_approvals_total", "status" => status).increment(1);
}
