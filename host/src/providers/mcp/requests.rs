//! The requests that a server has not answered yet, and what is needed to match an answer to them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, ClientRequest, GetMeta as _, JsonRpcMessage,
    RequestId,
};
use serde_json::Value;

use super::delivery::Delivery;

/// The unanswered requests of one connection. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Requests(Arc<Mutex<HashMap<i64, PendingRequest>>>);

/// A request that waits for its answer.
#[derive(Clone)]
pub(super) struct PendingRequest {
    /// Whether this is `initialize`, whose answer the SDK reads itself.
    pub(super) opens: bool,
    /// The progress token under which the server reports progress.
    token: Option<String>,
    sending: Option<Delivery>,
}

impl Requests {
    /// Registers a message that is about to be sent.
    pub(super) fn sent(&self, message: &ClientJsonRpcMessage) {
        match message {
            JsonRpcMessage::Request(asked) => {
                if let RequestId::Number(id) = asked.id {
                    let token = asked.request.get_meta().get_progress_token();
                    let request = PendingRequest {
                        opens: matches!(asked.request, ClientRequest::InitializeRequest(_)),
                        token: token.map(|token| token.0.to_string()),
                        sending: Delivery::of(message),
                    };
                    self.all().insert(id, request);
                }
            }
            JsonRpcMessage::Notification(notice) => {
                if let ClientNotification::CancelledNotification(cancelled) = &notice.notification
                    && let Some(RequestId::Number(id)) = cancelled.params.request_id
                {
                    self.forget(id);
                }
            }
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => {}
        }
    }

    /// Removes a request whose answer is no longer awaited.
    pub(super) fn forget(&self, id: i64) -> Option<PendingRequest> {
        self.all().remove(&id)
    }

    /// Returns whether the request waits for its answer.
    pub(super) fn wait_for(&self, id: i64) -> bool {
        self.all().contains_key(&id)
    }

    /// Returns the waiting request if there is exactly one.
    pub(super) fn only(&self) -> Option<i64> {
        let all = self.all();
        let mut ids = all.keys();
        ids.next().copied().filter(|_| ids.next().is_none())
    }

    /// Reports progress to the request with this progress token.
    pub(super) fn progressed(&self, token: &Value) {
        let token = match token {
            Value::String(token) => token.clone(),
            Value::Number(token) => token.to_string(),
            _ => return,
        };
        let all = self.all();
        let mut named = all
            .values()
            .filter(|request| request.token.as_deref() == Some(&token));
        if let Some(sending) = named.next().and_then(|request| request.sending.as_ref()) {
            sending.progressed();
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<i64, PendingRequest>> {
        // A poisoned lock is safe to use: each change of the map is a single call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
