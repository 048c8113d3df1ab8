//! The scripts that a message can contain.

use abide_plugin::llm::ChatRequest;
use serde::{Deserialize, Serialize};

/// The script in a message.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Script {
    /// The script's id, unique in the whole run.
    pub(crate) id: String,
    /// The acts, in the order of execution.
    #[serde(default)]
    pub(crate) acts: Vec<Act>,
}

/// One act of a script.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Act {
    Call(Call),
    /// Calls several tools at once.
    CallAll {
        calls: Vec<Call>,
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
        request: Box<ChatRequest>,
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
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    /// `record`, `note` or `look`.
    pub(crate) tool: String,
    /// The token that the tool logs, unique in the whole run.
    pub(crate) token: String,
    /// How long the tool sleeps before it logs the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sleep_ms: Option<u64>,
    /// How long the tool sleeps after it has logged the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sleep_after_ms: Option<u64>,
}
