//! The save matrix: every way in which a configuration is saved in practice, with every kind of
//! change, against a daemon with live sessions. Prints a table, and fails if a cell did not behave
//! as it should or a session lost anything.

mod cell;
mod deaf;
mod ways;

use std::fs;
use std::process::ExitCode;

use abide_tests::{Daemon, Plugin, Setup, guest};

use crate::cell::{ChangeKind, Target};
use crate::deaf::Deafness;
use crate::ways::{Needs, WAYS, Way};

/// The daemon's user if this program runs as root: `nobody`, by its number on all systems.
const NOBODY: u32 = 65_534;

#[tokio::main]
async fn main() -> ExitCode {
    // Run only the ways whose name contains the first argument.
    let only = std::env::args().nth(1).unwrap_or_default();
    let root = rustix::process::geteuid().is_root();
    let user = root.then_some(NOBODY);
    // Copy the guests to where that user can read them.
    let guests = tempfile::tempdir().expect("the machine has a folder for temporary files");
    let echo = guests.path().join("echo.wasm");
    fs::copy(guest("echo"), &echo).expect("the folder is ours");
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(guests.path(), everybody).expect("the folder is ours");
    let spare = guests.path().join("spare.wasm");
    fs::copy(&echo, &spare).expect("the folder is ours");
    let setup = || Setup {
        plugins: vec![Plugin {
            path: echo.clone(),
            ..Plugin::new("echo")
        }],
        spare_path: Some(spare.clone()),
        user,
        ..Setup::default()
    };
    let mut table = CellTable::default();
    for (deaf, needs) in [
        (false, &[Needs::Nothing, Needs::NotRoot][..]),
        (true, &[Needs::Deaf]),
    ] {
        let ways: Vec<_> = WAYS
            .iter()
            .filter(|way| needs.contains(&way.needs) && way.name.contains(&only))
            .collect();
        if ways.is_empty() {
            continue;
        }
        let _deafness = match (deaf, root) {
            (false, _) => None,
            (true, false) => {
                println!("No events: not tried; it takes root, or your own programs go deaf.");
                continue;
            }
            (true, true) => match Deafness::of(NOBODY) {
                Ok(deafness) => Some(deafness),
                Err(why) => {
                    println!("No events: not tried; {why}.");
                    continue;
                }
            },
        };
        let mut daemon = Daemon::start(setup()).await;
        daemon.client().open("long", "echo").await;
        for target in [Target::Config, Target::Plugin(spare.clone())] {
            println!("{}", head(&target));
            for way in &ways {
                table.row(&mut daemon, way, &target).await;
            }
        }
    }
    let wrong = table.wrong;
    if wrong.is_empty() {
        println!("\nTimes are from the save to its effect. No session lost anything.");
        return ExitCode::SUCCESS;
    }
    println!("\n{} cells failed:\n  {}", wrong.len(), wrong.join("\n  "));
    ExitCode::FAILURE
}

fn head(target: &Target) -> String {
    let what = match target {
        Target::Config => "`abide.toml`",
        Target::Plugin(_) => "a plugin's component",
    };
    format!(
        "\n| {what}, saved | hot | restart | invalid syntax | invalid semantics | fixed key |\n\
         | --- | ---: | ---: | ---: | ---: | ---: |"
    )
}

/// The results of the cells so far.
#[derive(Default)]
struct CellTable {
    number: u64,
    wrong: Vec<String>,
}

impl CellTable {
    /// Runs one way of saving with every kind of change.
    async fn row(&mut self, daemon: &mut Daemon, way: &Way, target: &Target) {
        print!("| {} |", way.name);
        for kind in ChangeKind::ALL {
            // Restoring a file consumes a number, too.
            self.number += 2;
            match cell::run(daemon, way, target, kind, self.number).await {
                None => print!(" - |"),
                Some(outcome) if outcome.wrong.is_empty() => {
                    print!(" {:.2} s |", outcome.took.as_secs_f64());
                }
                Some(outcome) => {
                    print!(" **FAILED** |");
                    let what = outcome.wrong.join("\n    ");
                    self.wrong
                        .push(format!("{}, {kind:?}:\n    {what}", way.name));
                }
            }
            // Ignore an error of the pipe that the table is printed to.
            let _ = std::io::Write::flush(&mut std::io::stdout());
        }
        println!();
    }
}
