//! Sends requests of every kind to every operation of the OpenAPI document, well formed and not, with
//! Schemathesis, to a daemon in which there is something of everything. Fails if an answer is a 5xx, is not
//! declared, or has not the declared form; if a request that fits the document is refused for its form,
//! or one that does not is accepted; or if a validator refuses the document.
//!
//! Once without tokens, where anybody may do everything; then with tokens, as holder of the
//! configuration's, as client and as viewer.

mod fuzz;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};

use self::fuzz::{Counts, Fuzzer};
use self::world::{Caller, World};

const HELP: &str = "\
abide-api-fuzz --venv FOLDER --hooks FOLDER [--seconds N] [--only CALLER]
    Schemathesis is in the first folder, hooks.py in the second. N (180) seconds for each of the callers
    anybody, config, client and viewer; at least once through all of it. `make api-fuzz` knows the folders.";

struct Args {
    venv: PathBuf,
    hooks: PathBuf,
    seconds: u64,
    only: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("abide-api-fuzz: {error:#}\n{HELP}");
            ExitCode::from(2)
        }
    }
}

fn read_args() -> anyhow::Result<Args> {
    let (mut venv, mut hooks, mut seconds, mut only) = (None, None, 180, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words
            .next()
            .ok_or_else(|| anyhow!("{word} needs a value"))?;
        match word.as_str() {
            "--venv" => venv = Some(PathBuf::from(value).canonicalize()?),
            "--hooks" => hooks = Some(PathBuf::from(value).canonicalize()?),
            "--seconds" => seconds = value.parse().context("--seconds")?,
            "--only" => only = Some(value),
            _ => bail!("{word} means nothing"),
        }
    }
    Ok(Args {
        venv: venv.ok_or_else(|| anyhow!("--venv is missing"))?,
        hooks: hooks.ok_or_else(|| anyhow!("--hooks is missing"))?,
        seconds,
        only,
    })
}

/// Runs as each caller. Returns whether nothing was found.
async fn run() -> anyhow::Result<bool> {
    let args = read_args()?;
    let fuzzer = Fuzzer {
        venv: args.venv,
        hooks: args.hooks,
        seconds: args.seconds,
    };
    let wanted = |caller: &Caller| {
        args.only
            .as_deref()
            .is_none_or(|only| only == caller.name())
    };
    let callers: Vec<_> = Caller::ALL.into_iter().filter(wanted).collect();
    if callers.is_empty() {
        bail!("there is no such caller");
    }
    let mut table = Vec::new();
    for caller in callers {
        println!("\n--- as {} ---", caller.name());
        let mut world = World::build(caller).await;
        let (clean, counts) = fuzzer.run(&mut world).await?;
        if !clean {
            eprintln!("--- the daemon's log ---\n{}", world.daemon.log());
        }
        table.push((caller, clean, counts));
    }
    print(&table);
    Ok(table.iter().all(|(_, clean, _)| *clean))
}

fn print(table: &[(Caller, bool, Counts)]) {
    println!(
        "\n{:8} {:>9} {:>9} {:>9} {:>7} {:>7} {:>7}  verdict",
        "caller", "coverage", "fuzzing", "stateful", "2xx", "4xx", "5xx"
    );
    for (caller, clean, counts) in table {
        println!(
            "{:8} {:>9} {:>9} {:>9} {:>7} {:>7} {:>7}  {}",
            caller.name(),
            counts.of_phase("coverage"),
            counts.of_phase("fuzzing"),
            counts.of_phase("stateful"),
            counts.of_class('2'),
            counts.of_class('4'),
            counts.of_class('5'),
            if *clean { "ok" } else { "WRONG: see above" },
        );
    }
}
