//! Abide: a daemon that hosts long-lived sessions and never loses one.
//!
//! `host/ARCHITECTURE.md` is the map: the life of a message, of a restart and of a step. The rooms,
//! from what decides to what acts; a room uses only those below it (the suite's `tidy` holds that):
//!
//! | module | content |
//! |---|---|
//! | [`cli`] | the command line; most of it is a client of the HTTP API |
//! | [`daemon`] | the worker: from its start to its hand-over |
//! | [`supervisor`] | the process that keeps the sockets and starts workers; uses none of these |
//! | [`api`] | the HTTP API, OpenAI's included |
//! | [`access`] | access tokens, and the audit log |
//! | [`session`] | sessions at run time: who owns one, how a turn runs, the drain |
//! | [`engine`] | guests: WebAssembly components in wasmtime |
//! | [`store`] | the log, snapshots and restart records, in RocksDB |
//! | [`providers`] | models, tool servers and outgoing HTTP |
//! | [`documents`] | the JSON documents that the API writes and the command line reads |
//! | [`config`] | `abide.toml`: read, checked, compared and watched |
//! | [`domain`] | records, sessions and what follows from what, purely |
//! | [`loadgen`] | the load of `abide bench` |

pub mod access;
pub(crate) mod allocator;
pub mod api;
pub(crate) mod atomic_file;
pub(crate) mod checksummed;
pub mod cli;
pub mod config;
pub mod daemon;
pub(crate) mod deliberate_bugs;
pub mod documents;
pub mod domain;
pub mod engine;
pub(crate) mod failpoint;
pub mod loadgen;
pub(crate) mod patience;
pub(crate) mod plain_text;
pub(crate) mod private_files;
pub(crate) mod private_process;
pub(crate) mod process_entry;
pub mod providers;
pub mod session;
pub mod store;
pub mod supervisor;
pub(crate) mod system_user;
