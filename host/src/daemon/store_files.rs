//! The store of a daemon that does not run: checked, and salvaged into another folder.

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::domain::SalvageReport;
use crate::store::{StoreOptions, check, salvage};

use super::open_store::configured;

/// The files of a store that is not open.
#[derive(Debug)]
pub struct StoreFiles {
    data_dir: PathBuf,
    options: StoreOptions,
}

impl StoreFiles {
    /// Those of the daemon with this configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            data_dir: config.daemon.data_dir.clone(),
            options: configured(config, StoreOptions::default()),
        }
    }

    /// Reads all of the store and compares what belongs together. `tell` is told how many bytes were
    /// read so far. Blocks.
    ///
    /// # Errors
    /// The reason why it cannot be read at all: it is in use, or none.
    pub fn check(&self, tell: &mut dyn FnMut(u64)) -> Result<SalvageReport, String> {
        check(&self.data_dir, &self.options, tell).map_err(|error| error.to_string())
    }

    /// Writes what can be read of the store into the folder `new`, which must not exist or must be
    /// empty. `tell` is told how many bytes were read so far. Blocks.
    ///
    /// # Errors
    /// The reason why nothing can be read, or why `new` cannot be written.
    pub fn salvage(&self, new: &Path, tell: &mut dyn FnMut(u64)) -> Result<SalvageReport, String> {
        salvage(&self.data_dir, new, &self.options, tell).map_err(|error| error.to_string())
    }
}
