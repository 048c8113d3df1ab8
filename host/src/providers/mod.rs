//! What steps reach outside of the daemon.

mod llm;

pub use llm::{ApiKey, BadProvider, LlmProvider, LlmProviders};
