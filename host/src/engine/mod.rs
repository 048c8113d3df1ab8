//! The engine: loads components and calls guests on fresh instances within limits. This is the only
//! module that uses wasmtime.
//!
//! ```text
//! bytes -> load: kind, contract version, imports, exports -> compile, in a process of its own
//!       -> types of imports and exports -> Component (linked)
//!
//! GuestJob {component, context, limits, grants, now, seed}
//!   open                      -> Product {outputs, timers, logs, snapshot}
//!   turn(snapshot, input)     -> Product     sends steps through a channel, each checked
//!   restore(snapshot)         -> ()          verifies that the guest restores
//! ```
//!
//! A component is anybody's, and what the compiler takes depends on it. So it is checked by its names
//! first, and compiled by another process of this program, which is limited in time and memory and ends
//! with this one.
//!
//! Every call creates an instance and drops it. A guest's behaviour is a function of its job, its
//! snapshot, its input and the answers to its steps: clock and randomness come from the job, and
//! the rest of WASI is linked but empty.
//!
//! | file | content |
//! |---|---|
//! | `runtime` | the engine of the process: loads components, admits turns |
//! | `component`, `contract`, `shape`, `precompiled` | a component: checked, linked, cached |
//! | `component_settings`, `unused` | what an operator has set for a plugin, kept with its component; removes both once nothing needs them |
//! | `compiler`, `compile_process` | compiling: started, limited and waited for; the process itself |
//! | `job`, `guest` | a call's input and product; the call on a fresh instance |
//! | `store_data` | the host state of one instance |
//! | `host_functions`, `step_gate`, `grants`, `convert` | what a guest may call, whether it is granted, and the way to the turn |
//! | `buffer`, `log` | a call's outputs and timers; its log lines |
//! | `run_queue`, `scheduled` | which guests compute now; a call in time slices, with a limit in all |
//! | `budget`, `pool` | limits of memory and stack; the size of the instance pool |
//! | `guest_memory`, `memory_room` | the memory budget of all guests together; who holds what and who waits |
//! | `wasi` | the virtual WASI: clock, randomness and streams of our own, the rest empty |
//! | `failure`, `error` | failures of a guest, with the remedy; errors of loading and of the host |
//! | `bindings` | generated from `wit/` |

mod bindings;
mod budget;
mod buffer;
mod compile_process;
mod compiler;
mod component;
mod component_settings;
mod contract;
mod convert;
mod error;
mod failure;
mod grants;
mod guest;
mod guest_memory;
mod host_functions;
mod job;
mod log;
mod memory_room;
mod pool;
mod precompiled;
mod run_queue;
mod runtime;
mod scheduled;
mod shape;
mod step_gate;
mod store_data;
mod unused;
mod wasi;

pub use compile_process::{COMPILE, CompileArgs, run_compiler};
pub use compiler::{CompileLimits, Compiler};
pub use component::Component;
pub use component_settings::ComponentSettings;
pub use contract::CONTRACTS;
pub use error::{COMPONENT_MAX_BYTES, EngineError, LoadError};
pub use failure::GuestFailure;
pub use guest::{CheckFailure, unfaithful};
pub use guest_memory::{MemoryReservation, PeakMemory, UNKNOWN_PEAK_BYTES};
pub use job::{Context, GuestJob, Product};
pub use log::{LogLevel, LogLine};
pub use pool::open_page_map;
pub use run_queue::processors;
pub use runtime::{Admission, Engine, EngineOptions};
pub use step_gate::{StepAnswer, StepCall, StepSender};
