//! Power cuts: what was not synced is lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use abide_tests::{Losses, PowerCut, Signal, signal};
use tokio::task::block_in_place;

/// What can take a folder's power away, where a program asks for that. The preloaded library costs
/// time, so that only those programs bear it.
pub(crate) struct Power {
    folder: PathBuf,
    cuts: Option<PowerCut>,
    /// A process has died in the middle of an operation, perhaps: at a fault point, or because its
    /// supervisor did. Then what it did last may not be known, and a cut may not be possible.
    torn: bool,
}

/// What became of a cut.
pub(crate) enum Cut {
    /// What was not synced is lost.
    Done(Losses),
    /// Nothing is: what was written when a process died is not known. It was killed, no more.
    Void,
    /// It should have been possible.
    Failed(String),
}

impl Power {
    /// Of the files in this folder; `cuts`: whether it will ever be cut.
    pub(crate) fn new(folder: &Path, cuts: bool) -> Self {
        Self {
            folder: folder.to_path_buf(),
            cuts: cuts.then(|| block_in_place(|| PowerCut::new(folder))),
            torn: false,
        }
    }

    /// What the daemon's environment must hold.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        self.cuts.as_ref().map(PowerCut::env).unwrap_or_default()
    }

    /// Kills a process with -9.
    pub(crate) fn kill(&self, pid: i32) {
        match &self.cuts {
            Some(cuts) => block_in_place(|| cuts.kill(pid)),
            None => drop(signal(pid, Signal::KILL)),
        }
    }

    /// Notes that a process has died otherwise.
    pub(crate) fn torn(&mut self) {
        self.torn = true;
    }

    /// Cuts. All processes are killed that are not yet dead. The environment may be another one
    /// afterwards.
    pub(crate) fn cut(&mut self) -> Cut {
        let Some(cuts) = &mut self.cuts else {
            return Cut::Failed("the program was to have no power cuts".to_owned());
        };
        let cut = block_in_place(|| catch_unwind(AssertUnwindSafe(|| cuts.cut())));
        let torn = std::mem::take(&mut self.torn);
        match cut {
            Ok(losses) => Cut::Done(losses),
            Err(panic) => {
                // What the folder holds now is durable.
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
