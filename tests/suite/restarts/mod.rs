//! Restarts: planned, refused and rolled back, and what clients see of them.

mod bad_config;
mod boot_failures;
mod compiling;
mod config_history;
mod handover;
mod incident;
pub(crate) mod phases;
mod planned;
mod plans;
mod plugin_check;
mod probation;
mod secrets;
mod sidecar;
mod signals;
mod unanswered;
