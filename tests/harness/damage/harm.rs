//! What happens to a file.

use std::fs;
use std::path::{Path, PathBuf};

use rand::Rng as _;
use rand::rngs::StdRng;

use super::files::FilesByKind;

/// The length of a zeroed block, in bytes.
const BLOCK_BYTES: usize = 4096;

/// A kind of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    Flip,
    Zero,
    Cut,
    Delete,
}

impl Harm {
    pub const ALL: [Self; 4] = [Self::Flip, Self::Zero, Self::Cut, Self::Delete];

    pub fn name(self) -> &'static str {
        match self {
            Self::Flip => "bit flipped",
            Self::Zero => "block zeroed",
            Self::Cut => "cut",
            Self::Delete => "deleted",
        }
    }
}

/// A damaged file.
pub struct Damaged {
    pub file: PathBuf,
    /// What was done to it, in words.
    pub what: String,
    /// Its length in bytes, if some of them were changed and its end was not, where a table has its index.
    pub length_if_end_spared: Option<usize>,
}

/// What a table's index, its properties and its footer take at its end, at most, in bytes.
const END_BYTES: usize = 32 << 10;

/// Damages a file of that kind at a drawn place: none if there is no file that can be damaged so.
pub fn damage(
    files: &FilesByKind,
    kind: &str,
    harm: Harm,
    random: &mut StdRng,
) -> anyhow::Result<Option<Damaged>> {
    let files = files.get(kind).map(Vec::as_slice).unwrap_or_default();
    let can_be = |file: &Path| harm == Harm::Delete || length_used(file) > 0;
    let files: Vec<&PathBuf> = files.iter().filter(|file| can_be(file)).collect();
    if files.is_empty() {
        return Ok(None);
    }
    let file = files[random.random_range(0..files.len())].clone();
    if harm == Harm::Delete {
        fs::remove_file(&file)?;
        return Ok(Some(Damaged {
            file,
            what: "deleted".to_owned(),
            length_if_end_spared: None,
        }));
    }
    let mut bytes = fs::read(&file)?;
    let at = random.random_range(0..length_used(&file));
    let what = match harm {
        Harm::Flip => {
            let bit = random.random_range(0..8);
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at} flipped")
        }
        Harm::Zero => {
            let from = at - at % BLOCK_BYTES;
            let until = bytes.len().min(from + BLOCK_BYTES);
            bytes[from..until].fill(0);
            format!("bytes {from} to {until} zeroed")
        }
        Harm::Cut | Harm::Delete => {
            bytes.truncate(at);
            format!("cut to {at} bytes")
        }
    };
    let is_before_end = at + BLOCK_BYTES + END_BYTES <= bytes.len();
    let spares_end = is_before_end && matches!(harm, Harm::Flip | Harm::Zero);
    let length_if_end_spared = spares_end.then_some(bytes.len());
    // In place: the owner of a daemon that lives may have the file open.
    fs::write(&file, bytes)?;
    Ok(Some(Damaged {
        file,
        what,
        length_if_end_spared,
    }))
}

/// Returns the length of a file up to its last byte that is not zero: files are preallocated, and damage
/// to what is not used shows nothing. The whole length, if all are zero.
fn length_used(file: &Path) -> usize {
    let bytes = fs::read(file).unwrap_or_default();
    let last = bytes.iter().rposition(|byte| *byte != 0);
    last.map_or(bytes.len(), |last| last + 1)
}
