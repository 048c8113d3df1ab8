//! The compiler's own process, `abide compile`, which [`compiler`](super::compiler) starts. It limits
//! itself before it reads the component, which is the first thing that it does not trust.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getppid, getrlimit, nice, set_parent_process_death_signal,
    setrlimit,
};

use super::pool;

/// The subcommand.
pub const COMPILE: &str = "compile";

/// The exit code if the compiler refuses the component, for the reason on standard error.
pub(super) const EXIT_REFUSED: i32 = 1;
/// The exit code if the process cannot be set up.
const EXIT_NOT_SET_UP: u8 = 3;
/// What the allocator reserves beyond what is in use, in bytes.
const RESERVED_BYTES: u64 = 1 << 30;
/// The most that the kernel's score takes: it ends this process before any other.
const OOM_SCORE: &str = "1000";

/// The arguments of [`COMPILE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileArgs {
    /// The memory that it may take, in bytes.
    pub memory_bytes: u64,
    /// The processor time that it may take, all threads together, in seconds.
    pub cpu_seconds: u64,
    /// How much it yields to others, as `nice` counts it.
    pub niceness: i32,
    /// The process id of the parent, with which it ends.
    pub parent: u32,
}

impl CompileArgs {
    /// Returns them in the order in which the command takes them.
    pub(super) fn to_args(self) -> [String; 4] {
        [
            self.memory_bytes.to_string(),
            self.cpu_seconds.to_string(),
            self.niceness.to_string(),
            self.parent.to_string(),
        ]
    }
}

/// Runs `abide compile`: compiles the component on standard input to standard output. To be called while
/// the process has only one thread.
pub fn run_compiler(args: CompileArgs) -> ExitCode {
    let (code, reason) = match limit(args) {
        Err(error) => (EXIT_NOT_SET_UP, format!("it cannot be limited: {error}")),
        Ok(false) => return ExitCode::FAILURE,
        Ok(true) => match compile() {
            Ok(()) => return ExitCode::SUCCESS,
            Err(reason) => (EXIT_REFUSED as u8, reason),
        },
    };
    // If nobody reads it, the exit code says enough.
    let _ = io::stderr().write_all(reason.as_bytes());
    ExitCode::from(code)
}

/// Limits this process. Returns whether its parent is still there.
fn limit(args: CompileArgs) -> io::Result<bool> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before that.
    if getppid()
        .map(Pid::as_raw_nonzero)
        .map(|pid| pid.get().cast_unsigned())
        != Some(args.parent)
    {
        return Ok(false);
    }
    lower(Resource::Core, 0)?;
    lower(Resource::Cpu, args.cpu_seconds)?;
    // What it writes lies in memory files.
    lower(Resource::Fsize, args.memory_bytes)?;
    // What it may write to, not the address space, of which more is reserved. The parent looks at what it
    // has; this holds between two looks.
    let data = args.memory_bytes.saturating_add(RESERVED_BYTES);
    lower(Resource::Data, data)?;
    // Neither makes it safe, so neither is needed: a kernel may know no such file.
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    let _ = nice(args.niceness);
    Ok(true)
}

/// Limits this process to so much of a resource, or to less where it is already.
fn lower(resource: Resource, limit: u64) -> io::Result<()> {
    let maximum = getrlimit(resource).maximum;
    let limit = Some(maximum.map_or(limit, |maximum| maximum.min(limit)));
    let both = Rlimit {
        current: limit,
        maximum: limit,
    };
    Ok(setrlimit(resource, both)?)
}

fn compile() -> Result<(), String> {
    let mut component = Vec::new();
    let read = io::stdin().lock().read_to_end(&mut component);
    read.map_err(|error| format!("the component cannot be read: {error}"))?;
    let artifact = artifact(&component)?;
    let mut out = io::stdout().lock();
    let written = out.write_all(&artifact).and_then(|()| out.flush());
    written.map_err(|error| format!("the artifact cannot be written: {error}"))
}

/// Compiles a component for the engines of workers, which load what this returns.
fn artifact(component: &[u8]) -> Result<Vec<u8>, String> {
    let engine = wasmtime::Engine::new(&pool::compiler_config());
    let artifact = engine.and_then(|engine| engine.precompile_component(component));
    artifact.map_err(|error| format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};

    use super::*;

    #[test]
    fn what_is_compiled_elsewhere_fits_the_engines_of_workers() {
        let worker = wasmtime::Engine::new(&pool::config(1).expect("there is room"));
        let worker = worker.expect("the machine runs guests");
        let elsewhere = wasmtime::Engine::new(&pool::compiler_config()).expect("it needs no room");
        let hash = |engine: &wasmtime::Engine| {
            let mut hasher = DefaultHasher::new();
            engine.precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        assert_eq!(hash(&worker), hash(&elsewhere));
        const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";
        let here = wasmtime::component::Component::from_binary(&worker, EMPTY);
        let here = here
            .expect("it is one")
            .serialize()
            .expect("it was compiled");
        assert_eq!(artifact(EMPTY).expect("it is one"), here);
    }

    #[test]
    fn the_parent_writes_the_arguments_as_the_command_reads_them() {
        let args = CompileArgs {
            memory_bytes: 1,
            cpu_seconds: 2,
            niceness: 3,
            parent: 4,
        };
        assert_eq!(args.to_args(), ["1", "2", "3", "4"]);
    }
}
