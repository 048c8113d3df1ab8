//! A host for tests: what a plugin does natively, with plain `cargo test`.
//!
//! [`Harness`] runs a plugin as the daemon does: a fresh instance, restored from the last
//! snapshot, for every turn. So a plugin that forgets a part of its state fails in its second
//! turn here, not after a restart at night. Nothing is granted until the test scripts it.

mod harness;
pub(crate) mod imports;
mod script;

pub use harness::{Failed, Harness};
pub use script::{Event, Step, Timer, TurnResult};

#[cfg(test)]
mod tests;
