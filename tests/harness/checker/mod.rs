//! The checker of the chaos runs: the programs that exist, and what must be true of a run.
//!
//! The checker is pure: a program is a function of its seed, and a verdict is a function of the
//! facts that were observed from outside. The suite feeds it histories in which each promise is
//! broken once, and it must find every violation; the binary `abide-chaos` feeds it what real
//! daemons did.

mod check;
mod facts;
pub mod program;
mod script;
mod states;
mod timer_ledger;
mod verdict;
mod ways_back;

pub use check::{COUNTED, check_history};
pub use facts::{Acknowledged, Execution, Facts, Probe, SessionFacts};
pub use script::{
    Act, ActReport, NoticeReport, Script, ScriptedCall, StoppedReport, TimerReport, Tool,
};
pub use verdict::{Counts, Verdict, Violation, ViolationKind};
pub use ways_back::{CopyFacts, CopyKind, ListedPoint, RewindAnswer, RewindAsked};
