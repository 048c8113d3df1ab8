//! Measurements of the built daemon, as a client sees it and as `/proc` shows it.
//!
//! | subcommand | what it measures |
//! |---|---|
//! | `in-flight [--turns 10000]` | so many turns at once, each waiting for a slow model: memory, and a restart in their midst |
//! | `journal [--seconds 5]` | turns per second with steps against without |
//!
//! The client, the model and the daemon share the machine: figures say what a machine does as a
//! whole, and only those of one run can be compared.

mod disk;
mod in_flight;
mod journal;
mod parallel;
mod polling;
mod proc;
mod told;
mod tool;

use std::process::ExitCode;

use abide_tests::{Plugin, Setup};

const USAGE: &str = "abide-measure in-flight [--turns N] | journal [--seconds N]";

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse().ok().filter(|number| *number > 0);
    let done = match args[..] {
        ["in-flight"] => in_flight::measure(10_000).await,
        ["journal"] => journal::measure(5).await,
        ["in-flight", "--turns", turns] if number(turns).is_some() => {
            in_flight::measure(number(turns).unwrap_or(1)).await
        }
        ["journal", "--seconds", seconds] if number(seconds).is_some() => {
            journal::measure(number(seconds).unwrap_or(1) as u64).await
        }
        _ => Err(format!("usage: {USAGE}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("abide-measure: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A daemon's setup with the guest that does what it is told.
fn acrobat(capabilities: &[&str]) -> Setup {
    let capabilities = capabilities.iter().map(|&line| line.to_owned()).collect();
    Setup {
        plugins: vec![Plugin {
            capabilities,
            ..Plugin::new("acrobat")
        }],
        // Errors that carry where they came from are for developers, and make a cut slow.
        env: vec![("RUST_BACKTRACE".to_owned(), "0".to_owned())],
        ..Setup::default()
    }
}
