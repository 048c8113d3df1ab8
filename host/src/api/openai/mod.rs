//! OpenAI's chat completions API, so that existing clients can talk to durable sessions: a model is
//! a plugin, a conversation is a session, and only the last message of a request is new to the
//! session.

mod chat;
mod error;
mod models;
mod request;
mod stream_state;
mod wire;

pub(super) use chat::{__path_complete, complete};
pub(super) use error::{ErrorBody, OpenAiError};
pub(super) use models::{__path_model, __path_models, model, models};

/// Whether a path is of this API, whose clients read their own form of errors.
pub(super) fn is_path(path: &str) -> bool {
    path.starts_with("/v1/chat/") || path.starts_with("/v1/models")
}
