//! Scripts, as the guest `scripted` reads them, and what it tells of them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a message says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Script {
    /// Whose acts these are: unique in a run.
    pub id: String,
    /// In this order.
    #[serde(default)]
    pub acts: Vec<Act>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum Act {
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
        /// Its name, unique in a run.
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
        /// The question; the answer is `re: ` and the question.
        text: String,
    },
    /// Lists the tools.
    List,
    /// Tells a random number.
    Random,
    /// Tells the clock.
    Clock,
}

/// One call of a tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// See [`Tool`].
    pub tool: Tool,
    /// What the tool writes down: unique in a run.
    pub token: String,
    /// How long the tool sleeps before it does that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleep_ms: Option<u64>,
    /// And afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleep_after_ms: Option<u64>,
}

impl Call {
    /// One that sleeps neither before nor after.
    pub fn new(tool: Tool, token: &str) -> Self {
        Self {
            tool,
            token: token.to_owned(),
            sleep_ms: None,
            sleep_after_ms: None,
        }
    }
}

/// A tool of the test's tool server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tool {
    /// Writes its token down. Not repeatable.
    Record,
    /// The same, but says that it is idempotent.
    Note,
    /// The same, but says that it is read-only.
    Look,
}

impl Act {
    /// Its name in the events.
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

    /// The calls that it makes.
    pub fn calls(&self) -> &[Call] {
        match self {
            Self::Call(call) => std::slice::from_ref(call),
            Self::CallAll { calls } => calls,
            _ => &[],
        }
    }
}

impl Script {
    /// A script that does nothing but end.
    pub fn probe(id: String) -> Self {
        Self {
            id,
            acts: Vec::new(),
        }
    }

    /// As a message's text.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("a script is plain data")
    }

    /// Reads a message's text.
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The timers that it sets itself: name, delay, script.
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

    /// Itself and all scripts that its timers will bring.
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
    /// Which script.
    pub script: String,
    /// Which of its acts, from 0.
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
    /// What it gave.
    #[serde(default)]
    pub value: Value,
}

/// The data of the custom event `notice`: a recovery message as the guest received it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToldNotice {
    /// The generation that it tells of.
    pub generation: u64,
    /// Why the daemon restarted.
    pub cause: String,
    /// `rerun` or `resumed`; nothing if no turn was open.
    #[serde(default)]
    pub interruption: Option<String>,
    /// Steps whose outcome nobody knows.
    #[serde(default)]
    pub unknown_steps: Vec<String>,
}

/// The data of the custom event `stopped`: word of turns that were stopped, as the guest received it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToldStopped {
    /// What it says.
    pub text: String,
}

/// The data of the custom event `timer`: a timer's message as the guest received it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToldTimer {
    /// Its name.
    pub name: String,
    /// When it was due, by the host's word.
    pub due_ms: u64,
    /// When it was delivered.
    pub at_ms: u64,
}
