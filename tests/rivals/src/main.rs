//! Compares the same chat turn on Abide and its rivals: on the same disk, with the same load
//! generator, alternating.
//!
//! A session keeps its last 20 messages of 200 bytes and counts its turns. A turn receives a
//! message and answers with the turn's number and how many messages are kept; everything is on disk
//! before the response.
//!
//! ```text
//! chat      the request for a turn in each server's format, and the checks of its response
//! timed     the same, recording the time of each request and response
//! npm       installs the rivals                   versions  of every server
//! servers   starts each server, kills it with kill -9, and restarts it
//! bare      the upper bound of Abide's speed: its HTTP server in front of RocksDB alone
//! pattern   the keys and bytes of one of Abide's turns, for `bare` to write
//! measure   one server in one round               syncs     whether a server syncs before it answers
//! table     medians, as Markdown
//! ```
//!
//! Servers, service and load share the machine, so only figures of the same run are comparable, and
//! ratios are computed within the same round.

mod bare;
mod chat;
mod measure;
mod npm;
mod pattern;
mod servers;
mod syncs;
mod table;
mod timed;
mod versions;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::measure::Extent;
use crate::npm::Installed;
use crate::servers::{Contender, Kit};
use crate::table::Table;

/// The daemon's allocator, so that bare RocksDB has the same advantage.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the same chat turn on Abide, Restate, workerd and bare RocksDB, for about half an hour.
#[derive(Parser)]
#[command(name = "abide-rivals")]
struct RivalsArgs {
    /// Rounds; each measures every server once.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each server is under load over 64 connections, in seconds; over one, half as long.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Sessions that take a turn before memory is measured, and are stored when a server is killed.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..))]
    stored: u32,
    /// Measure only this server; may be given several times.
    #[arg(long, value_enum)]
    only: Vec<Contender>,
    /// Where the rivals and the stores are kept, on a disk; by default cargo's target folder.
    #[arg(long)]
    folder: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the chat with RocksDB alone; started by the measurement.
    #[command(hide = true)]
    Bare {
        /// Where to listen.
        address: SocketAddr,
        /// Where the database is.
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    let args = RivalsArgs::parse();
    let done = match &args.command {
        Some(Command::Bare { address, folder }) => bare::run(*address, folder),
        None => tokio::runtime::Runtime::new()
            .map_err(|error| format!("threads cannot be started: {error}"))
            .and_then(|runtime| runtime.block_on(compare(args))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("abide-rivals: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn compare(args: RivalsArgs) -> Result<(), String> {
    let folder = args.folder;
    let folder = folder.unwrap_or_else(|| abide_tests::target().join("peers"));
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut kinds: Vec<Contender> = Contender::ALL.into();
    kinds.retain(|kind| args.only.is_empty() || args.only.contains(kind));
    let installed = Installed::install(&folder, &kinds)?;
    servers::check_disk(&folder)?;
    eprintln!("learning what one of Abide's turns writes");
    let pattern = pattern::observe(&folder).await?;
    let kit = Kit {
        folder,
        installed,
        pattern,
    };
    let plan = Extent {
        load: Duration::from_secs(args.seconds),
        stored: args.stored as usize,
    };
    let mut table = Table::new(&kit, &plan, args.rounds);
    let mut stores = measure::FilledStores::default();
    for round in 1..=args.rounds {
        for &kind in &kinds {
            eprintln!("round {round} of {}: {}", args.rounds, kind.title());
            let figures = measure::round(kind, &kit, &plan, &mut stores).await?;
            table.add(kind, figures);
        }
    }
    println!("{table}");
    table.verdict()
}
