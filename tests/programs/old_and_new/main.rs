//! An older binary and the present one by turns over one data folder: upgrades whose worker dies in its
//! probation, so that the older binary comes back, with turns open and clients that never stop. Fails if
//! a start does not succeed, an acknowledged message is missing, an effect is done twice, or the format
//! of the folder is raised by a version that has not passed its probation.
//!
//! ```text
//!   old, proven --> upgrade: new, in probation --(kill -9: new again)--> SIGABRT: old again --+
//!        ^                         |                                                          |
//!        |                         +--> all processes killed: old by hand --+                 |
//!        +------------------------------------------------------------------+-----------------+
//! ```
//!
//! `abide-old-and-new OLD [ROUNDS]`: the path of the older binary, and how many rounds (20). Needs root.

mod binaries;
mod stage;
mod talkers;

use std::path::Path;
use std::process::ExitCode;

use abide_tests::abide_binary;

use self::binaries::{Binaries, Which};
use self::stage::UpgradeStage;

/// How many rounds there are by default.
const ROUNDS: u64 = 20;
/// All processes are killed in each third round.
const KILL_ALL_EVERY: u64 = 3;

#[tokio::main]
async fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let rounds = |word: Option<String>| word.map_or(Some(ROUNDS), |word| word.parse().ok());
    let (Some(old), Some(rounds)) = (words.next(), rounds(words.next())) else {
        eprintln!("abide-old-and-new OLD [ROUNDS]: the path of an older binary, and a number");
        return ExitCode::from(2);
    };
    if !rustix::process::geteuid().is_root() {
        eprintln!("which binary a daemon runs is visible to root alone: run this as root");
        return ExitCode::from(2);
    }
    let binaries = Binaries::new(Path::new(&old), &abide_binary());
    let mut stage = UpgradeStage::start(binaries).await;
    for round in 1..=rounds {
        stage.downgrade().await;
        stage.open_turns(round).await;
        let tried = stage.upgrade().await;
        stage.open_turns_go_on(round).await;
        if round % 2 == 0 {
            stage.kill_worker(Which::New).await;
        }
        let end = match round % KILL_ALL_EVERY {
            0 => {
                stage.kill_all().await;
                "all processes were killed, and the old one was started by hand"
            }
            _ => {
                stage.fail_probation(tried).await;
                "it died in its probation, and the old one was back"
            }
        };
        stage.end_turns(round).await;
        println!("round {round}: upgraded with turns open; {end}");
    }
    let wrong = stage.audit().await;
    for line in &wrong {
        println!("WRONG: {line}");
    }
    println!("{rounds} rounds; {} things are wrong", wrong.len());
    match wrong.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
