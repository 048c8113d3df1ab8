//! Components that one daemon of the tests has compiled, for the caches of the next ones: compiling its
//! plugins costs each daemon more than anything else that a test does with it.
//!
//! The daemon trusts a file of its cache by the digests in it and in its name, as after a restart. Tests
//! of a cache that is empty, damaged or gone make it so themselves.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};

use crate::setup::{Setup, target};

/// How many files are kept. Each change of a guest leaves one behind.
const KEPT_MAX: usize = 64;
const ENDING: &str = ".cwasm";

/// Returns the folder of the files.
fn shelf() -> &'static Path {
    static SHELF: OnceLock<PathBuf> = OnceLock::new();
    SHELF.get_or_init(|| {
        let shelf = target().join("tmp/precompiled");
        if names_in(&shelf).len() > KEPT_MAX {
            // Another process may do the same.
            let _ = fs::remove_dir_all(&shelf);
        }
        fs::create_dir_all(&shelf).expect("cargo's folder is ours");
        shelf
    })
}

/// Fills the cache of a daemon that has not been started yet. It lacks what no daemon has compiled.
pub(crate) fn fill_cache(folder: &Path, setup: &Setup) {
    let data = folder.join(&setup.data_dir);
    // Another user could not write there, and a preloaded library has to see all files being made.
    if data.exists() || setup.user.is_some() || !setup.env.is_empty() {
        return;
    }
    let cache = data.join("cache");
    let mut builder = DirBuilder::new();
    let made = builder.mode(0o700).recursive(true).create(&cache);
    made.expect("the folder is ours");
    for plugin in &setup.plugins {
        if let Ok(component) = fs::read(&plugin.path) {
            supply(&cache, &component);
        }
    }
}

/// Puts what a daemon has compiled of a component into a cache.
pub(crate) fn supply(cache: &Path, component: &[u8]) {
    // A file's name begins with the component's.
    let digest = format!("{:x}", Sha256::digest(component));
    let names = names_in(shelf()).into_iter();
    for name in names.filter(|name| name.starts_with(&digest)) {
        // It may be gone by now.
        let _ = copy_whole(&shelf().join(&name), &cache.join(&name));
    }
}

/// Keeps what a daemon that is ready has compiled.
pub(crate) fn keep_cache(folder: &Path, setup: &Setup) {
    let cache = folder.join(&setup.data_dir).join("cache");
    let kept = names_in(shelf());
    for name in names_in(&cache).iter().filter(|name| !kept.contains(name)) {
        let copied = copy_whole(&cache.join(name), &shelf().join(name));
        if let Err(error) = copied {
            eprintln!("`{name}` is compiled again by the next test: {error}");
        }
    }
}

/// Copies a file so that whoever finds the copy finds all of it.
fn copy_whole(from: &Path, to: &Path) -> io::Result<()> {
    let partial = to.with_extension(format!("{:016x}", rand::random::<u64>()));
    fs::copy(from, &partial)?;
    fs::rename(&partial, to)
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.ends_with(ENDING)).collect()
}
