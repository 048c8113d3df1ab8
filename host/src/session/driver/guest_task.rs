//! The driver's handle of the task that runs a turn's guest.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::domain::{
    Begun, ClockReading, FailureCode, FromInbox, Journal, MessageId, Notice, StepResult,
    TurnFailure,
};
use crate::engine::{GuestFailure, Product};
use crate::session::drain::TurnGuard;
use crate::session::mailbox::DriverRequest;
use crate::session::suspects::RunsAlone;

/// A running turn.
pub(super) struct GuestTask {
    pub(super) task: JoinHandle<Result<Product, GuestFailure>>,
    pub(super) begun: Begun,
    /// The clock when this attempt began.
    pub(super) read: ClockReading,
    pub(super) asks: mpsc::Receiver<DriverRequest>,
    /// The messages and notices that the turn took from the inbox, consumed when it commits.
    pub(super) taken: Consumed,
    /// Held until the turn's end is on disk: a drain waits for that, not only for the guest.
    pub(super) guard: Arc<TurnGuard>,
    /// Set while the turn may be what takes the worker down.
    pub(super) alone: Option<RunsAlone>,
}

/// Aborts the turn when its driver panics: no driver would receive its events any more, and a drain
/// would wait for it.
impl Drop for GuestTask {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.task.abort();
        }
    }
}

/// A turn whose guest has ended.
pub(super) struct GuestEnded {
    pub(super) running: GuestTask,
    pub(super) result: Result<Product, GuestFailure>,
}

impl GuestTask {
    pub(super) fn begun(&self) -> &Begun {
        &self.begun
    }

    /// Returns whether the turn is frozen before a step by a drain.
    pub(super) fn is_frozen(&self) -> bool {
        self.guard.is_frozen()
    }

    /// Aborts the turn; returns its result if it had just ended by itself.
    pub(super) async fn abort(&mut self) -> Option<Result<Product, GuestFailure>> {
        self.task.abort();
        (&mut self.task).await.ok()
    }
}

/// An event of a running turn.
pub(super) enum TurnEvent {
    Asks(DriverRequest),
    Ended(Box<GuestEnded>),
}

/// Waits for the next event of the running turn; pending forever without one. Cancel safe.
pub(super) async fn next_event(running: &mut Option<GuestTask>) -> TurnEvent {
    let Some(GuestTask { task, asks, .. }) = running else {
        return std::future::pending().await;
    };
    let result = tokio::select! {
        biased;
        // Before the turn's end: its last requests are part of the turn.
        Some(ask) = asks.recv() => return TurnEvent::Asks(ask),
        result = task => result,
    };
    let result = result.unwrap_or_else(|error| {
        let text = format!("the host failed while it ran the guest ({error}); please report it");
        Err(GuestFailure::Failed(TurnFailure {
            code: FailureCode::Trap,
            text,
        }))
    });
    match running.take() {
        Some(running) => TurnEvent::Ended(Box::new(GuestEnded { running, result })),
        None => std::future::pending().await,
    }
}

/// The messages and notices that a turn took from the inbox, consumed when the turn commits.
#[derive(Default)]
pub(super) struct Consumed {
    pub(super) messages: Vec<MessageId>,
    pub(super) notices: Vec<Notice>,
}

impl Consumed {
    /// Returns what an interrupted turn had taken, according to its journal.
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

    pub(super) fn add(&mut self, received: &FromInbox) {
        let ids = received.messages.iter().map(|message| message.id.clone());
        self.messages.extend(ids);
        self.notices.extend(received.notice.clone());
    }
}
