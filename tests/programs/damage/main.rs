//! Damages every kind of file of a data folder, in every way, after every kind of death, and judges
//! what a daemon makes of it: sessions that were not touched are complete and go on, touched ones are
//! named, and no acknowledged turn is missing without that being said.

mod case;
mod judge;
mod world;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use abide_tests::damage::{Harm, files_by_kind};
use anyhow::anyhow;
use tokio::runtime::Handle;
use tokio::task::{JoinSet, spawn_blocking};

use crate::case::{Case, End};
use crate::world::{Death, World};

const HELP: &str = "\
abide-damage [--places N] [--first S] [--jobs J] [--only TEXT]
    Damages each kind of file at N (20) random places in each of four ways after each of three kinds
    of death, with the seeds S (1), S+1, ...; J (2) cases at a time; only cases whose line contains
    TEXT, such as `table log` or `deleted, clean stop`. Prints each failed case and a table. Folders of
    failed cases are moved to ABIDE_DAMAGE_KEEP if that is set.";

struct DamageArgs {
    places: u64,
    first: u64,
    jobs: usize,
    only: String,
}

/// The ends of the cases of a row of the table.
#[derive(Default)]
struct Row {
    cases: u64,
    whole: u64,
    named: u64,
    salvaged: u64,
    failed: u64,
    /// The most sessions that one case named.
    most: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("abide-damage: {error:#}\n{HELP}");
            ExitCode::from(2)
        }
    }
}

fn read_args() -> anyhow::Result<DamageArgs> {
    let mut args = DamageArgs {
        places: 20,
        first: 1,
        jobs: 2,
        only: String::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words
            .next()
            .ok_or_else(|| anyhow!("{word} needs a value"))?;
        match word.as_str() {
            "--places" => args.places = value.parse()?,
            "--first" => args.first = value.parse()?,
            "--jobs" => args.jobs = value.parse::<usize>()?.max(1),
            "--only" => args.only = value,
            _ => return Err(anyhow!("{word} means nothing")),
        }
    }
    Ok(args)
}

fn line(case: &Case) -> String {
    format!("{}, {}, {}", case.kind, case.harm.name(), case.death.name())
}

/// Runs all cases. Returns whether none failed.
async fn run() -> anyhow::Result<bool> {
    let args = read_args()?;
    let stopped = Arc::new(World::build().await?);
    let killed = Arc::new(stopped.killed().await?);
    let mut kinds: Vec<String> = Vec::new();
    for world in [&stopped, &killed] {
        for (kind, files) in files_by_kind(&world.folder.path().join("data"))? {
            let bytes: u64 = files
                .iter()
                .filter_map(|file| file.metadata().ok())
                .map(|it| it.len())
                .sum();
            eprintln!("{kind}: {} files, {bytes} bytes", files.len());
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
    }
    let mut cases = Vec::new();
    for place in 0..args.places {
        for kind in &kinds {
            for harm in Harm::ALL {
                for death in Death::ALL {
                    let kind = kind.clone();
                    let seed = args.first + place;
                    let case = Case {
                        kind,
                        harm,
                        death,
                        seed,
                    };
                    if line(&case).contains(&args.only) {
                        cases.push(case);
                    }
                }
            }
        }
    }
    let (all, mut done) = (cases.len(), 0);
    let mut table: BTreeMap<(String, Harm, Death), Row> = BTreeMap::new();
    let mut running = JoinSet::new();
    let mut cases = cases.into_iter();
    loop {
        while running.len() < args.jobs
            && let Some(case) = cases.next()
        {
            let (stopped, killed) = (stopped.clone(), killed.clone());
            running.spawn(async move {
                // On a thread of its own: a panic of a helper is a failure of this case alone.
                let of = case.clone();
                let here = Handle::current();
                let ran = spawn_blocking(move || here.block_on(of.run(&stopped, &killed))).await;
                let ended = ran.unwrap_or_else(|error| {
                    (String::new(), End::Failed(format!("a panic: {error}")))
                });
                (case, ended)
            });
        }
        let Some(ran) = running.join_next().await else {
            break;
        };
        let (case, (what, end)) = ran?;
        take(&mut table, &case, &what, end);
        done += 1;
        if done % 100 == 0 {
            let failed: u64 = table.values().map(|row| row.failed).sum();
            eprintln!("{done} of {all} cases, {failed} failed");
        }
    }
    print(&table);
    Ok(table.values().all(|row| row.failed == 0))
}

fn take(table: &mut BTreeMap<(String, Harm, Death), Row>, case: &Case, what: &str, end: End) {
    let row = table
        .entry((case.kind.clone(), case.harm, case.death))
        .or_default();
    row.cases += u64::from(!matches!(end, End::NotThere));
    match end {
        End::NotThere => {}
        End::Whole => row.whole += 1,
        End::Named(many) => {
            row.named += 1;
            row.most = row.most.max(many);
        }
        End::Salvaged(many) => {
            row.salvaged += 1;
            row.most = row.most.max(many);
        }
        End::Failed(why) => {
            row.failed += 1;
            let mut why = why;
            why.truncate(why.floor_char_boundary(1500));
            println!(
                "FAILED {}, seed {} ({what}): {why}\n    again: make damage PLACES=1 FIRST={} ONLY='{}'",
                line(case),
                case.seed,
                case.seed,
                line(case)
            );
        }
    }
}

fn print(table: &BTreeMap<(String, Harm, Death), Row>) {
    println!(
        "\n{:<34}{:<14}{:<20}{:>6}{:>7}{:>7}{:>10}{:>7}{:>11}",
        "kind", "damage", "after", "cases", "whole", "named", "salvaged", "FAILED", "most named"
    );
    for ((kind, harm, death), row) in table.iter().filter(|(_, row)| row.cases > 0) {
        println!(
            "{kind:<34}{:<14}{:<20}{:>6}{:>7}{:>7}{:>10}{:>7}{:>11}",
            harm.name(),
            death.name(),
            row.cases,
            row.whole,
            row.named,
            row.salvaged,
            row.failed,
            row.most
        );
    }
    let sum = |of: fn(&Row) -> u64| table.values().map(of).sum::<u64>();
    println!(
        "{} cases: {} whole, {} with named sessions, {} refused and salvaged, {} FAILED",
        sum(|row| row.cases),
        sum(|row| row.whole),
        sum(|row| row.named),
        sum(|row| row.salvaged),
        sum(|row| row.failed)
    );
}
