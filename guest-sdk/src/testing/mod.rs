//! A mock host: runs a plugin natively, with plain `cargo test`.
//!
//! [`Harness`] runs a plugin as the daemon does: a fresh instance, restored from the last snapshot,
//! for every turn. So a plugin that does not save a part of its state fails here, in its second
//! turn, and not in production after a restart. Nothing is granted until the test scripts it.

mod harness;
pub(crate) mod imports;
mod script;

pub use harness::{Failed, Harness};
pub use script::{Event, Step, Timer, TurnResult};

#[cfg(test)]
mod tests;
