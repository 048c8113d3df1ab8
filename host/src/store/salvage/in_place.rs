//! Puts a new database in the place of one that has a damaged table, when the store is opened. The
//! damaged one is kept aside, and its damage is met no more.
//!
//! ```text
//!   db, DAMAGED --> db + mending/db --> db + db.mended --> damaged-T/db + db.mended --> damaged-T/db + db
//!        ^               | a start that ends here begins again    | one that ends here   |
//!        +---------------+                                        +-- ends with the rename
//! ```

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

use crate::atomic_file::{remove_folder, sync_folder};
use crate::domain::SalvageReport;
use crate::failpoint;
use crate::store::{
    cut_all::CutOrder, damage, failed_io::FailedIo, format::write_newest_format, kept_aside::make,
    mark::SyncedMark, options::StoreOptions, recovery::Examined, witness::Witness,
};

use super::error::SalvageError;
use super::rewrite::{NewDatabase, rewrite};

/// The folder for what is not complete yet.
const MENDING: &str = "mending";
/// The new database, once it is complete and until it has its name.
const MENDED: &str = "db.mended";

/// Ends what an earlier start could not: gives a complete new database its name, or removes what is left
/// of one that was not used.
pub(in crate::store) fn finish_swap(path: &Path, witness: Option<&Witness>) -> io::Result<()> {
    let (db, mended) = (path.join("db"), path.join(MENDED));
    if fs::exists(&mended)? {
        match fs::exists(&db)? {
            false => name_it(path, witness)?,
            true => fs::remove_dir_all(&mended)?,
        }
        sync_folder(path)?;
    }
    remove_folder(&path.join(MENDING))
}

/// Gives the new database its name, once the damaged one has none any more.
fn name_it(path: &Path, witness: Option<&Witness>) -> io::Result<()> {
    // Its number is the damaged database's; the new one counts anew. Not sooner: a start that found the
    // damaged one without it would not know what that has lost.
    SyncedMark::begin_anew(path, witness)?;
    fs::rename(path.join(MENDED), path.join("db"))?;
    sync_folder(path)
}

/// Writes what can be read of the database anew, and puts it in the place of the damaged one. `examined`
/// is what its files hold, if its MANIFEST can be read; `order` is the order to cut all sessions that is
/// due anyway.
pub(in crate::store) fn mend(
    path: &Path,
    examined: Option<&Examined>,
    order: Option<CutOrder>,
    options: &StoreOptions,
) -> Result<SalvageReport, SalvageError> {
    let failed = |doing| FailedIo::of(doing, path);
    let (db, mending) = (path.join("db"), path.join(MENDING));
    remove_folder(&mending).map_err(failed("clear"))?;
    fs::create_dir(&mending).map_err(failed("create a folder in"))?;
    let target = NewDatabase {
        db: &mending.join("db"),
        order,
    };
    tracing::warn!(
        "a part of the store in {} is damaged: what can be read of it is written anew, which takes \
         1 to 5 seconds for each 100 MB",
        path.display()
    );
    let scratch = mending.join("image");
    let tell = &mut |bytes| options.mending.store(bytes, Ordering::Relaxed);
    let rewritten = rewrite(&db, &scratch, examined, Some(&target), options, tell)?;
    let report = rewritten.report;
    let aside = make(path, &report).map_err(failed("create a folder in"))?;
    if rewritten.cuts {
        // Cuts are records of format 2.
        write_newest_format(path)?;
    }
    let swap = || {
        fs::rename(mending.join("db"), path.join(MENDED))?;
        sync_folder(path)?;
        failpoint::point("mend.complete");
        fs::rename(&db, aside.join("db"))?;
        sync_folder(&aside)?;
        sync_folder(path)?;
        failpoint::point("mend.aside");
        name_it(path, options.witness.as_deref())?;
        failpoint::point("mend.named");
        damage::clear(path)?;
        remove_folder(&mending)
    };
    swap().map_err(failed("put the new database into"))?;
    log(&report, &aside);
    Ok(report)
}

fn log(report: &SalvageReport, aside: &Path) {
    for file in &report.damaged_files {
        tracing::error!("{} is damaged: {}", file.file, file.what);
    }
    for session in &report.touched {
        tracing::error!("session `{}` is damaged: {}", session.id, session.what);
    }
    for lost in &report.lost {
        tracing::error!("lost: {lost}");
    }
    tracing::error!(
        sessions = report.sessions,
        whole = report.whole,
        "the store was damaged, and was written anew; the damaged one is kept in {}",
        aside.display()
    );
}
