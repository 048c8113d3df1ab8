//! The end of a turn: it is committed to disk as a whole or not at all.

use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};

use metrics::Counter;

use crate::deliberate_bugs;
use crate::domain::{
    FailureCode, Record, Session, Snapshot, TimerOp, TurnEnd, TurnEnded as EndedRecord, TurnFailure,
};
use crate::engine::{GuestFailure, LogLine, Product};

use super::Driver;
use super::batch::CommitBatch;
use super::guest_task::{GuestEnded, GuestTask};
use crate::session::drain::Gate;

/// Kept, because to find it among all metrics takes longer than to count.
static COMPLETED: LazyLock<Counter> =
    LazyLock::new(|| metrics::counter!("abide_turns_total", "outcome" => "completed"));

/// The largest snapshot that a driver keeps in memory for the next turn, in bytes.
const SNAPSHOT_IN_MEMORY_BYTES: usize = 32 << 10;

impl Driver {
    /// Commits the turn's result or its failure.
    pub(super) async fn end(&mut self, ended: GuestEnded) {
        let GuestEnded { running, result } = ended;
        self.reserve_bytes = 0;
        match result {
            Ok(product) => self.complete(&running, product).await,
            Err(GuestFailure::Restore { text, .. }) => {
                Box::pin(self.cannot_restore(running.begun().component, text)).await;
            }
            Err(GuestFailure::Outgrown { reserve_bytes }) => self.outgrown(&running, reserve_bytes),
            Err(failure) => {
                let is_guests = self.is_guests(&failure);
                let failure = failure_of(failure);
                Box::pin(self.failed(running.begun(), failure, is_guests)).await;
            }
        }
    }

    /// Leaves the turn open: it begins again from its snapshot and its journal, once it may have this
    /// much memory. This is no failure, and its steps are answered from the journal.
    fn outgrown(&mut self, running: &GuestTask, reserve_bytes: u64) {
        tracing::info!(
            session = %self.id, turn = running.begun().turn, reserve_bytes,
            "the guests' memory is used up; the turn begins again with a larger reservation"
        );
        self.reserve_bytes = reserve_bytes;
        self.stays_open();
    }

    /// Counts a turn that stays open although its guest has ended.
    pub(super) fn stays_open(&self) {
        if *self.gate.borrow() != Gate::Open {
            // It had no step to freeze before. Counted before its guard is dropped, as in `cut`.
            self.shared.turns.cut.fetch_add(1, Ordering::SeqCst);
        }
    }

    async fn complete(&mut self, running: &GuestTask, product: Product) {
        let begun = running.begun();
        let Some(plugin) = self.session.as_ref().map(|s| s.identity.plugin.clone()) else {
            return;
        };
        self.log_guest(&product.logs, product.logs_dropped, begun.turn);
        let timers: Vec<TimerOp> = product.timers;
        let timers_set = !timers.is_empty();
        let open = self.session.as_ref().and_then(|s| s.progress.open.as_ref());
        let usage = open.map(|open| open.usage).unwrap_or_default();
        let again = deliberate_bugs::consumed_again(open, begun.attempt);
        let record = Record::Ended(EndedRecord {
            turn: begun.turn,
            message: begun.message.clone(),
            end: TurnEnd::Completed {
                notice: begun.notice.clone().map(Box::new),
                further_notices: running.taken.notices.clone(),
                component: begun.component,
                schema: product.schema,
                outputs: product.outputs,
                timers,
                received: running.taken.messages.clone(),
                generation: begun.generation,
                crc: Some(crc32fast::hash(&product.data)),
            },
            effects: 0,
            usage,
            at: Self::now(),
        });
        let snapshot = Snapshot {
            plugin,
            component: begun.component,
            schema: product.schema,
            data: product.data,
        };
        let mut batch = CommitBatch::default();
        self.end_pin(&mut batch, begun.component);
        let since = self.session.as_ref().map(Session::told_by_commit);
        let at = self.stage_timers(&mut batch, record, running.read);
        let bytes = snapshot.encode();
        if let Some(session) = &self.session {
            let since = since.unwrap_or_default();
            let point = session.point(begun.turn, bytes.len(), since, Self::now());
            batch.snapshot(point, bytes);
        }
        deliberate_bugs::ended(&mut self.session, again);
        if self.commit(batch).await {
            self.proven = true;
            let small = snapshot.data.len() <= SNAPSHOT_IN_MEMORY_BYTES;
            let room = small && !self.shared.memory.is_scarce();
            self.snapshot = room.then(|| (at, Arc::new(snapshot)));
            COMPLETED.increment(1);
            self.count_commit(begun);
            if timers_set {
                self.timers_may_have_changed();
            }
        }
    }

    pub(super) fn timers_may_have_changed(&self) {
        self.shared.timers_set.notify_waiters();
    }

    pub(super) fn log_guest(&self, lines: &[LogLine], dropped: u64, turn: u64) {
        for line in lines {
            let (session, text) = (&self.id, &line.text);
            match line.level {
                crate::engine::LogLevel::Debug => tracing::debug!(%session, turn, "guest: {text}"),
                crate::engine::LogLevel::Info => tracing::info!(%session, turn, "guest: {text}"),
                crate::engine::LogLevel::Warn => tracing::warn!(%session, turn, "guest: {text}"),
                crate::engine::LogLevel::Error => tracing::error!(%session, turn, "guest: {text}"),
            }
        }
        if dropped > 0 {
            let session = &self.id;
            tracing::warn!(%session, turn, dropped, "guest: log lines over `limits.log_lines`");
        }
    }
}

/// Converts a guest's failure into the turn's failure.
pub(super) fn failure_of(failure: GuestFailure) -> TurnFailure {
    match failure {
        GuestFailure::Failed(failure) => failure,
        GuestFailure::Restore { text, .. } => TurnFailure {
            code: FailureCode::Restore,
            text,
        },
        failure @ (GuestFailure::Outgrown { .. } | GuestFailure::Host(_)) => TurnFailure {
            code: FailureCode::Trap,
            text: failure.to_string(),
        },
    }
}
