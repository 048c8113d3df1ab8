//! Tool servers, as an operator sees them.

use serde::{Deserialize, Serialize};

use super::UnixMillis;

/// A tool server, and how it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ToolServerStatus {
    /// The name of its `[mcp.NAME]`.
    pub name: String,
    /// How it is reached.
    pub kind: ToolServerKind,
    /// How it is.
    pub state: ToolServerState,
    /// Since when; none while it has not been wanted yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<UnixMillis>,
    /// Its tools; of one that is down, those that it had last. None where they are not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<u64>,
    /// Why it is down, with the remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// From when on it is tried again, as soon as a turn wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try_at: Option<UnixMillis>,
    /// Tools that it lists and that cannot be used, and why; the first of them, if there are many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<ToolLeftOut>,
}

/// A tool that its server lists, and that is not offered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ToolLeftOut {
    /// Its name on the server, or which one of the list it is.
    pub tool: String,
    /// Why.
    pub reason: String,
}

/// How a tool server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolServerKind {
    /// As a process of the daemon's, by `command`.
    Command,
    /// Over HTTP, by `url`.
    Url,
}

/// How a tool server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolServerState {
    /// No turn has wanted it yet, or not since the daemon ended it.
    Idle,
    /// It is being started, or connected to.
    Starting,
    /// Its tools can be called.
    Up,
    /// Its tools cannot be called.
    Down,
}

impl ToolServerState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Idle, Self::Starting, Self::Up, Self::Down];

    /// Its name in the API and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}
