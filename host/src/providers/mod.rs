//! The services outside the daemon that steps use: models, tool servers and HTTP.

mod http;
mod http_body;
mod llm;
mod lossy;
mod mcp;

pub use http::{HttpSender, NoHttp};
pub use http_body::Hidden;
pub use llm::{BadProvider, LlmProvider, LlmProviders};
pub use mcp::{Endpoint, Look, Program, ToolServer, ToolServerAt, ToolServers};
