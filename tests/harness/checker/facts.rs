//! What is known of a run from outside, for the checker.

use crate::Event;
use crate::checker::script::Script;

/// All that was seen of one daemon.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Its sessions.
    pub sessions: Vec<SessionFacts>,
    /// What the tools have written down, in order.
    pub executions: Vec<Execution>,
    /// When the daemon was disturbed (killed, restarted, stopped), from and until, in
    /// milliseconds since the Unix epoch. What lies in none of them was not interrupted.
    pub disturbed: Vec<(u64, u64)>,
    /// What was seen at once to be wrong with the service: it did not come back, an invalid
    /// configuration changed something.
    pub troubles: Vec<String>,
}

/// All that was seen of one session.
#[derive(Clone, Debug, Default)]
pub struct SessionFacts {
    /// Its id.
    pub id: String,
    /// The generation that created it.
    pub created_in: u64,
    /// Messages that were acknowledged.
    pub acknowledged: Vec<Acknowledged>,
    /// All its events at the end, as pages.
    pub events: Vec<Event>,
    /// The same at earlier moments.
    pub earlier: Vec<Vec<Event>>,
    /// What a subscriber saw that followed it all the time.
    pub followed: Vec<Event>,
    /// What that subscriber found wrong with its streams.
    pub stream_troubles: Vec<String>,
    /// Dead letters.
    pub dead_letters: Vec<String>,
    /// What is still open at the end: why the session is not idle.
    pub unfinished: Option<String>,
    /// Probes, in order.
    pub probes: Vec<Probe>,
}

/// A message that the daemon has acknowledged.
#[derive(Clone, Debug, PartialEq)]
pub struct Acknowledged {
    /// Its id.
    pub message: String,
    /// What it says.
    pub script: Script,
    /// What a client that waited was told that its turn said.
    pub output: Vec<Event>,
}

/// A message that was posted when the session was idle and the daemon served, undisturbed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The message's id.
    pub message: String,
    /// The generation that served before and after its turn; none if it was another one then.
    pub generation: Option<u64>,
}

/// One execution, as a tool has written it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// The call's token.
    pub token: String,
    /// The key that the host sent with the call; empty if it sent none.
    pub key: String,
}

/// What the tools write in a key's place where there is none.
const NO_KEY: &str = "-";

impl Execution {
    /// Reads the tools' file: `token<TAB>key` lines. A last line that is not ended is of an
    /// execution that was killed as it wrote, and counts: it may have happened.
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
    /// Scripts that were accepted and are not done, their timers' included: what to wait for.
    pub fn outstanding(acknowledged: &[Acknowledged], events: &[Event]) -> Vec<String> {
        let done: std::collections::BTreeSet<&str> =
            events.iter().filter_map(done_script).collect();
        let failed = events.iter().any(|event| event.is_turn("failed"));
        acknowledged
            .iter()
            .flat_map(|message| message.script.family())
            .map(|script| script.id.as_str())
            // A turn that failed is wrong here; waiting for it is in vain.
            .filter(|id| !failed && !done.contains(id))
            .map(str::to_owned)
            .collect()
    }
}

/// The script of which an event says that it is done.
pub(crate) fn done_script(event: &Event) -> Option<&str> {
    done(event).map(|(script, _)| script)
}

/// The script and the guest's turn number of an event that says that it is done.
pub(crate) fn done(event: &Event) -> Option<(&str, u64)> {
    if !event.is_from("assistant") {
        return None;
    }
    let (script, turn) = event.said().strip_prefix("done ")?.split_once(" #")?;
    Some((script, turn.parse().ok()?))
}
