//! Write an Abide plugin: a serde struct is the state, one function is the turn.
//!
//! A plugin is the turn logic of a session: a durable conversation that outlives restarts of the
//! daemon. The type that implements [`Plugin`] is the session's state. The host creates a fresh
//! instance for every turn, restores it from the last snapshot, runs [`Plugin::turn`] and takes the
//! next snapshot; nothing outside the state's serde form survives a turn. The effects of
//! [`output`], [`timer`] and [`log`] apply when the turn commits, all of them or none. Every call
//! that reaches outside, through [`llm`], [`tools`], [`http`] or [`inbox`], is a *step*: the host
//! records its result, and does not repeat it after a restart.
//!
//! A whole plugin, with its test:
//!
//! ```
//! use std::time::Duration;
//!
//! use abide_plugin::{Context, Error, Message, Plugin, Role, export, output, timer};
//! use serde::{Deserialize, Serialize};
//!
//! /// Collects tasks, and emits reminders of what is left.
//! #[derive(Default, Serialize, Deserialize)]
//! struct Todo {
//!     every_s: u64,
//!     tasks: Vec<String>,
//!     /// Added with schema 2.
//!     done: u64,
//! }
//!
//! /// The arguments that the client gives when it creates the session.
//! #[derive(Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Args {
//!     #[serde(default = "hour")]
//!     every_s: u64,
//! }
//!
//! fn hour() -> u64 {
//!     3600
//! }
//!
//! impl Plugin for Todo {
//!     const SCHEMA: u32 = 2;
//!
//!     fn open(&mut self, context: &Context) -> Result<(), Error> {
//!         self.every_s = context.read_args::<Args>()?.every_s;
//!         Ok(())
//!     }
//!
//!     fn turn(&mut self, input: &[Message]) -> Result<(), Error> {
//!         for message in input {
//!             match (message.role, message.text.as_str()) {
//!                 (Role::User, "done") if self.tasks.is_empty() => {
//!                     return Err("there is nothing to do".into());
//!                 }
//!                 (Role::User, "done") => {
//!                     self.done += 1;
//!                     output::text(format!("{} is done", self.tasks.remove(0)))?;
//!                 }
//!                 (Role::User, task) => self.tasks.push(task.to_owned()),
//!                 // A reminder or a recovery message: report the state.
//!                 _ => output::text(format!("still to do: {}", self.tasks.join(", ")))?,
//!             }
//!         }
//!         match self.tasks.is_empty() {
//!             true => timer::cancel("remind"),
//!             false => timer::set("remind", Duration::from_secs(self.every_s), "")?,
//!         }
//!         Ok(())
//!     }
//!
//!     fn migrate(schema: u32, data: &[u8]) -> Result<Self, Error> {
//!         #[derive(Deserialize)]
//!         struct Version1 {
//!             tasks: Vec<String>,
//!         }
//!         match schema {
//!             1 => {
//!                 let Version1 { tasks } = abide_plugin::decode(data)?;
//!                 Ok(Self { every_s: hour(), tasks, done: 0 })
//!             }
//!             other => Err(format!("there never was a schema {other}").into()),
//!         }
//!     }
//! }
//!
//! export!(Todo);
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // In a test:
//! use abide_plugin::testing::Harness;
//!
//! let mut session = Harness::<Todo>::new();
//! session.open(serde_json::json!({"every_s": 60}))?;
//! assert_eq!(session.say("water the plants")?.timers[0].after_ms, 60_000);
//! assert_eq!(session.fire("remind")?.output, ["still to do: water the plants"]);
//! session.restart(abide_plugin::Cause::Config);
//! assert_eq!(
//!     session.say("done")?.output,
//!     ["still to do: water the plants", "water the plants is done"],
//! );
//! assert_eq!(session.say("done").unwrap_err().to_string(), "there is nothing to do");
//! # Ok(())
//! # }
//! ```
//!
//! The plugin's crate has `crate-type = ["cdylib", "rlib"]`. To build it:
//! `cargo build --release --target wasm32-wasip2`.
//!
//! In a component the clock starts at the turn's start and advances only by steps and waits, and
//! randomness is seeded per turn, so a turn is a function of its state, its input and the results
//! of its steps. There are no files, no sockets and no environment.
#![warn(missing_docs)]

#[doc(hidden)]
#[allow(missing_docs, unreachable_pub, unused_qualifications, rust_2018_idioms)]
pub mod bindings;
mod error;
mod export;
mod host;
pub mod http;
pub mod inbox;
pub mod llm;
pub mod log;
mod message;
pub mod output;
mod plugin;
mod state;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
pub mod timer;
pub mod tools;

pub use bindings::abide::session::types::{
    Cause, Context, Interruption, Message, Recovery, Role, State,
};
pub use error::{Error, OutputError, RestoreError, StepError, TimerError};
pub use plugin::Plugin;
#[doc(hidden)]
pub use state::Instance;
pub use state::decode;
