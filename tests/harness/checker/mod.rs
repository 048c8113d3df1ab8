//! The checker of the chaos runs: what programs there are, and what must be true of a run.
//!
//! Pure: a program is a function of its seed, a verdict one of the facts that were seen from
//! outside. The suite feeds it histories in which each promise is broken once, and it must find
//! every one of them; the binary `abide-chaos` feeds it what real daemons did.

mod check;
mod facts;
pub mod program;
mod script;
mod verdict;

pub use check::{COUNTED, check_history};
pub use facts::{Acknowledged, Execution, Facts, Probe, SessionFacts};
pub use script::{Act, Call, Script, Told, ToldNotice, ToldStopped, ToldTimer, Tool};
pub use verdict::{Counts, Kind, Verdict, Violation};
