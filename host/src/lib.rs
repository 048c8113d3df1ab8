//! Abide: a daemon that hosts long-lived sessions and never loses one.

pub mod api;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod domain;
pub mod engine;
pub(crate) mod fault;
pub(crate) mod files;
pub(crate) mod give_back;
pub mod load;
pub mod providers;
pub mod session;
pub mod store;
pub mod supervisor;
