//! What a tool server is configured to be. Whatever is secret in it is never shown.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::domain::Patterns;

/// Shorter values of variables are no secrets, and may stand in any text.
const SECRET_MIN_BYTES: usize = 6;

/// One `[mcp.NAME]`. Patterns are on the server's own names of tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolServer {
    /// How it is reached.
    pub at: ToolServerAt,
    /// How long it may take from its start to the list of its tools.
    pub start_timeout: Duration,
    /// How long a call may take.
    pub call_timeout: Duration,
    /// Tools that may be called again where it is unknown whether a call happened.
    pub repeatable: Patterns,
    /// Tools that may not, whatever the server says of them. Wins over `repeatable`.
    pub once: Patterns,
    /// Tools that are called only once a human has approved: [`super::ToolServers::look`] says so,
    /// and its caller sees to it.
    pub ask: Patterns,
    /// How long such an approval waits for its answer.
    pub ask_timeout: Duration,
    /// The largest image that a model is shown, in bytes; of others it is told.
    pub image_bytes: u64,
}

/// How a tool server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolServerAt {
    /// As a child, over its standard input and output.
    Command(Program),
    /// Over HTTP.
    Url(Endpoint),
}

/// A program that is a tool server.
#[derive(Clone, PartialEq, Eq)]
pub struct Program {
    /// The program; with a `/` in it, relative to `cwd`.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// What it finds in its environment, besides the little that it inherits. `Debug` shows no
    /// values.
    pub env: Vec<(String, String)>,
    /// The folder that it runs in.
    pub cwd: PathBuf,
    /// Whose it is, the same for every worker on a data folder and for nobody else: so that a
    /// worker finds what one that was killed has left behind.
    pub owner: String,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variables: Vec<&String> = self.env.iter().map(|(name, _)| name).collect();
        // Arguments may hold a key as well.
        f.debug_struct("Program")
            .field("program", &self.program)
            .field("args", &self.args.len())
            .field("env", &variables)
            .field("cwd", &self.cwd)
            .finish_non_exhaustive()
    }
}

/// Where a tool server is on the network.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its URL.
    pub url: String,
    /// The bearer token that it is shown. `Debug` shows nothing of it.
    pub token: Option<String>,
    /// Further headers that it is sent. `Debug` shows no values.
    pub headers: Vec<(String, String)>,
}

impl Endpoint {
    /// The URL without its query, which may hold a key.
    pub(super) fn shown(&self) -> &str {
        self.url.split('?').next().unwrap_or_default()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&String> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Endpoint")
            .field("url", &self.shown())
            .field("has_token", &self.token.is_some())
            .field("headers", &headers)
            .finish()
    }
}

impl ToolServer {
    /// A server's text without the secrets that it was given: servers repeat what they know.
    pub(super) fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        let mut hide = |name: &str, value: &str, min_bytes: usize| {
            if value.len() >= min_bytes && text.contains(value) {
                text = text.replace(value, &format!("[{name}]"));
            }
        };
        match &self.at {
            ToolServerAt::Command(program) => {
                for (name, value) in &program.env {
                    hide(name, value, SECRET_MIN_BYTES);
                }
            }
            // A token is a secret however short it is.
            ToolServerAt::Url(endpoint) => {
                if let Some(token) = &endpoint.token {
                    hide("token", token, 1);
                }
                for (name, value) in &endpoint.headers {
                    hide(name, value, SECRET_MIN_BYTES);
                }
            }
        }
        text
    }
}
