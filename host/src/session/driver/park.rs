//! Turns that wait for a human: parking, answers and expiry of approvals.

use crate::domain::{Answer, Approval, ApprovalId, ClockReading, Record, Refusal};

use super::Driver;
use super::batch::CommitBatch;
use crate::session::mailbox::ReplyTo;
use crate::store::EXPIRY_TIMER;

impl Driver {
    /// Asks a human and parks the turn. Its guest is dropped, because the journal is its state: a
    /// parked turn takes neither memory nor a place among the running turns, however long it waits.
    pub(super) async fn park(&mut self, records: Vec<Record>) {
        let mut batch = CommitBatch::default();
        let read = ClockReading::now();
        for record in records {
            log_parked(&record, &self.id);
            if let Record::Asked(asked) = &record {
                let deadlines = &self.shared.deadlines;
                deadlines.set(&self.id, EXPIRY_TIMER, asked.expires_at, read);
            }
            self.stage(&mut batch, record);
        }
        if let Some(mut running) = self.running.take() {
            running.abort().await;
        }
        if self.commit(batch).await {
            // The approval's expiry is a timer too.
            self.timers_may_have_changed();
        }
    }

    /// Returns the approvals that the open turn has requested so far.
    pub(super) fn approvals(&self) -> Vec<Approval> {
        let open = self.session.as_ref().and_then(|s| s.progress.open.as_ref());
        open.map_or_else(Vec::new, |open| open.approvals.clone())
    }

    /// Records a human's answer, or replies with the approval's earlier decision.
    pub(super) fn take_answer(
        &mut self,
        id: &ApprovalId,
        answer: &Answer,
        batch: &mut CommitBatch,
        reply: ReplyTo<Approval>,
    ) {
        let unknown = || Refusal::UnknownApproval(id.to_string());
        let now = ClockReading::now();
        let time = self.approval_time(now);
        let decided = match &self.session {
            Some(session) => session.answer(id, answer, time, now.wall),
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

    /// Expires the approvals that were not answered in time.
    pub(super) fn expire(&mut self, batch: &mut CommitBatch) {
        let now = ClockReading::now();
        let time = self.approval_time(now);
        let session = self.session.as_ref();
        let expired = session.map(|session| session.expire(time, now.wall));
        for record in expired.unwrap_or_default() {
            log_parked(&record, &self.id);
            self.stage(batch, record);
        }
    }
}

/// Logs and counts an approval's change of status.
pub(super) fn log_parked(record: &Record, session: &crate::domain::SessionId) {
    let (status, tool) = match record {
        Record::Asked(asked) => ("asked", &asked.tool),
        Record::Decided(decided) => (decided.status.as_str(), &decided.tool),
        _ => return,
    };
    tracing::info!(%session, tool, status, "approval");
    metrics::counter!("abide_approvals_total", "status" => status).increment(1);
}
