//! The HTTP API of the daemon: JSON over HTTP/1.1, events as server-sent events, errors as problem
//! documents.
//!
//! ```text
//!   server (connections) -> router -> auth -> handlers -> session::Clients
//!                                  pages, rules       \-> Control -> the daemon
//! ```

mod approvals;
mod audit;
mod auth;
mod backups;
mod body;
mod control;
mod daemon;
mod dead;
mod declared;
mod events;
mod extract;
mod messages;
mod metrics;
mod openai;
mod openapi;
mod pages;
mod plugin_trial;
mod problem;
mod refused;
mod router;
mod rules;
pub mod server;
mod sessions;
mod standing;
mod tokens;
mod turns;
mod way_back;

use std::ops::Deref;
use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;

pub use auth::{Access, TokenDigest};
pub use control::{Acceptance, BackupRefusal, Control, ControlRequest};
pub use openapi::document as openapi_document;
pub use pages::Pages;
pub use problem::Problem;
pub use refused::{RefusalKind, RefusedApi, ServiceRefusal, refused_router};
pub use router::router;

use crate::access::{AuditLog, Tokens};
use crate::session::Clients;

/// The smallest useful limit of a request's body, in bytes; beyond it, the limit follows from the
/// largest message that a plugin accepts.
pub const BODY_MIN_BYTES: usize = 64 << 10;

/// The state that the handlers share. Each request clones it a few times, which is cheap.
#[derive(Clone)]
pub struct Api(Arc<ApiParts>);

/// See [`Api`].
pub struct ApiParts {
    pub sessions: Clients,
    pub control: Control,
    pub access: Arc<Access>,
    pub tokens: Tokens,
    pub audit: AuditLog,
    /// The source of `/metrics`.
    pub metrics: PrometheusHandle,
}

impl Deref for Api {
    type Target = ApiParts;

    fn deref(&self) -> &ApiParts {
        &self.0
    }
}

impl Api {
    pub fn new(parts: ApiParts) -> Self {
        Self(Arc::new(parts))
    }

    /// Returns the limit of a request's body, large enough for every message (or argument) that a
    /// plugin accepts: a byte takes up to six in JSON (`\u0000`). The limits of a session are its
    /// plugin's.
    fn body_bytes(&self) -> usize {
        let largest = self.sessions.live_config().plugins.largest_input_bytes();
        let largest = usize::try_from(largest).unwrap_or(usize::MAX);
        largest.saturating_mul(6).saturating_add(BODY_MIN_BYTES)
    }
}
