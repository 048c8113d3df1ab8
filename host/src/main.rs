//! The `abide` program.

use std::process::ExitCode;

/// The global allocator, which RocksDB uses too. A turn allocates and frees many small objects on
/// several threads; glibc's allocator would cost a quarter of the throughput.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    abide::cli::run()
}
