//! What a message can ask for.

use abide_plugin::llm::ChatRequest;
use serde::{Deserialize, Serialize};

/// What a message says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Script {
    /// Whose acts these are: unique in the whole run.
    pub(crate) id: String,
    /// In this order.
    #[serde(default)]
    pub(crate) acts: Vec<Act>,
}

/// One thing to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Act {
    /// Calls a tool.
    Call(Call),
    /// Calls several at once.
    CallAll {
        /// In this order.
        calls: Vec<Call>,
    },
    /// Says something.
    Say {
        /// What.
        text: String,
    },
    /// Sets a timer whose message is a script.
    Timer {
        /// Its name.
        name: String,
        /// From the turn's clock.
        after_ms: u64,
        /// What its message says.
        script: Script,
    },
    /// Takes what came in since the turn began, and does what those scripts say.
    Receive,
    /// Asks the model.
    Llm {
        /// The question. What `random` and `clock` gave before goes with it: a replay in which
        /// they give something else asks another question.
        text: String,
    },
    /// Asks the model with a request as it stands here, however odd.
    Chat {
        /// The request.
        request: Box<ChatRequest>,
    },
    /// Sends an HTTP request.
    Http {
        /// The method.
        method: String,
        /// The URL.
        url: String,
        /// The body.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        body: String,
    },
    /// Lists the tools.
    List,
    /// Tells a random number.
    Random,
    /// Tells the clock.
    Clock,
    /// Returns this as the turn's error.
    Fail {
        /// What.
        reason: String,
    },
    /// Traps.
    Trap,
    /// Holds so many bytes in the state from now on, in place of those that it held.
    Hold {
        /// How many.
        bytes: usize,
    },
}

/// One call of a tool.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    /// `record`, `note` or `look`.
    pub(crate) tool: String,
    /// What the tool writes down: unique in the whole run.
    pub(crate) token: String,
    /// How long the tool sleeps before it does that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sleep_ms: Option<u64>,
    /// And afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sleep_after_ms: Option<u64>,
}
