//! The scripts that the guest `scripted` reads, and the events in which it reports their acts.

use serde::{Deserialize, Serialize};

pub use self::shared::{Act, ActReport, Script, ScriptedCall};

/// The guest's own types.
#[path = "../../guests/scripted/src/script.rs"]
mod shared;

/// A tool of the tests' tool server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Records its token. Not repeatable.
    Record,
    /// Records its token, and is declared as idempotent.
    Note,
    /// Records its token, and is declared as read-only.
    Look,
}

impl Tool {
    /// Returns the tool's name in scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Note => "note",
            Self::Look => "look",
        }
    }
}

impl ScriptedCall {
    /// Returns a call that sleeps neither before nor after.
    pub fn new(tool: Tool, token: &str) -> Self {
        Self {
            tool: tool.name().to_owned(),
            token: token.to_owned(),
            sleep_ms: None,
            sleep_after_ms: None,
        }
    }

    /// Returns whether the tool changes something outside.
    pub fn has_effect(&self) -> bool {
        self.tool != Tool::Look.name()
    }

    /// Returns whether the tool may be executed more than once.
    pub fn is_repeatable(&self) -> bool {
        self.tool != Tool::Record.name()
    }
}

impl Act {
    /// Returns the calls that the act makes.
    pub fn calls(&self) -> &[ScriptedCall] {
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

/// The data of the custom event `notice`: a recovery message as the guest received it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoticeReport {
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
    /// All lines behind the first: of turns that were stopped or undone.
    #[serde(default)]
    pub stopped: Option<String>,
}

/// The data of the custom event `stopped`: the report of stopped turns, as the guest received it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoppedReport {
    pub text: String,
}

/// The data of the custom event `timer`: a timer's message as the guest received it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimerReport {
    pub name: String,
    /// When it was due, according to the host.
    pub due_ms: u64,
    /// When it was delivered.
    pub at_ms: u64,
}
