//! The facts about a run that can be observed from outside: the checker's input.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::Event;
use crate::checker::script::Script;
use crate::checker::states::own;
use crate::checker::timer_ledger::TimerLedger;
use crate::checker::ways_back::{CopyFacts, ListedPoint, RewindAsked};

/// Everything that was observed of one daemon.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// A copy stands behind the session that it was made of.
    pub sessions: Vec<SessionFacts>,
    /// The executions that the tools have recorded, in order.
    pub executions: Vec<Execution>,
    /// The periods in which the daemon was disturbed (killed, restarted, stopped), start and end in
    /// milliseconds since the Unix epoch. Nothing outside of them was interrupted.
    pub disturbed: Vec<(u64, u64)>,
    /// How often the power was cut.
    pub power_cuts: usize,
    /// Problems of the service that were noticed during the run: it did not come back, or an
    /// invalid configuration changed something.
    pub troubles: Vec<String>,
}

/// Everything that was observed of one session.
#[derive(Clone, Debug, Default)]
pub struct SessionFacts {
    pub id: String,
    /// The generation that created it; 0 for a copy, whose first turn is told of the present one.
    pub created_in: u64,
    /// Of what it is a copy, if it is one.
    pub copy_of: Option<CopyFacts>,
    /// Messages that were acknowledged.
    pub acknowledged: Vec<Acknowledged>,
    /// All of its events at the end, read as pages.
    pub events: Vec<Event>,
    /// The same, with all that the daemon sent.
    pub json: Vec<Value>,
    /// Earlier readings of all events.
    pub earlier: Vec<Vec<Event>>,
    /// The events that a subscriber saw which followed the session all the time.
    pub followed: Vec<Event>,
    /// The problems that this subscriber had with its streams.
    pub stream_troubles: Vec<String>,
    pub dead_letters: Vec<String>,
    /// The rewinds that may have been carried out.
    pub rewinds: Vec<RewindAsked>,
    /// The restore points that were listed, at any time.
    pub points: Vec<ListedPoint>,
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
    /// Returns what the session still has to do: the ids of scripts that were accepted, and the names of
    /// timers.
    pub fn outstanding(acknowledged: &[Acknowledged], events: &[Event]) -> Vec<String> {
        let mine = own(events);
        let done: BTreeSet<&str> = mine.iter().filter_map(done_script).collect();
        // Its message is a dead letter; if it should not be, that is a violation, and waiting is in vain.
        let failed = mine.iter().filter(|event| event.is_turn("failed"));
        let failed: BTreeSet<&str> = failed
            .filter_map(|event| event.message.as_deref())
            .collect();
        let accepted = acknowledged
            .iter()
            .map(|sent| (sent.message.as_str(), sent.script.id.clone()));
        let fired = mine.iter().filter(|event| event.is_from("timer"));
        let fired = fired.filter_map(|event| {
            let script = Script::read(event.said())?;
            Some((event.message.as_deref()?, script.id))
        });
        let scripts = accepted
            .chain(fired)
            .filter(|(message, script)| !failed.contains(message) && !done.contains(&**script))
            .map(|(_, script)| script);
        let timers = TimerLedger::of(events).set().clone();
        scripts.chain(timers).collect()
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
