//! Power cuts: unsynced data is lost, all of it or a random part.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use abide_tests::{Losses, PowerCut, Signal, signal};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::block_in_place;

/// Cuts the power of a folder if the program requires it. The preloaded library costs time, so only
/// those programs use it.
pub(crate) struct Power {
    folder: PathBuf,
    cuts: Option<PowerCut>,
    /// Whether a process may have died in the middle of an operation: at a failpoint, or because
    /// its supervisor died. Then its last operation may be unknown, and a cut may be impossible.
    torn: bool,
    /// What each cut leaves.
    draw: StdRng,
}

/// The outcome of a cut.
pub(crate) enum Cut {
    /// Unsynced data is lost.
    Done(Losses),
    /// Nothing is lost: what a process wrote as it died is unknown. The processes were only killed.
    Void,
    /// The cut failed although it should have been possible.
    Failed(String),
}

impl Power {
    /// Watches the files in this folder; `cuts`: whether its power will ever be cut. What the cuts
    /// leave depends on `name`.
    pub(crate) fn new(folder: &Path, cuts: bool, name: &str) -> Self {
        let mut seed = [0; 32];
        let places = seed.iter_mut().zip(name.bytes());
        places.for_each(|(place, byte)| *place = byte);
        Self {
            folder: folder.to_path_buf(),
            cuts: cuts.then(|| block_in_place(|| PowerCut::new(folder))),
            torn: false,
            draw: StdRng::from_seed(seed),
        }
    }

    /// Returns the variables that the daemon's environment must have.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        self.cuts.as_ref().map(PowerCut::env).unwrap_or_default()
    }

    /// Kills a process with SIGKILL.
    pub(crate) fn kill(&self, pid: i32) {
        match &self.cuts {
            Some(cuts) => block_in_place(|| cuts.kill(pid)),
            None => drop(signal(pid, Signal::KILL)),
        }
    }

    /// Records that a process has died in another way.
    pub(crate) fn torn(&mut self) {
        self.torn = true;
    }

    /// Cuts the power, which kills all processes that are still alive. The environment may be a
    /// different one afterwards.
    pub(crate) fn cut(&mut self) -> Cut {
        let Some(cuts) = &mut self.cuts else {
            return Cut::Failed("the program was to have no power cuts".to_owned());
        };
        let parts: Option<u64> = self.draw.random_bool(0.5).then(|| self.draw.random());
        let cut = || match parts {
            Some(seed) => cuts.cut_leaving_parts(seed),
            None => cuts.cut(),
        };
        let cut = block_in_place(|| catch_unwind(AssertUnwindSafe(cut)));
        let torn = std::mem::take(&mut self.torn);
        match cut {
            Ok(losses) => Cut::Done(losses),
            Err(panic) => {
                // The present content of the folder counts as durable.
                self.cuts = Some(block_in_place(|| PowerCut::new(&self.folder)));
                let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                match torn {
                    true => Cut::Void,
                    false => Cut::Failed(text),
                }
            }
        }
    }
}
