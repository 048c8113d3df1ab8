//! Guests: loading components, and calling them on fresh instances within limits. The only module
//! that names wasmtime.
//!
//! ```text
//! bytes -> load: kind, contract version, imports, exports -> Component (compiled, linked)
//!
//! Job {component, context, limits, grants, now, seed}
//!   open                      -> Product {outputs, timers, logs, snapshot}
//!   turn(snapshot, input)     -> Product     steps leave through a channel, each granted
//!   restore(snapshot)         -> ()          whether it can come back
//! ```
//!
//! Every call makes an instance, and drops it. What a guest does is a function of its job, its
//! snapshot, its input and the answers to its steps: clock and randomness come from the job, the
//! rest of WASI is there and empty.

mod bindings;
mod budget;
mod buffer;
mod component;
mod contract;
mod convert;

mod failure;
mod grants;
mod guest;
mod host_functions;
mod job;
mod log;
mod pool;
mod precompiled;
mod runtime;
mod store_data;
mod wasi;

pub use component::{COMPONENT_MAX_BYTES, Component, LoadError};
pub use contract::CONTRACTS;
pub use failure::GuestFailure;
pub use guest::CheckFailure;
pub use host_functions::{StepAnswer, StepCall};
pub use job::{Context, GuestJob, Product};
pub use log::{LogLevel, LogLine};
pub use runtime::{Admission, Engine, EngineError, EngineOptions};
