//! The daemon and its supervisor.

pub mod supervisor;
