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
pub(super) use error::OpenAiError;
pub(super) use models::{__path_model, __path_models, model, models};
