//! The cache of precompiled components. Compiling takes a third of a second, loading a quarter of a
//! millisecond.
//!
//! Wasmtime trusts a precompiled file like its own code, so it gets only files that this module has
//! written, of what a compiler of this very program has returned (in a process of its own, whose output
//! nobody else can write to): a file is named after the component and the engine that it was compiled for, and begins
//! with a digest over both and its payload. A file that does not match is compiled again and
//! replaced. The directory is in the daemon's data directory; anyone who can write there can also
//! replace the configuration, so the digest protects against damage and mix-ups, not attackers.
//!
//! ```text
//! offset  size  field
//!      0     8  magic "ABPC" and format, little-endian: 1
//!      8    32  SHA-256 of the component's digest, the engine's hash and the payload
//!     40     n  the payload: the compiler's artifact, in wasmtime's own format
//! ```

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use wasmtime::component::Component as Compiled;

use crate::atomic_file;
use crate::domain::Digest;

const MAGIC: [u8; 8] = *b"ABPC\x01\0\0\0";
const HEADER_BYTES: usize = 40;
/// The number of files to keep; the oldest are removed first. Each upgrade of the binary or of a
/// plugin adds a file.
const FILES_MAX: usize = 64;

/// The directory of precompiled components.
pub(super) struct Precompiled {
    folder: PathBuf,
    /// A hash of everything that a file's compatibility with the engine depends on: version,
    /// settings, CPU.
    engine_hash: u64,
}

impl Precompiled {
    pub(super) fn new(folder: PathBuf, engine: &wasmtime::Engine) -> Self {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self {
            folder,
            engine_hash: hasher.finish(),
        }
    }

    /// Loads the component with this digest, if it was precompiled for this engine and is
    /// undamaged.
    pub(super) fn load(&self, engine: &wasmtime::Engine, component: Digest) -> Option<Compiled> {
        let path = self.folder.join(self.name(component));
        let bytes = match atomic_file::read(&path) {
            Ok(bytes) => bytes?,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read a precompiled component");
                return None;
            }
        };
        let Some(payload) = self.verify(component, &bytes) else {
            tracing::warn!(
                path = %path.display(),
                "a precompiled component is damaged or not ours; compiling it again"
            );
            return None;
        };
        // The digest that was just verified shows that the payload is a compiler's artifact for this
        // component and an engine of this compatibility hash.
        match open(engine, payload) {
            Ok(compiled) => Some(compiled),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a precompiled component does not fit");
                None
            }
        }
    }

    /// Stores the compiler's artifact of a component for the next start. A failure costs only time, so it
    /// is just logged.
    pub(super) fn keep(&self, component: Digest, artifact: &[u8]) {
        let digest = self.digest(component, artifact);
        let parts: [&[u8]; 3] = [&MAGIC, &digest, artifact];
        match atomic_file::write_whole(&self.folder, &self.name(component), &parts) {
            Ok(()) => self.prune(),
            Err(error) => tracing::warn!(
                folder = %self.folder.display(), %error,
                "cannot keep a precompiled component; it will be compiled again at the next start"
            ),
        }
    }

    fn name(&self, component: Digest) -> String {
        format!("{component}-{:016x}.cwasm", self.engine_hash)
    }

    fn digest(&self, component: Digest, payload: &[u8]) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(component.as_bytes());
        hasher.update(self.engine_hash.to_le_bytes());
        hasher.update(payload);
        hasher.finalize().into()
    }

    /// Returns the payload if the file is undamaged and was compiled for this component and engine.
    fn verify<'a>(&self, component: Digest, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (header, payload) = bytes.split_at_checked(HEADER_BYTES)?;
        let (magic, digest) = header.split_at(MAGIC.len());
        (magic == MAGIC && digest == self.digest(component, payload)).then_some(payload)
    }

    fn prune(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        let mut files: Vec<_> = entries
            .filter_map(Result::ok)
            .filter(|entry| is_ours(&entry.path()))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort();
        for (_, path) in files.iter().rev().skip(FILES_MAX) {
            if let Err(error) = fs::remove_file(path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove an old precompiled component");
            }
        }
    }
}

/// Loads a compiler's artifact, whose code will run as this process's own: it must be what a compiler of
/// this program has returned, in this process, in its own or in that of an earlier start.
pub(super) fn open(engine: &wasmtime::Engine, artifact: &[u8]) -> wasmtime::Result<Compiled> {
    // SAFETY: it is the output of wasmtime's compiler, as each caller shows. Wasmtime checks itself whether
    // it was made by this version with these settings.
    unsafe { Compiled::deserialize(engine, artifact) }
}

fn is_ours(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "cwasm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_undamaged_file_for_this_component_and_engine_is_taken() {
        let cache = Precompiled {
            folder: PathBuf::new(),
            engine_hash: 1,
        };
        let (component, payload) = (Digest::of(b"c"), b"payload".as_slice());
        let digest = cache.digest(component, payload);
        let file = [MAGIC.as_slice(), digest.as_slice(), payload].concat();
        assert_eq!(cache.verify(component, &file), Some(payload));
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 1;
            assert_eq!(cache.verify(component, &damaged), None, "byte {at}");
            assert_eq!(cache.verify(component, &file[..at]), None, "cut at {at}");
        }
        assert_eq!(cache.verify(Digest::of(b"other"), &file), None);
        let other = Precompiled {
            folder: PathBuf::new(),
            engine_hash: 2,
        };
        assert_eq!(other.verify(component, &file), None);
    }
}
