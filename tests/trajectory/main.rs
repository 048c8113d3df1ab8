//! An agent of thirty steps with real tool servers, once left alone and once killed and restarted
//! all the time: the same files must come of it, and the same transcript.
//!
//! `ABIDE_SEED` repeats a run's disturbances; `ABIDE_KILLS` and `ABIDE_RESTARTS` say how many
//! there are. The servers are installed once, with npm, into cargo's folder or `ABIDE_NPM`.

mod disturb;
mod npm;
mod plan;
mod run;
mod script;
#[cfg(test)]
mod tests;
mod transcript;
#[cfg(test)]
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::npm::Servers;
use crate::run::{ANSWER, Outcome};
use crate::script::DONE;

const KILLS: u64 = 20;
const RESTARTS: u64 = 5;
#[tokio::main]
async fn main() -> ExitCode {
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|error| panic!("{name}={text}: {error}")),
        Err(_) => default,
    };
    let seed = number("ABIDE_SEED", rand::rng().random());
    let kills = number("ABIDE_KILLS", KILLS) as usize;
    let restarts = number("ABIDE_RESTARTS", RESTARTS) as usize;
    let target = std::env::var_os("ABIDE_NPM").map_or_else(default_folder, PathBuf::from);
    let servers = Servers::install(&target);
    let steps = plan::plan().len();

    println!("undisturbed: {steps} steps");
    let alone = run::run(&servers, &[]).await;
    tell(&alone);
    println!("disturbed: {kills} kills, {restarts} restarts, ABIDE_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    // The last step is left alone, so that each finds the agent at work.
    let disturbances = disturb::plan(&mut random, steps - 1, kills, restarts, ANSWER);
    let disturbed = run::run(&servers, &disturbances).await;
    tell(&disturbed);

    let wrong = judge(&alone, &disturbed);
    for wrong in &wrong {
        println!("  WRONG: {wrong}");
    }
    println!(
        "{} differences in {} files and {} calls, ABIDE_SEED={seed}",
        wrong.len(),
        alone.files.len(),
        alone.transcript.deeds.len()
    );
    if wrong.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("--- the daemon's log ---\n{}", disturbed.log);
    ExitCode::FAILURE
}

fn default_folder() -> PathBuf {
    let executable = std::env::current_exe().expect("a process knows its executable");
    let folder = executable.ancestors().nth(2);
    folder
        .expect("cargo builds into a folder")
        .join("trajectory")
}

fn tell(outcome: &Outcome) {
    let transcript = &outcome.transcript;
    println!(
        "  {} in {:.1} s: {} calls of tools, {} of the model; {} recovery messages, {} unknown \
         outcomes, {} calls made again",
        outcome.status,
        outcome.took.as_secs_f64(),
        transcript.deeds.len(),
        outcome.model_calls,
        transcript.recoveries,
        transcript.unknown,
        transcript.repeated
    );
}

/// What should not be so.
fn judge(alone: &Outcome, disturbed: &Outcome) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, outcome) in [("undisturbed", alone), ("disturbed", disturbed)] {
        if outcome.status != "completed" || outcome.said != [DONE] {
            let (status, said) = (&outcome.status, &outcome.said);
            wrong.push(format!("{name}: the turn {status} and says {said:?}"));
        }
    }
    let calls: usize = plan::plan().iter().map(Vec::len).sum();
    let done = &alone.transcript;
    if !done.wrong.is_empty() || done.deeds.len() != calls || done.unknown + done.recoveries > 0 {
        wrong.push(format!("undisturbed: {done:?}"));
    }
    wrong.extend(disturbed.transcript.differences(done));
    let paths = alone.files.keys().chain(disturbed.files.keys());
    for path in paths.filter(|path| !path.ends_with(transcript::LEFTOVER)) {
        let (expected, found) = (alone.files.get(path), disturbed.files.get(path));
        if expected != found {
            wrong.push(format!("{path} is {found:?} instead of {expected:?}"));
        }
    }
    wrong.sort();
    wrong.dedup();
    wrong
}
