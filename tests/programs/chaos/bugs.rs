//! The mutation test of the whole system: with a deliberate bug in the daemon, the checker must
//! find a violation; without one, none.

use abide_tests::checker::ViolationKind;
use anyhow::anyhow;

use crate::args::ChaosArgs;
use crate::run_seeds;
use crate::stage::ChaosParts;

/// The bugs that can be enabled in a daemon built for them, and the invariant that each breaks.
const BUGS: &[(&str, u32, &str)] = &[
    ("ack-before-sync", 1, "acknowledged before it is synced"),
    ("consume-twice", 2, "a message is consumed by two turns"),
    (
        "publish-before-commit",
        3,
        "output is seen before its commit",
    ),
    ("plan-late", 4, "an effect begins before its plan is synced"),
    ("cursor-gap", 5, "cursors have gaps"),
    (
        "rewind-forgets",
        12,
        "what was undone and done outside is not told",
    ),
    (
        "trial-skipped",
        12,
        "a component that loses a part of the state takes over",
    ),
    ("silent-loss", 11, "what damage has cost is not told"),
    ("restart-anyway", 10, "goes on with a bad configuration"),
];

/// Those that show in what the daemon does, not in what becomes of sessions.
const SHOWN_BY_SERVICE: &[&str] = &["restart-anyway"];

/// The default number of seeds within which a bug must be caught.
const SEEDS: u64 = 40;

/// Runs each bug until it is caught. Returns whether all were.
pub(crate) async fn run(args: &ChaosArgs) -> anyhow::Result<bool> {
    let means = args.means()?;
    let most = args.seeds.unwrap_or(SEEDS);
    let seeds = || args.first..args.first + most;
    let unknown = |name: &&String| !BUGS.iter().any(|(bug, ..)| bug == name);
    if let Some(name) = args.names.iter().find(unknown) {
        return Err(anyhow!("there is no bug {name:?}"));
    }
    let mut lines = Vec::new();
    let mut well = true;
    // Without a bug nothing may be wrong: over as many seeds as the hardest bug needed, or a few.
    let mut longest = 3;
    for (bug, invariant, what) in BUGS {
        if !args.names.is_empty() && !args.names.iter().any(|name| name == bug) {
            continue;
        }
        println!("{bug} (invariant {invariant}): {what}");
        let with = ChaosParts {
            bug: Some((*bug).to_owned()),
            ..means.clone()
        };
        // One job, so that all seeds before the one that catches the bug have been checked.
        let report = run_seeds(seeds(), 1, &with, true, true).await;
        let after = report.seeds();
        longest = longest.max(after);
        // A service that got worse, or a run that ended early, is no proof of another invariant.
        let is_meant = |kind| (kind == ViolationKind::Service) == SHOWN_BY_SERVICE.contains(bug);
        let seed = args.first + after - 1;
        let outcome = match (report.first_of(is_meant), report.first_wrong()) {
            (Some(outcome), _) => format!("caught at seed {seed}: {outcome}"),
            (None, Some(other)) => {
                well = false;
                format!("NOT CAUGHT: seed {seed} is wrong in another way: {other}")
            }
            (None, None) => {
                well = false;
                format!("NOT CAUGHT in {after} seeds")
            }
        };
        println!("    {outcome}");
        lines.push(format!("{bug:<24}{invariant:>9}  {outcome}"));
    }
    println!("without a bug, {longest} seeds");
    let report = run_seeds(
        args.first..args.first + longest,
        args.jobs,
        &means,
        false,
        true,
    )
    .await;
    well &= report.is_clean();
    println!("\n{:<24}{:>9}  what the checker said", "bug", "invariant");
    for line in lines {
        println!("{line}");
    }
    match report.first_wrong() {
        None => println!("{:<24}{:>9}  nothing, in {longest} seeds", "none", ""),
        Some(outcome) => println!("{:<24}{:>9}  {outcome}", "none", ""),
    }
    Ok(well)
}
