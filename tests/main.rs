//! End-to-end tests of the built daemon and its plugins: real processes, real files, real HTTP.
//! `make test` builds what they need.

mod bad_config;
mod bad_requests;
mod chaos;
mod engine;
mod incident;
mod powercut;
mod restart;
mod rogue;
mod snapshots;
mod tidy;
mod tools_mcp;
