//! The errors of the engine: those of a component that does not load, and those of the host.

use std::path::PathBuf;
use std::time::Duration;

use crate::domain::Digest;

/// The maximum size of a component, in bytes.
pub const COMPONENT_MAX_BYTES: usize = 256 << 20;

/// An engine failure that no guest has caused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// The kernel allows too few mapped memory regions.
    #[error(
        "{turns_max} turns at once take {needed} mapped memory regions, the kernel allows \
         {allowed}; lower `daemon.turns_max`, or raise the sysctl vm.max_map_count"
    )]
    Maps {
        /// The requested number of concurrent turns.
        turns_max: u32,
        /// The regions that these turns need.
        needed: u64,
        /// The regions that the kernel allows.
        allowed: u64,
    },
    /// The process may use too little address space.
    #[error(
        "{turns_max} turns at once reserve {} GiB of address space, and this process may have {} GiB \
         (`ulimit -v`, `LimitAS=` of systemd); take that limit away, since what is reserved takes no \
         memory{}",
        gib(*needed), gib(*allowed),
        match fits {
            0 => String::new(),
            fits => format!(", or lower `daemon.turns_max` to {fits}"),
        }
    )]
    AddressSpace {
        /// The requested number of concurrent turns.
        turns_max: u32,
        /// The bytes that the process then needs.
        needed: u64,
        /// The bytes that it may have.
        allowed: u64,
        /// How many concurrent turns have room.
        fits: u32,
    },
    /// A directory cannot be created.
    #[error("cannot make the folder `{path}`: {reason}")]
    Folder {
        /// The directory.
        path: PathBuf,
        reason: String,
    },
    /// The engine cannot be created on this machine.
    #[error("the WebAssembly engine cannot start: {0}")]
    Start(String),
    /// The pool is exhausted, although turns wait for their share of it.
    #[error("the instance pool is exhausted: {0}; try again")]
    Exhausted(String),
    /// A step was answered with the result of a different kind of step.
    #[error("a step `{asked}` was answered with the result of another kind")]
    WrongReply {
        /// The kind of the step.
        asked: &'static str,
    },
}

/// Returns bytes as GiB, rounded up.
fn gib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 30)
}

/// The reason why a component cannot be loaded. None of its code has run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is not WebAssembly.
    #[error("this is not a WebAssembly file; build the plugin for `wasm32-wasip2`")]
    NotWasm,
    /// The file is a core module, not a component.
    #[error(
        "this is a core WebAssembly module, not a component; build the plugin for \
         `wasm32-wasip2`, or make a component of it with `wasm-tools component new`"
    )]
    CoreModule,
    /// The component is larger than [`COMPONENT_MAX_BYTES`].
    #[error("the component has {bytes} bytes; at most {COMPONENT_MAX_BYTES} are loaded")]
    TooLarge {
        /// The component's size.
        bytes: usize,
    },
    /// The component lacks an export of the contract, or has it with another type.
    #[error("the component does not export `{name}` as the contract has it; {remedy}")]
    Export { name: String, remedy: String },
    /// The component was built for a contract version that this host does not serve.
    #[error(
        "the component was built for contract abide:session@{built_for}, this version of Abide \
         serves {served}; build it against one of these, or install the Abide that it needs"
    )]
    Contract {
        /// The version in the component's type.
        built_for: String,
        /// The versions that this host serves.
        served: String,
    },
    /// The component imports an interface that is not linked.
    #[error(
        "the component imports `{name}`, which Abide does not offer: guests get abide:session and \
         WASI 0.2 (`wasi:cli/imports`), nothing else"
    )]
    Import { name: String },
    /// An import has another type than what is linked under its name.
    #[error("an import of the component does not fit what Abide offers under its name: {reason}")]
    ImportType {
        /// The import and the difference.
        reason: String,
    },
    /// The component cannot be compiled.
    #[error("the component cannot be compiled: {reason}")]
    Compile { reason: String },
    /// Compiling the component takes too long.
    #[error(
        "compiling the component took longer than {} s, and was ended; build it smaller (optimised, \
         without debug information), or raise `daemon.compile_timeout`",
        limit.as_secs_f64()
    )]
    CompileTooSlow {
        /// What it may take, by the wall clock.
        limit: Duration,
    },
    /// Compiling the component takes too much memory.
    #[error(
        "compiling the component takes more than {} MiB of memory, and was ended; build it smaller \
         (optimised, without debug information), or raise `daemon.compile_memory`",
        limit_bytes.div_ceil(1 << 20)
    )]
    CompileTooLarge {
        /// What it may take, in bytes.
        limit_bytes: u64,
    },
    /// The compiler's process died.
    #[error(
        "the compiler {how} while it compiled the component{}; see in the kernel's log whether it was \
         killed for want of memory, else build the component with other tools, and report this",
        if last_words.is_empty() { String::new() } else { format!(" (it said: {last_words})") }
    )]
    CompilerDied {
        /// How it ended.
        how: String,
        /// The end of what it wrote to standard error.
        last_words: String,
    },
    /// The compiler's process cannot be started or waited for.
    #[error(
        "the compiler's process cannot be used ({reason}); see that `/proc` is mounted, and that the \
         daemon may start processes"
    )]
    NoCompiler { reason: String },
    /// An instance would need more memories or tables than the whole pool has.
    #[error(
        "an instance of the component needs {memories} memories and {tables} tables, which is more \
         than the whole pool holds; raise the number of turns that may run at once"
    )]
    NeedsTooMuch {
        /// The number of linear memories.
        memories: u32,
        /// The number of tables.
        tables: u32,
    },
    /// The stored file cannot be read or written.
    #[error("cannot read or write `{path}`: {reason}")]
    File { path: PathBuf, reason: String },
    /// The stored file does not match its digest.
    #[error(
        "the component kept at `{path}` is damaged (its SHA-256 is {found}); put the original file \
         back, or remove it to use the configured one"
    )]
    Damaged {
        path: PathBuf,
        /// The digest of its bytes.
        found: Digest,
    },
}
