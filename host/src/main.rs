//! The `abide` program.

use std::process::ExitCode;

/// Also RocksDB's: a turn makes and drops many small things on several threads, and what glibc
/// makes of that costs a quarter of the throughput.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    abide::cli::run()
}
