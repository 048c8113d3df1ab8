//! The end of a running turn from outside: somebody cancels it, or closes its session.

use crate::domain::{CancelScope, Cancelled, Record, Refusal, SessionView, TurnEnd};

use super::Driver;
use super::begin::GuestTask;
use super::commit::CommitBatch;
use crate::session::mailbox::{DriverRequest, ReplyTo};

impl Driver {
    /// Gives work up, and answers what, once that is synced.
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

    /// Decides, and where that ends the turn that runs, ends its guest first: it must not outlive
    /// its turn, and a result that it had on its way belongs to what the turn has done. Then that is
    /// decided again, on what is known now.
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

/// What a turn that has been cut had on its way to the log: results are kept, and nothing else.
pub(super) fn last_results(running: &mut GuestTask) -> Vec<Record> {
    let mut results = Vec::new();
    while let Ok(ask) = running.asks.try_recv() {
        let DriverRequest::Record { records, .. } = ask else {
            continue;
        };
        // A step that was about to begin has not begun.
        if !records.iter().any(|r| matches!(r, Record::Planned(_))) {
            results.extend(records);
        }
    }
    results
}
