//! Runs an agent of thirty steps with real tool servers, once undisturbed and once with continual
//! kills and restarts: both runs must produce the same files and the same transcript.
//!
//! `ABIDE_SEED` repeats a run's disturbances; `ABIDE_RUNS` is the number of runs, with consecutive
//! seeds; `ABIDE_KILLS` and `ABIDE_RESTARTS` are the numbers of disturbances in a run; `ABIDE_KEEP`
//! keeps the daemons' directories. The servers are installed once, with npm, into cargo's target
//! directory or `ABIDE_NPM`.

mod checker;
mod disturb;
mod npm;
mod plan;
mod relay;
mod run;
mod script;
mod table;
#[cfg(test)]
mod tests;
mod transcript;
#[cfg(test)]
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::disturb::SoakDisturbance;
use crate::npm::Servers;
use crate::run::{ANSWER, RunOutcome};

const KILLS: u64 = 20;
const RESTARTS: u64 = 5;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [first, rest @ ..] = arguments.as_slice()
        && first == relay::ARGUMENT
    {
        return relay::run(rest);
    }
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|error| panic!("{name}={text}: {error}")),
        Err(_) => default,
    };
    let first_seed = number("ABIDE_SEED", u64::from(rand::rng().random::<u32>()));
    let runs = number("ABIDE_RUNS", 1);
    let kills = number("ABIDE_KILLS", KILLS) as usize;
    let restarts = number("ABIDE_RESTARTS", RESTARTS) as usize;
    let target = std::env::var_os("ABIDE_NPM").map_or_else(default_folder, PathBuf::from);
    let servers = Servers::install(&target);
    let plan = plan::plan();
    println!(
        "{} steps, {} calls of tools; {kills} kills and {restarts} changes of the configuration\n",
        plan.len(),
        plan.iter().flatten().count()
    );
    println!("{}", table::head());

    let alone = run::run(&servers, &[]).await;
    let mut wrong = checker::alone(&alone);
    println!("{}", table::row("undisturbed", &alone, &wrong));
    if !wrong.is_empty() {
        show("undisturbed", &[], &alone, &wrong);
    }
    for seed in first_seed..first_seed + runs {
        let mut random = StdRng::seed_from_u64(seed);
        // Do not disturb the last step, so that every disturbance happens while the agent still
        // works.
        let disturbances = disturb::plan(&mut random, plan.len() - 1, kills, restarts, ANSWER);
        // Print the seed first, so that a run that hangs or panics can be repeated.
        eprintln!("ABIDE_SEED={seed}");
        let outcome = run::run(&servers, &disturbances).await;
        let found = checker::disturbed(&alone, &outcome);
        let name = format!("seed {seed}");
        println!("{}", table::row(&name, &outcome, &found));
        if !found.is_empty() {
            show(&name, &disturbances, &outcome, &found);
        }
        wrong.extend(found);
    }
    if wrong.is_empty() {
        println!("\nverdict: the same files, the same transcript, and nothing done twice");
        return ExitCode::SUCCESS;
    }
    println!("\nverdict: WRONG, {} differences", wrong.len());
    ExitCode::FAILURE
}

fn default_folder() -> PathBuf {
    let executable = std::env::current_exe().expect("a process knows its executable");
    let folder = executable.ancestors().nth(2);
    folder
        .expect("cargo builds into a folder")
        .join("trajectory")
}

/// Prints everything that is known about a failed run.
fn show(name: &str, disturbances: &[SoakDisturbance], outcome: &RunOutcome, wrong: &[String]) {
    for wrong in wrong {
        println!("  WRONG: {wrong}");
    }
    eprintln!("--- {name}: the disturbances ---");
    for (disturbance, met) in disturbances.iter().zip(&outcome.met) {
        eprintln!("{disturbance} ({met:?})");
    }
    eprintln!("--- {name}: the turn ---\n{:#}", outcome.turn);
    eprintln!("--- {name}: the daemon's log ---\n{}", outcome.log);
}
