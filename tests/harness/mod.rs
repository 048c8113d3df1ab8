//! What the tests and the demo drive a daemon with: the real binary in a directory of its own, HTTP
//! clients that count their errors, subscribers that resume at their cursor, and a language model
//! whose answers a test can hold back.
//!
//! Nothing here sleeps for a fixed time. Everything waits for an event, and fails loudly after
//! [`PATIENCE`].

mod answer;
mod audit;
pub mod boot_failure;
pub mod checker;
mod client;
mod daemon;
pub mod damage;
mod decide;
mod event;
mod fake_clock;
mod hung_disk;
mod hung_mount;
mod local_server;
mod model;
mod model_fault;
mod notices;
mod npm;
mod powercut;
mod precompiled;
mod preload;
mod prober;
mod process;
mod programs;
pub mod raw_model;
mod real_tools;
mod reply;
mod setup;
mod strict;
mod subscriber;
mod wait;

pub use answer::{Answer, AskedCall, message_text};
pub use audit::{Account, Sent};
pub use client::{Client, Posted, Refused, Tally, Trouble, http_client};
pub use daemon::{Boot, Daemon, How};
pub use event::Event;
pub use fake_clock::FakeClock;
pub use hung_disk::HungDisk;
pub use hung_mount::HungMount;
pub use local_server::LocalServer;
pub use model::{ANSWER_TOKENS, CallState, FakeModel, ModelCall, PROMPT_TOKENS};
pub use model_fault::ModelFault;
pub use notices::notices_apart;
pub use npm::npm_install;
pub use powercut::{Losses, PowerCut};
pub use prober::{ProbeReport, Prober};
pub use process::{arguments, children, descendants, gone, is_about, kill_all, signal};
pub use programs::{copy_program, write_script};
pub use raw_model::{RawAnswer, RawModel, RawRequest};
pub use real_tools::RealTools;
pub use reply::Reply;
pub use rustix::process::Signal;
pub use setup::{Plugin, Setup, abide_binary, free_port, guest, target, tool_server, variant};
pub use strict::{BrokenRule, RULES, Rule, Rules, prefix_kept};
pub use subscriber::Subscriber;
pub use wait::{PATIENCE, until, until_within};
