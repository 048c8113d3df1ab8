//! The scripts that the guest `scripted` reads, and the events in which it reports their acts.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The script in a message's text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Script {
    /// The script's id, unique in a run.
    pub id: String,
    /// What the guest does, in this order.
    #[serde(default)]
    pub acts: Vec<Act>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum Act {
    /// Calls a tool.
    Call(Call),
    /// Calls several tools at once.
    CallAll {
        /// The calls, in this order.
        calls: Vec<Call>,
    },
    /// Emits a message of the assistant.
    Say { text: String },
    /// Sets a timer whose message is a script.
    Timer {
        /// The timer's name, unique in a run.
        name: String,
        /// The delay, counted from the turn's clock.
        after_ms: u64,
        /// The script in the timer's message.
        script: Script,
    },
    /// Receives the messages that arrived since the turn began, and performs their scripts.
    Receive,
    /// Asks the model.
    Llm {
        /// The question; the answer is `re: ` and the question.
        text: String,
    },
    /// Lists the tools.
    List,
    /// Reports a random number.
    Random,
    /// Reports the clock.
    Clock,
}

/// One call of a tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// See [`Tool`].
    pub tool: Tool,
    /// The text that the tool records: unique in a run.
    pub token: String,
    /// How long the tool sleeps before it records the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleep_ms: Option<u64>,
    /// How long the tool sleeps after it has recorded the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleep_after_ms: Option<u64>,
}

impl Call {
    /// Returns a call that sleeps neither before nor after.
    pub fn new(tool: Tool, token: &str) -> Self {
        Self {
            tool,
            token: token.to_owned(),
            sleep_ms: None,
            sleep_after_ms: None,
        }
    }
}

/// A tool of the tests' tool server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tool {
    /// Records its token. Not repeatable.
    Record,
    /// Records its token, and is declared as idempotent.
    Note,
    /// Records its token, and is declared as read-only.
    Look,
}

impl Act {
    /// Returns the act's name in the events.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Call(_) => "call",
            Self::CallAll { .. } => "call_all",
            Self::Say { .. } => "say",
            Self::Timer { .. } => "timer",
            Self::Receive => "receive",
            Self::Llm { .. } => "llm",
            Self::List => "list",
            Self::Random => "random",
            Self::Clock => "clock",
        }
    }

    /// Returns the calls that the act makes.
    pub fn calls(&self) -> &[Call] {
        match self {
            Self::Call(call) => std::slice::from_ref(call),
            Self::CallAll { calls } => calls,
            _ => &[],
        }
    }
}

impl Script {
    /// Returns a script that does nothing but end.
    pub fn probe(id: String) -> Self {
        Self {
            id,
            acts: Vec::new(),
        }
    }

    /// Returns the script as a message's text.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("a script is plain data")
    }

    /// Parses a message's text.
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Returns the timers that the script itself sets: name, delay, script.
    pub fn timers(&self) -> impl Iterator<Item = (&str, u64, &Self)> {
        self.acts.iter().filter_map(|act| match act {
            Act::Timer {
                name,
                after_ms,
                script,
            } => Some((name.as_str(), *after_ms, script)),
            _ => None,
        })
    }

    /// Returns the script and, recursively, all scripts of its timers.
    pub fn family(&self) -> Vec<&Self> {
        let mut all = vec![self];
        for (_, _, script) in self.timers() {
            all.extend(script.family());
        }
        all
    }
}

/// The data of the custom event `act`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// The id of the script.
    pub script: String,
    /// The index of the act, from 0.
    pub n: usize,
    /// See [`Act::kind`].
    pub kind: String,
    /// Which of several calls, from 0.
    #[serde(default)]
    pub part: Option<usize>,
    /// The call's token.
    #[serde(default)]
    pub token: Option<String>,
    /// `ok`, `unknown` or `error:KIND`.
    pub result: String,
    /// The value that the act returned.
    #[serde(default)]
    pub value: Value,
}

/// The data of the custom event `notice`: a recovery message as the guest received it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToldNotice {
    /// The generation that it reports.
    pub generation: u64,
    /// Why the daemon restarted.
    pub cause: String,
    /// `rerun` or `resumed`; `None` if no turn was open.
    #[serde(default)]
    pub interruption: Option<String>,
    /// Steps whose outcome is unknown.
    #[serde(default)]
    pub unknown_steps: Vec<String>,
}

/// The data of the custom event `stopped`: the report of stopped turns, as the guest received it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToldStopped {
    pub text: String,
}

/// The data of the custom event `timer`: a timer's message as the guest received it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToldTimer {
    pub name: String,
    /// When it was due, according to the host.
    pub due_ms: u64,
    /// When it was delivered.
    pub at_ms: u64,
}
