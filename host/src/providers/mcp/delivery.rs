//! How far a request has come, and what became of it: told by the transport to the call.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rmcp::model::{ClientJsonRpcMessage, GetExtensions as _, JsonRpcMessage};
use tokio::sync::Notify;

/// A request on its way. Whoever makes the first move has it: the writer begins, or the caller
/// gives up, and then not a byte of the request is ever written.
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

/// What is known of a request that has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DeliveryFate {
    /// The server was not sent the whole of it.
    #[error("it was not sent")]
    NotSent,
    /// It did not reach the server, or was turned away there: it has certainly not been acted on.
    #[error("{0}")]
    NotTaken(String),
    /// As that, since the server does not know the session any more.
    #[error("it does not know this session any more")]
    Forgotten,
    /// It was acted on, and the answer was too long to be taken in.
    #[error("its answer is too long")]
    TooLong,
    /// Nobody knows whether it was acted on.
    #[error("{0}")]
    Unclear(String),
}

impl Delivery {
    /// That of a message, if somebody waits for its answer and wants to know.
    pub(super) fn of(message: &ClientJsonRpcMessage) -> Option<Self> {
        match message {
            JsonRpcMessage::Request(asked) => asked.request.extensions().get::<Self>().cloned(),
            _ => None,
        }
    }

    fn leave_waiting_for(&self, next: u8) -> bool {
        self.0
            .step
            .compare_exchange(WAITS, next, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Whether it may be written.
    pub(super) fn begin(&self) -> bool {
        self.leave_waiting_for(BEGUN)
    }

    /// Whether the server has certainly not been sent it, and will not be.
    pub(super) fn give_up(&self) -> bool {
        self.leave_waiting_for(GIVEN_UP) || self.0.step.load(Ordering::Acquire) == GIVEN_UP
    }

    /// What became of it, as the transport sees it now.
    pub(super) fn settle(&self, fate: DeliveryFate) {
        // A value is replaced in one step, whoever panics.
        *self.0.fate.lock().unwrap_or_else(PoisonError::into_inner) = Some(fate);
    }

    /// The server says that it works on it.
    pub(super) fn progressed(&self) {
        self.0.progress.notify_one();
    }

    /// Waits until the server says so, or has said so since this was asked last.
    pub(super) async fn progress(&self) {
        self.0.progress.notified().await;
    }

    pub(super) fn fate(&self) -> Option<DeliveryFate> {
        let fate = self.0.fate.lock().unwrap_or_else(PoisonError::into_inner);
        fate.clone()
    }
}
