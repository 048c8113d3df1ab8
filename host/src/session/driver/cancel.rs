//! Ending a running turn from outside: a client cancels it or closes its session.

use crate::domain::{CancelScope, Cancelled, PointAct, Record, Refusal, SessionView, TurnEnd};

use super::Driver;
use super::batch::CommitBatch;
use super::guest_task::GuestTask;
use crate::session::mailbox::{DriverRequest, ReplyTo};

impl Driver {
    /// Cancels work and replies with what was cancelled once that is synced.
    pub(super) async fn cancel(
        &mut self,
        scope: &CancelScope,
        batch: &mut CommitBatch,
        reply: ReplyTo<(SessionView, Cancelled)>,
    ) {
        let decide = |driver: &Self| {
            let running = driver.running.as_ref();
            let taken = running.map_or(&[][..], |running| &running.taken.messages);
            driver.existing()?.cancel(scope, taken, Self::now())
        };
        match self.carry_out(batch, decide).await {
            Ok(records) => {
                let cancelled = Cancelled::by(&records);
                if !records.is_empty() {
                    batch.acted(PointAct::Cancel);
                }
                for record in records {
                    self.stage(batch, record);
                }
                if let Some(session) = &self.session {
                    batch.answer(reply, (session.view(&self.id), cancelled));
                }
            }
            // An error means that the client has gone.
            Err(no) => drop(reply.send(Err(no))),
        }
    }

    /// Returns the records that `decide` yields. If they end the running turn, its guest is aborted
    /// first, because it must not outlive its turn; results it had on their way to the log belong
    /// to what the turn has done. `decide` then runs again on the state that includes them.
    pub(super) async fn carry_out(
        &mut self,
        batch: &mut CommitBatch,
        decide: impl Fn(&Self) -> Result<Vec<Record>, Refusal>,
    ) -> Result<Vec<Record>, Refusal> {
        let records = decide(self)?;
        if self.running.is_none() || !records.iter().any(ends_turn) {
            return Ok(records);
        }
        if let Some(mut running) = self.running.take() {
            running.abort().await;
            for record in last_results(&mut running) {
                self.stage(batch, record);
            }
        }
        decide(self)
    }
}

fn ends_turn(record: &Record) -> bool {
    matches!(record, Record::Ended(ended) if matches!(ended.end, TurnEnd::Failed(_)))
}

/// Returns the records that an aborted turn had on their way to the log: step results only.
pub(super) fn last_results(running: &mut GuestTask) -> Vec<Record> {
    let mut results = Vec::new();
    while let Ok(ask) = running.asks.try_recv() {
        let DriverRequest::Record { records, .. } = ask else {
            continue;
        };
        // The plan of a step that was about to begin is dropped: the step has not begun.
        if !records.iter().any(|r| matches!(r, Record::Planned(_))) {
            results.extend(records);
        }
    }
    results
}
