//! Measurements of the built daemon, as a client sees it and as `/proc` shows it.
//!
//! The client, the model and the daemon share the machine: figures describe the machine as a whole,
//! and only figures of the same run are comparable.

mod backup;
mod boot_failures;
mod compute;
mod crowd;
mod curve;
mod disk;
mod first_token;
mod idle;
mod in_flight;
mod journal;
mod lean;
mod long;
mod memory;
mod parallel;
mod plot;
mod pressure;
mod proc;
mod raw;
mod restarts;
mod state;
mod told;
mod tool;
mod trials;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use abide_tests::{Plugin, Setup};
use clap::{Parser, Subcommand, value_parser};

/// Measures the daemon `ABIDE_BIN` with the guests in `ABIDE_GUESTS`.
#[derive(Parser)]
#[command(name = "abide-measure")]
struct MeasureArgs {
    #[command(subcommand)]
    what: Measurement,
}

#[derive(Subcommand)]
enum Measurement {
    /// Concurrent turns that all wait for a slow model: memory, and a restart in the middle
    InFlight {
        #[arg(long, default_value_t = 10_000)]
        turns: usize,
    },
    /// The time of a session's turns while guests of others compute without end
    Compute {
        #[arg(long, default_value_t = 100)]
        guests: usize,
        /// How long each of the two is measured, in seconds
        #[arg(long, default_value_t = 10, value_parser = value_parser!(u64).range(1..))]
        seconds: u64,
    },
    /// Turns per second with and without steps
    Journal {
        /// How long each kind of turn is measured in a round, in seconds
        #[arg(long, default_value_t = 5, value_parser = value_parser!(u64).range(1..))]
        seconds: u64,
    },
    /// Memory with these numbers of idle sessions
    Idle {
        #[arg(long, value_delimiter = ',', default_value = "10000,100000")]
        sessions: Vec<usize>,
    },
    /// The pause of a planned restart, and the time from `kill -9` to the first answered turn,
    /// over the number of stored sessions; against a bare opening of the same store
    Curve {
        #[arg(
            long,
            value_delimiter = ',',
            default_value = "1000,10000,100000,1000000"
        )]
        sessions: Vec<usize>,
        /// Sessions that took a turn just before, and that a restart restores
        #[arg(long, default_value_t = 1000)]
        active: usize,
        /// Restarts and kills with each number of sessions; figures are medians
        #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(1..))]
        rounds: u32,
        /// Where the stores are created and kept for later runs; by default a temporary folder
        #[arg(long)]
        data: Option<PathBuf>,
        /// The folder to draw the figures into
        #[arg(long)]
        plots: Option<PathBuf>,
    },
    /// A session's last turns against a fresh session's, in time and on disk
    Long {
        #[arg(long, default_value_t = 100_000, value_parser = value_parser!(u32).range(10_000..))]
        turns: u32,
    },
    /// A turn's cost over the size of its session's state
    State {
        /// Rounds over all sizes; figures are medians
        #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(1..))]
        rounds: u32,
        /// The folder to draw the figures into
        #[arg(long)]
        plots: Option<PathBuf>,
    },
    /// Memory and answers while clients send far more than turns end
    Pressure {
        /// Connections, each to sessions of its own
        #[arg(long, default_value_t = 5_000)]
        connections: usize,
        /// Messages that each of them sends
        #[arg(long, default_value_t = 4)]
        messages: usize,
    },
    /// Clients of every kind over this many restarts, idle and as many under load: what they lose
    /// (nothing), how long they wait, and whether the supervisor leaks
    Restarts {
        #[arg(long, default_value_t = 100, value_parser = value_parser!(u32).range(1..))]
        count: u32,
    },
    /// Time to the first word of an answer, through the daemon and from the model itself
    FirstToken {
        #[arg(long, default_value_t = 64, value_parser = value_parser!(u16).range(1..))]
        sessions: u16,
        /// Rounds of each; figures are over all rounds together
        #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(1..))]
        rounds: u32,
        /// Another build of the daemon, measured in the same run
        #[arg(long)]
        against: Option<PathBuf>,
    },
    /// What backups of a running daemon cost its clients
    Backup {
        /// The size of the store, in MiB
        #[arg(long, default_value_t = 500)]
        store: u64,
        /// How long each of the two is measured in a round, in seconds
        #[arg(long, default_value_t = 10, value_parser = value_parser!(u64).range(1..))]
        seconds: u64,
        #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(1..))]
        rounds: u32,
    },
    /// The trial of a plugin's new component on stored sessions: its time and memory, what clients of
    /// another plugin feel, and the pause of its restart beside that of another one
    Trials {
        #[arg(long, default_value_t = 100_000)]
        sessions: usize,
        /// Restarts with and without a new component; the pauses are medians
        #[arg(long, default_value_t = 3, value_parser = value_parser!(u32).range(1..))]
        rounds: u32,
    },
    /// A new worker that cannot take over, in every way and before and after the hand-over: how
    /// long clients wait (some minutes: a standby that hangs is given two)
    BootFailures,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match MeasureArgs::parse().what {
        Measurement::InFlight { turns } => in_flight::measure(turns).await,
        Measurement::Compute { guests, seconds } => compute::measure(guests, seconds).await,
        Measurement::Journal { seconds } => journal::measure(seconds).await,
        Measurement::Idle { sessions } => idle::measure(&sessions).await,
        Measurement::Curve {
            sessions,
            active,
            rounds,
            data,
            plots,
        } => curve::measure(&sessions, active, rounds, data, plots).await,
        Measurement::Long { turns } => long::measure(turns).await,
        Measurement::State { rounds, plots } => state::measure(rounds, plots).await,
        Measurement::Pressure {
            connections,
            messages,
        } => pressure::measure(connections, messages).await,
        Measurement::Restarts { count } => restarts::measure(count).await,
        Measurement::FirstToken {
            sessions,
            rounds,
            against,
        } => first_token::measure(sessions.into(), rounds, against.as_deref()).await,
        Measurement::Backup {
            store,
            seconds,
            rounds,
        } => backup::measure(store, Duration::from_secs(seconds), rounds).await,
        Measurement::Trials { sessions, rounds } => trials::measure(sessions, rounds).await,
        Measurement::BootFailures => boot_failures::measure().await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("abide-measure: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the setup of a daemon with the `scripted` guest, which performs the acts that a message
/// lists.
fn scripted(capabilities: &[&str]) -> Setup {
    let capabilities = capabilities.iter().map(|&line| line.to_owned()).collect();
    Setup {
        plugins: vec![Plugin {
            capabilities,
            ..Plugin::new("scripted")
        }],
        // Backtraces make aborting a turn slow; switch them off.
        env: vec![("RUST_BACKTRACE".to_owned(), "0".to_owned())],
        ..Setup::default()
    }
}
