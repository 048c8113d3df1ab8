//! End-to-end tests of the built daemon and its plugins: real processes, real files, real HTTP.
//! `make test` builds what they need.

mod access;
mod backup;
mod bench;
mod durability;
mod engine;
mod models;
mod restarts;
mod sessions;
mod stage;
mod tidy;
mod tools;
