//! Abide: a daemon that hosts long-lived sessions and never loses one.

pub(crate) mod allocator;
pub mod api;
pub(crate) mod atomic_file;
pub mod cli;
pub mod config;
pub mod daemon;
pub(crate) mod deliberate_bugs;
pub mod domain;
pub mod engine;
pub(crate) mod failpoint;
pub mod loadgen;
pub mod providers;
pub mod session;
pub mod store;
pub mod supervisor;
