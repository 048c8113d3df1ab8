//! A mock host: runs a plugin natively, with plain `cargo test`.
//!
//! [`Harness`] runs a plugin as the daemon does: a fresh instance, restored from the last snapshot,
//! for every turn. So a plugin that does not save a part of its state fails here, in its second
//! turn, and not in production after a restart. Nothing is granted until the test scripts it.
//!
//! [`SessionExport`] reads what `abide sessions export` writes: a state from production is a test.

mod export;
mod export_bytes;
mod from_export;
mod harness;
pub(crate) mod imports;
mod instant;
mod script;

pub use export::SessionExport;
pub use export_bytes::BadExport;
pub use harness::{Failed, Harness};
pub use script::{Event, Step, Timer, TurnResult};

#[cfg(test)]
mod export_tests;
#[cfg(test)]
mod tests;
