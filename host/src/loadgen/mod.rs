//! The load engine: clients that send turns to sessions as fast as they are answered, and that
//! check what they are told.
//!
//! ```text
//! service   what is driven: writes a turn's request, reads its answer
//! plan      how much, for how long      texts       what is said
//! sessions  what each session is known to have done; is an answer the next one?
//! wire      HTTP/1.1 as far as it is needed         connection  one socket, one request at a time
//! drive     one connection's turns      run         all of them
//! watch     what goes on while it runs  tally, report   what came of it
//! ```
//!
//! Each connection owns its share of the sessions and has one request out at a time, so that a
//! session's turns come in order, and an answer must tell the number of its last turn plus one.
//!
//! The client shares its machine with what it measures, so it costs as little as it can: requests
//! are bytes in a buffer that is kept, answers are read where they were received, nothing is
//! spawned and no timer is set for a request.

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
