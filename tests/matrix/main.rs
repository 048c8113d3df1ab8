//! The matrix: each way in which a configuration is really saved, with each kind of change, against
//! a daemon with live sessions. Prints a table; fails where a cell did not do what it should, or a
//! session lost anything.

mod cell;
mod deaf;
mod ways;

use std::fs;
use std::process::ExitCode;

use abide_tests::{Daemon, Plugin, Setup, guest};

use crate::cell::Kind;
use crate::deaf::Deafness;
use crate::ways::{Needs, WAYS};

/// The daemon's user where ours is root: nobody, by the number that it has everywhere.
const NOBODY: u32 = 65_534;

#[tokio::main]
async fn main() -> ExitCode {
    // Only ways with this in their name.
    let only = std::env::args().nth(1).unwrap_or_default();
    let root = rustix::process::geteuid().is_root();
    let user = root.then_some(NOBODY);
    // Guests where that user can read them.
    let guests = tempfile::tempdir().expect("the machine has a folder for temporary files");
    let echo = guests.path().join("echo.wasm");
    fs::copy(guest("echo"), &echo).expect("the folder is ours");
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(guests.path(), everybody).expect("the folder is ours");
    let setup = || Setup {
        plugins: vec![Plugin {
            path: echo.clone(),
            ..Plugin::new("echo")
        }],
        spare_path: Some(echo.clone()),
        user,
        ..Setup::default()
    };
    println!(
        "| saved | hot | restart | invalid syntax | invalid semantics | fixed key |\n\
         | --- | ---: | ---: | ---: | ---: | ---: |"
    );
    let mut number = 0;
    let mut wrong = Vec::new();
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
        let deafness = match (deaf, root) {
            (true, true) => Deafness::of(NOBODY),
            (true, false) => Err("takes root, or your own programs would go deaf".to_owned()),
            (false, _) => Err(String::new()),
        };
        if deaf && let Err(why) = &deafness {
            println!("| no events | not tried: {why} |");
            continue;
        }
        let mut daemon = Daemon::start(setup()).await;
        daemon.client().open("long", "echo").await;
        for way in ways {
            print!("| {} |", way.name);
            for kind in Kind::ALL {
                // Putting a file back takes a number, too.
                number += 2;
                let outcome = cell::run(&mut daemon, way, kind, number).await;
                let seconds = outcome.took.as_secs_f64();
                match outcome.wrong.as_slice() {
                    [] => print!(" {seconds:.2} s |"),
                    what => {
                        print!(" **FAILED** |");
                        let what = what.join("\n    ");
                        wrong.push(format!("{}, {kind:?}:\n    {what}", way.name));
                    }
                }
                let _ = std::io::Write::flush(&mut std::io::stdout());
            }
            println!();
        }
    }
    if wrong.is_empty() {
        println!("\nTimes are from the save to its effect. No session lost anything.");
        return ExitCode::SUCCESS;
    }
    println!("\n{} cells failed:\n  {}", wrong.len(), wrong.join("\n  "));
    ExitCode::FAILURE
}
