//! The load generator: clients that send turns to sessions as fast as they are answered, and check
//! the answers.
//!
//! ```text
//! service   the server under load: writes a turn's request, parses its answer
//! plan      how much load, for how long      payloads    the texts of messages
//! sessions  the known state of each session: is an answer's turn number the next one?
//! wire      the needed subset of HTTP/1.1    connection  one socket, one request at a time
//! client    the turns of one connection      run         all connections of a run
//! probe     observes and stops a run         stats, report   counts and the final report
//! ```
//!
//! Each connection owns its share of the sessions and has one request in flight at a time, so that
//! a session's turns are in order, and each answer must carry the number of the session's last turn
//! plus one.
//!
//! The client shares its machine with the server that it measures, so it must be cheap: requests
//! are built in a reused buffer, answers are parsed in place, and no task is spawned and no timer
//! set per request.

mod client;
mod connection;
mod payloads;
mod plan;
mod probe;
mod report;
mod run;
mod service;
mod sessions;
mod stats;
#[cfg(test)]
mod tests;
mod wire;

pub use payloads::Texts;
pub use plan::Load;
pub use probe::LoadProbe;
pub use report::{Disturbance, Report};
pub use run::{RunError, run};
pub use service::{Reply, Service, TurnRequest, Wrong};
pub use sessions::{LoadSession, LoadSessions};
pub use stats::{Example, FaultKind, LoadCounts};
pub use wire::write_post;
