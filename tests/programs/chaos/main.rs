//! Chaos: seeded programs of messages, tool calls, timers, kills and restarts on real daemons, and
//! a checker that compares what was observed from outside with what must be true.
//!
//! The pure parts (programs, checks) are in `abide_tests::checker`, where the suite tests them.

mod args;
mod boundaries;
mod bugs;
mod clients;
mod copies;
mod damaged;
mod disturb;
mod operator;
mod power;
mod report;
mod scene;
mod seed;
mod stage;

use std::process::ExitCode;
use std::time::Instant;

use abide_tests::checker::program::{self, Program};
use anyhow::anyhow;
use tokio::task::JoinSet;

use crate::args::{ChaosArgs, HELP};
use crate::report::Report;
use crate::stage::ChaosParts;

/// The default number of seeds of a run.
const SEEDS: u64 = 200;

#[tokio::main]
async fn main() -> ExitCode {
    match act().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(wrong) => {
            eprintln!("abide-chaos: {wrong}; see --help");
            ExitCode::from(2)
        }
    }
}

/// Executes the command. Returns whether nothing is wrong.
async fn act() -> anyhow::Result<bool> {
    let args = ChaosArgs::read()?;
    match args.command.as_str() {
        "run" => {
            let means = args.means()?;
            let seeds = args.first..args.first + args.seeds.unwrap_or(SEEDS);
            let report = run_seeds(seeds, args.jobs, &means, false, !args.json).await;
            match args.json {
                true => println!("{:#}", report.json()),
                false => report.print(),
            }
            Ok(report.is_clean())
        }
        "boundaries" => boundaries::run(&args.means()?, args.jobs).await,
        "bugs" => bugs::run(&args).await,
        "show" => {
            let tools = !args.without_tools;
            println!("{:#?}", Program::new(args.first, program::Means { tools }));
            Ok(true)
        }
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(true)
        }
        other => Err(anyhow!("there is no command {other:?}")),
    }
}

/// Runs seeds, `jobs` at a time. With `until_wrong`, starts no further ones after a violation.
pub(crate) async fn run_seeds(
    mut seeds: impl Iterator<Item = u64>,
    jobs: usize,
    means: &ChaosParts,
    until_wrong: bool,
    talk: bool,
) -> Report {
    let started = Instant::now();
    let mut report = Report::default();
    let mut running = JoinSet::new();
    loop {
        while running.len() < jobs && (!until_wrong || report.is_clean()) {
            let Some(seed) = seeds.next() else { break };
            running.spawn(seed::run(seed, means.clone()));
        }
        let Some(outcome) = running.join_next().await else {
            break;
        };
        let outcome = outcome.expect("a seed's panic is caught");
        let line = report.take(outcome);
        if talk {
            println!("[{:>5.0} s] {line}", started.elapsed().as_secs_f64());
        }
    }
    report
}
