//! What steps reach outside of the daemon.

mod llm;
mod mcp;

pub use llm::{ApiKey, BadProvider, LlmProvider, LlmProviders};
pub use mcp::{Look, ToolServer, ToolServers};
