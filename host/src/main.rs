//! The `abide` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    abide::cli::run()
}
