//! The progress and fate of a request, as the transport reports it to the caller.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rmcp::model::{ClientJsonRpcMessage, GetExtensions as _, JsonRpcMessage};
use tokio::sync::Notify;

/// A request on its way. The first transition wins: either the writer begins, or the caller gives
/// up, and then not a byte of the request is ever written.
#[derive(Clone, Debug, Default)]
pub(super) struct Delivery(Arc<DeliveryState>);

#[derive(Debug, Default)]
struct DeliveryState {
    step: AtomicU8,
    fate: Mutex<Option<DeliveryFate>>,
    progress: Notify,
}

const WAITS: u8 = 0;
const BEGUN: u8 = 1;
const GIVEN_UP: u8 = 2;

/// The fate of a request that has no answer, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DeliveryFate {
    /// The request was not sent completely.
    #[error("it was not sent")]
    NotSent,
    /// The request did not reach the server or was rejected there: it has certainly not been acted
    /// on.
    #[error("{0}")]
    NotTaken(String),
    /// Like `NotTaken`: the server no longer knows the session.
    #[error("it does not know this session any more")]
    Forgotten,
    /// The request was acted on, and the answer exceeded the size bound.
    #[error("its answer is too long")]
    TooLong,
    /// It is unknown whether the request was acted on.
    #[error("{0}")]
    Unclear(String),
}

impl Delivery {
    /// Returns the delivery that the caller attached to a message, if any.
    pub(super) fn of(message: &ClientJsonRpcMessage) -> Option<Self> {
        match message {
            JsonRpcMessage::Request(asked) => asked.request.extensions().get::<Self>().cloned(),
            _ => None,
        }
    }

    /// A single atomic transition decides the race between the writer and the caller.
    fn leave_waiting_for(&self, next: u8) -> bool {
        self.0
            .step
            .compare_exchange(WAITS, next, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Claims the request for writing; returns whether it may be written.
    pub(super) fn begin(&self) -> bool {
        self.leave_waiting_for(BEGUN)
    }

    /// Gives the request up; returns whether the server has certainly not been sent it and never
    /// will be.
    pub(super) fn give_up(&self) -> bool {
        self.leave_waiting_for(GIVEN_UP) || self.0.step.load(Ordering::Acquire) == GIVEN_UP
    }

    /// Records the fate, as the transport sees it now.
    pub(super) fn settle(&self, fate: DeliveryFate) {
        // A poisoned lock is safe to use: the value is replaced in one step.
        *self.0.fate.lock().unwrap_or_else(PoisonError::into_inner) = Some(fate);
    }

    /// Records that the server reported progress.
    pub(super) fn progressed(&self) {
        self.0.progress.notify_one();
    }

    /// Waits for the next progress report; returns at once if one came since the last wait.
    pub(super) async fn progress(&self) {
        self.0.progress.notified().await;
    }

    pub(super) fn fate(&self) -> Option<DeliveryFate> {
        let fate = self.0.fate.lock().unwrap_or_else(PoisonError::into_inner);
        fate.clone()
    }
}
