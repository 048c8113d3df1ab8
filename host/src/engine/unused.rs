//! Removes components that nothing runs on any more.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};
use std::{fs, io};

use super::runtime::Engine;
use crate::domain::Digest;

/// How old a component must be, since it was last kept: a worker that is about to take over may have kept
/// one that no session runs on yet.
const AGE_MIN: Duration = Duration::from_secs(24 * 3600);
/// The number of digits of a digest, with which the names of a component and its settings begin.
const DIGEST_DIGITS: usize = 64;

impl Engine {
    /// Removes the components that are not `needed` and were kept more than a day ago, with their settings.
    /// Returns how many there were. Waits for the disk.
    pub fn remove_unused(&self, needed: &BTreeSet<Digest>) -> io::Result<usize> {
        let folder = &self.0.options.components_dir;
        remove_unused(folder, needed, SystemTime::now())
    }
}

fn remove_unused(folder: &Path, needed: &BTreeSet<Digest>, now: SystemTime) -> io::Result<usize> {
    let (mut old, mut rest) = (BTreeSet::new(), Vec::new());
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let digest = name.get(..DIGEST_DIGITS).and_then(Digest::from_hex);
        let Some(digest) = digest.filter(|digest| !needed.contains(digest)) else {
            continue;
        };
        if !name.ends_with(".wasm") {
            rest.push((digest, entry.path()));
            continue;
        }
        // One of the future is young: the clock was set.
        let kept = entry.metadata()?.modified()?;
        if now.duration_since(kept).is_ok_and(|age| age > AGE_MIN) {
            old.insert(digest);
            // The component first: settings without one are removed by the next run.
            fs::remove_file(entry.path())?;
        }
    }
    for (digest, path) in rest {
        let component = folder.join(format!("{digest}.wasm"));
        if !fs::exists(component)? {
            fs::remove_file(path)?;
        }
    }
    Ok(old.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_or_young_stays() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let (needed, young, old) = (Digest::of(b"1"), Digest::of(b"2"), Digest::of(b"3"));
        let now = SystemTime::now();
        for (digest, age) in [
            (needed, 2 * AGE_MIN),
            (young, AGE_MIN / 2),
            (old, 2 * AGE_MIN),
        ] {
            let path = home.path().join(format!("{digest}.wasm"));
            fs::write(&path, "x").expect("the folder is ours");
            let file = fs::File::options().write(true).open(&path);
            file.and_then(|file| file.set_modified(now - age))
                .expect("the folder is ours");
            fs::write(home.path().join(format!("{digest}.p.json")), "x").expect("ours");
        }
        fs::write(home.path().join("of-somebody-else"), "x").expect("ours");
        let unfinished = home.path().join(format!(".{old}.wasm.7"));
        fs::write(unfinished, "x").expect("ours");
        let removed = remove_unused(home.path(), &BTreeSet::from([needed]), now);
        assert_eq!(removed.expect("the folder is ours"), 1);
        let there =
            |digest: Digest, end: &str| home.path().join(format!("{digest}.{end}")).exists();
        for digest in [needed, young] {
            assert!(there(digest, "wasm") && there(digest, "p.json"), "{digest}");
        }
        assert!(!there(old, "wasm") && !there(old, "p.json"));
        assert_eq!(fs::read_dir(home.path()).expect("ours").count(), 6);
    }
}
