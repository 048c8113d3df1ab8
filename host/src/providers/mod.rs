//! What steps reach outside of the daemon.

mod common;
mod http;
mod llm;
mod lossy;
mod mcp;

pub use common::Hidden;
pub use http::{HttpSender, NoHttp};
pub use llm::{BadProvider, LlmProvider, LlmProviders};
pub use mcp::{Endpoint, Look, Program, ToolServer, ToolServerAt, ToolServers};
