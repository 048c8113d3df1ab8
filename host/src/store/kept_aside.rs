//! Damaged databases that were replaced: each in a folder of the data folder, with the report of what was
//! lost with it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::atomic_file;
use crate::domain::{SalvageReport, UnixMillis};

/// What the names of these folders begin with; the time of the replacement follows, in milliseconds.
pub(super) const ASIDE: &str = "damaged-";
/// The report, in such a folder.
const REPORT: &str = "report.json";

/// Makes the folder in which the damaged database is kept, with the report.
pub(super) fn make(path: &Path, report: &SalvageReport) -> io::Result<PathBuf> {
    let aside = path.join(format!("{ASIDE}{}", UnixMillis::now().0));
    fs::create_dir(&aside)?;
    let text = serde_json::to_vec_pretty(report)?;
    atomic_file::write_whole(&aside, REPORT, &[&text])?;
    Ok(aside)
}

/// A damaged database that a start has kept aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAside {
    pub folder: PathBuf,
    /// When it was replaced.
    pub at: UnixMillis,
    /// What was lost with it; none if that cannot be read.
    pub report: Option<SalvageReport>,
}

/// Returns the damaged databases that are kept aside in the data folder, the oldest first.
pub(super) fn kept_aside(path: &Path) -> io::Result<Vec<KeptAside>> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(path)? {
        let folder = entry?.path();
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        if let Some(at) = name.strip_prefix(ASIDE).and_then(|at| at.parse().ok()) {
            // What cannot be read, or was put there by somebody else, is shown without a report.
            let report = atomic_file::read(&folder.join(REPORT)).ok().flatten();
            kept.push(KeptAside {
                report: report.and_then(|bytes| serde_json::from_slice(&bytes).ok()),
                at: UnixMillis(at),
                folder,
            });
        }
    }
    kept.sort_by_key(|kept| kept.at);
    Ok(kept)
}
