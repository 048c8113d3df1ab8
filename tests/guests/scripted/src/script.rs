//! The scripts that a message can contain, and the report of each act. The tests' harness includes
//! this file, so that those who write scripts and those who read reports have the same types.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The script in a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// The script's id, unique in the whole run.
    pub id: String,
    /// The acts, in the order of execution.
    #[serde(default)]
    pub acts: Vec<Act>,
}

/// One act of a script.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case", deny_unknown_fields)]
pub enum Act {
    Call(ScriptedCall),
    /// Calls several tools at once.
    CallAll {
        calls: Vec<ScriptedCall>,
    },
    /// Emits a text.
    Say {
        text: String,
    },
    /// Sets a timer whose message is a script.
    Timer {
        name: String,
        /// The delay, counted from the turn's clock.
        after_ms: u64,
        /// The script in the timer's message.
        script: Script,
    },
    /// Receives the messages that arrived since the turn began, and performs their scripts.
    Receive,
    /// Asks the model one question.
    Llm {
        /// The question. The values that `random` and `clock` returned before are added to it, so
        /// that a replay in which they differ asks a different question.
        text: String,
    },
    /// Sends the model this request unchanged, however odd it is.
    Chat {
        /// The SDK's request, as JSON.
        request: Value,
    },
    /// Sends an HTTP request.
    Http {
        method: String,
        url: String,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        body: String,
    },
    List,
    /// Reports a random number.
    Random,
    /// Reports the wall clock.
    Clock,
    /// Fails the turn with this reason.
    Fail {
        reason: String,
    },
    Trap,
    /// Holds this many bytes in the state from now on, replacing those that it held.
    Hold {
        bytes: usize,
    },
}

/// One call of a tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptedCall {
    /// The tool's name in the server's own list.
    pub tool: String,
    /// The token that the tool logs, unique in the whole run.
    pub token: String,
    /// How long the tool sleeps before it logs the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleep_ms: Option<u64>,
    /// How long the tool sleeps after it has logged the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleep_after_ms: Option<u64>,
}

/// The payload of the custom event `act`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActReport {
    /// The script's id.
    pub script: String,
    /// The index of the act, from 0.
    pub n: usize,
    /// The act's name in scripts.
    pub kind: String,
    /// Which of several calls, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The call's token, or the timer's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// `ok`, `unknown` or `error:KIND`.
    pub result: String,
    /// The value that the act returned.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub value: Value,
}

impl Act {
    /// Returns the act's name in scripts and reports.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Call(_) => "call",
            Self::CallAll { .. } => "call_all",
            Self::Say { .. } => "say",
            Self::Timer { .. } => "timer",
            Self::Receive => "receive",
            Self::Llm { .. } => "llm",
            Self::Chat { .. } => "chat",
            Self::Http { .. } => "http",
            Self::List => "list",
            Self::Random => "random",
            Self::Clock => "clock",
            Self::Fail { .. } => "fail",
            Self::Trap => "trap",
            Self::Hold { .. } => "hold",
        }
    }
}
