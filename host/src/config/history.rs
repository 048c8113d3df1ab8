//! The configurations that a daemon has run on, with their texts: `DATA_DIR/configs`, one file each. They
//! outlive the file that they came from, so that whoever edited it (an agent, perhaps) can be undone.
//!
//! ```text
//! configs/00000007.json    {"number": 7, "at": ..., "generation": ..., "cause": ..., "digest": ..., "text": ...}
//! ```

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::atomic_file;
use crate::domain::{Digest, Generation, UnixMillis};

/// The number of configurations that are kept.
const CONFIGS_KEPT: usize = 100;
/// The folder below the data folder.
const FOLDER: &str = "configs";

/// A configuration that a daemon has run on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedConfig {
    /// Later ones have higher numbers.
    pub number: u64,
    /// When it was taken over.
    pub at: UnixMillis,
    /// The generation that took it over.
    pub generation: Generation,
    /// Why it was taken over, for humans; it names who asked, where that is known.
    pub cause: String,
    /// The digest of the file's bytes.
    pub digest: Digest,
    /// The file's text.
    pub text: String,
}

/// The history of a data folder.
#[derive(Clone, Debug)]
pub struct ConfigHistory {
    folder: PathBuf,
}

impl ConfigHistory {
    pub fn of(data_dir: &Path) -> Self {
        Self {
            folder: data_dir.join(FOLDER),
        }
    }

    /// Returns the configurations, the oldest first. Files that hold none are left out. Blocks.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn list(&self) -> io::Result<Vec<AcceptedConfig>> {
        let mut found = Vec::new();
        for number in self.numbers()? {
            found.extend(self.read(number));
        }
        Ok(found)
    }

    fn read(&self, number: u64) -> Option<AcceptedConfig> {
        let bytes = fs::read(self.folder.join(name(number))).ok()?;
        let read: AcceptedConfig = serde_json::from_slice(&bytes).ok()?;
        // What was damaged is gone back to by nobody. What is no UTF-8 has another digest.
        let is_whole = Digest::of(read.text.as_bytes()) == read.digest
            || read.text.contains(char::REPLACEMENT_CHARACTER);
        is_whole.then_some(read)
    }

    /// Adds a configuration, unless it is that of the last entry. Those beyond [`CONFIGS_KEPT`] are
    /// removed. Blocks.
    ///
    /// # Errors
    /// If it cannot be written. Nothing depends on it: what runs goes on.
    pub fn accept(&self, bytes: &[u8], generation: Generation, cause: &str) -> io::Result<()> {
        let digest = Digest::of(bytes);
        let numbers = self.numbers()?;
        let last = numbers.last().and_then(|last| self.read(*last));
        if last.is_some_and(|last| last.digest == digest) {
            return Ok(());
        }
        let number = numbers.last().map_or(1, |last| last + 1);
        let accepted = AcceptedConfig {
            number,
            at: UnixMillis::now(),
            generation,
            cause: cause.to_owned(),
            digest,
            // What was accepted is TOML, and so UTF-8.
            text: String::from_utf8_lossy(bytes).into_owned(),
        };
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.folder)?;
        let json = serde_json::to_vec_pretty(&accepted).map_err(io::Error::other)?;
        atomic_file::write_whole(&self.folder, &name(number), &[&json])?;
        let excess = (numbers.len() + 1).saturating_sub(CONFIGS_KEPT);
        for number in numbers.into_iter().take(excess) {
            fs::remove_file(self.folder.join(name(number)))?;
        }
        self.remove_leftovers()
    }

    /// Removes what killed processes have left behind.
    fn remove_leftovers(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry
                .file_name()
                .to_str()
                .is_some_and(atomic_file::is_temporary)
            {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Returns the numbers of the files, in order.
    fn numbers(&self) -> io::Result<Vec<u64>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut numbers = Vec::new();
        for entry in entries {
            let file = entry?.file_name();
            let number = file.to_str().and_then(|name| name.strip_suffix(".json"));
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

fn name(number: u64) -> String {
    format!("{number:08}.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(history: &ConfigHistory) -> Vec<String> {
        let list = history.list().expect("the folder is ours");
        list.into_iter().map(|accepted| accepted.text).collect()
    }

    #[test]
    fn each_change_is_kept_once_and_the_oldest_go() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let history = ConfigHistory::of(home.path());
        assert_eq!(texts(&history), Vec::<String>::new());
        let accept = |text: &str| {
            let accepted = history.accept(text.as_bytes(), Generation(1), "a test");
            accepted.expect("the folder is ours");
        };
        for text in ["a", "a", "b", "a"] {
            accept(text);
        }
        assert_eq!(texts(&history), ["a", "b", "a"]);
        for n in 0..CONFIGS_KEPT {
            accept(&n.to_string());
        }
        let list = history.list().expect("the folder is ours");
        assert_eq!(list.len(), CONFIGS_KEPT);
        assert_eq!((list[0].number, &*list[0].text), (4, "0"));
        let folder = home.path().join("configs");
        let left = folder.join(".00000009.json.77");
        fs::write(&left, "half").expect("the folder is ours");
        accept("last");
        assert!(!left.exists());
    }

    #[test]
    fn what_is_no_entry_is_left_out_and_alone() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let history = ConfigHistory::of(home.path());
        let accept = |text: &[u8]| history.accept(text, Generation(1), "a test");
        accept(b"a").expect("the folder is ours");
        let folder = home.path().join("configs");
        for (name, text) in [("00000002.json", "{"), ("notes.txt", "x")] {
            fs::write(folder.join(name), text).expect("the folder is ours");
        }
        assert_eq!(texts(&history), ["a"]);
        accept(b"b").expect("the folder is ours");
        assert_eq!(texts(&history), ["a", "b"]);
        assert!(folder.join("00000003.json").exists() && folder.join("notes.txt").exists());
    }
}
