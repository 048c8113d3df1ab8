//! The HTTP face of the daemon.
pub mod server;
