//! The facts about a run that can be observed from outside: the checker's input.

use crate::Event;
use crate::checker::script::Script;

/// Everything that was observed of one daemon.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub sessions: Vec<SessionFacts>,
    /// The executions that the tools have recorded, in order.
    pub executions: Vec<Execution>,
    /// The periods in which the daemon was disturbed (killed, restarted, stopped), start and end in
    /// milliseconds since the Unix epoch. Nothing outside of them was interrupted.
    pub disturbed: Vec<(u64, u64)>,
    /// Problems of the service that were noticed during the run: it did not come back, or an
    /// invalid configuration changed something.
    pub troubles: Vec<String>,
}

/// Everything that was observed of one session.
#[derive(Clone, Debug, Default)]
pub struct SessionFacts {
    pub id: String,
    /// The generation that created it.
    pub created_in: u64,
    /// Messages that were acknowledged.
    pub acknowledged: Vec<Acknowledged>,
    /// All of its events at the end, read as pages.
    pub events: Vec<Event>,
    /// Earlier readings of all events.
    pub earlier: Vec<Vec<Event>>,
    /// The events that a subscriber saw which followed the session all the time.
    pub followed: Vec<Event>,
    /// The problems that this subscriber had with its streams.
    pub stream_troubles: Vec<String>,
    pub dead_letters: Vec<String>,
    /// Why the session is not idle at the end, if it is not.
    pub unfinished: Option<String>,
    /// The probes, in order.
    pub probes: Vec<Probe>,
    /// The words in which the daemon says that damage to its store has touched the session. Nothing else
    /// is promised of it then.
    pub touched: Option<String>,
}

/// A message that the daemon has acknowledged.
#[derive(Clone, Debug, PartialEq)]
pub struct Acknowledged {
    pub message: String,
    /// The script in its text.
    pub script: Script,
    /// The output of the turn that a waiting client received.
    pub output: Vec<Event>,
}

/// A message that was posted while the session was idle and the daemon served undisturbed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The message's id.
    pub message: String,
    /// The generation that served before and after its turn; `None` if they differ.
    pub generation: Option<u64>,
}

/// One execution, as a tool has recorded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// The call's token.
    pub token: String,
    /// The key that the host sent with the call; empty if it sent none.
    pub key: String,
}

/// What the tools write in place of a missing key.
const NO_KEY: &str = "-";

impl Execution {
    /// Reads the tools' file of `token<TAB>key` lines. A last line without an end belongs to an
    /// execution that was killed while it wrote, and counts, because it may have happened.
    pub fn read_all(text: &str) -> Vec<Self> {
        let lines = text.lines().filter(|line| !line.is_empty());
        lines
            .map(|line| {
                let (token, key) = line.split_once('\t').unwrap_or((line, NO_KEY));
                let key = if key == NO_KEY { "" } else { key };
                Self {
                    token: token.to_owned(),
                    key: key.to_owned(),
                }
            })
            .collect()
    }
}

impl SessionFacts {
    /// Returns the ids of the accepted scripts that are not done, including those of their timers.
    pub fn outstanding(acknowledged: &[Acknowledged], events: &[Event]) -> Vec<String> {
        let done: std::collections::BTreeSet<&str> =
            events.iter().filter_map(done_script).collect();
        let failed = events.iter().any(|event| event.is_turn("failed"));
        acknowledged
            .iter()
            .flat_map(|message| message.script.family())
            .map(|script| script.id.as_str())
            // A failed turn is a violation here, and waiting for it would be in vain.
            .filter(|id| !failed && !done.contains(id))
            .map(str::to_owned)
            .collect()
    }
}

/// Returns the script that an event reports as done.
pub(crate) fn done_script(event: &Event) -> Option<&str> {
    done(event).map(|(script, _)| script)
}

/// Returns the script and the guest's turn number of an event that reports a script as done.
pub(crate) fn done(event: &Event) -> Option<(&str, u64)> {
    if !event.is_from("assistant") {
        return None;
    }
    let (script, turn) = event.said().strip_prefix("done ")?.split_once(" #")?;
    Some((script, turn.parse().ok()?))
}
