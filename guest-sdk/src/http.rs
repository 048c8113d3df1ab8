//! Step: outgoing HTTP, to the hosts that the operator allows.

pub use crate::bindings::abide::session::http::{Request, Response};
use crate::{StepError, host};

/// Sends one request. A response of any status is a success; only a missing response is an error.
///
/// # Errors
/// See [`StepError`].
pub fn send(request: &Request) -> Result<Response, StepError> {
    host::http::send(request)
}

impl Request {
    /// Creates a request without headers and body.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }
}
