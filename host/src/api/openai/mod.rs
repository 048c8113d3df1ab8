//! OpenAI's chat completions, so that the clients people have talk to durable sessions: a model is a
//! plugin, a conversation is a session, and only the last message of a request is new to it.

mod chat;
mod error;
mod models;
mod request;
mod stream_state;
mod wire;

pub(super) use chat::{__path_complete, complete};
pub(super) use models::{__path_model, __path_models, model, models};
