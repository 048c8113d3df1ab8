//! What is in a data folder beside the store: components, the last good configuration.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use crate::atomic_file::{is_temporary, read, remove, sync_folder};
use crate::checksummed::{check_json, unseal};
use crate::domain::Digest;
use crate::store::{
    backup,
    failed_io::FailedIo,
    file_copy::{CopyError, copy},
    format::{Format, SALVAGING, read_format},
    kept_aside::ASIDE,
    scratch,
};

/// Files of a data folder that belong to its database, to its owner or to its disk, or that can be made
/// again.
const OWN: [&str; 18] = [
    "db",
    "cache",
    "lost+found",
    "FORMAT",
    SALVAGING,
    "SYNCED",
    "TRAIL",
    "TRAIL.old",
    "LOCK",
    "RESERVE",
    "DAMAGED",
    "mending",
    "db.mended",
    scratch::CHECK,
    scratch::BACKUP,
    scratch::OLD_CHECK,
    // What would make a backup of the copy.
    backup::NAME,
    backup::PARTIAL,
];

/// Returns what is damaged of it, and keeps a start from opening the store or a session from going on.
pub(super) fn damaged_beside(data: &Path) -> Vec<String> {
    let mut damaged = Vec::new();
    match read_format(data) {
        Ok(Format::Known) => {}
        Ok(Format::None | Format::Creating) => {
            damaged.push("its file `FORMAT` is not that of a complete store".to_owned());
        }
        Err(error) => damaged.push(error.to_string()),
    }
    let last_good = data.join("last-good");
    if let Ok(Some(bytes)) = read(&last_good)
        && let Err(unfit) = unseal(&bytes)
    {
        damaged.push(format!("{}: {unfit}", last_good.display()));
    }
    let components = fs::read_dir(data.join("components")).into_iter().flatten();
    for path in components.flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|end| end == "json") {
            let unfit = fs::read(&path).map(|text| check_json(&text));
            if let Ok(Err(unfit)) = unfit {
                damaged.push(format!("{}: {unfit}", path.display()));
            }
            continue;
        }
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let Some(digest) = stem.and_then(Digest::from_hex) else {
            continue;
        };
        if path.extension().is_none_or(|end| end != "wasm") {
            continue;
        }
        let text = match fs::read(&path) {
            Ok(bytes) if Digest::of(&bytes) == digest => continue,
            Ok(_) => "has not the content that it is named after".to_owned(),
            Err(error) => format!("cannot be read: {error}"),
        };
        damaged.push(format!("{} {text}", path.display()));
    }
    damaged
}

/// Copies what is in the data folder beside the store: components, the last good configuration. What
/// cannot be read is added to `lost`.
pub(super) fn copy_others(data: &Path, new: &Path, lost: &mut Vec<String>) -> Result<(), FailedIo> {
    let failed = || FailedIo::of("look into", data);
    for entry in fs::read_dir(data).map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        let text = name.to_string_lossy();
        if !OWN.contains(&&*text) && !text.starts_with(ASIDE) {
            copy_tree(&data.join(&name), &new.join(&name), lost)?;
        }
    }
    Ok(())
}

/// Copies a file, or a folder with all that it holds, and syncs it: sessions may need a component that no
/// configuration names any more, which only a backup could bring back.
fn copy_tree(from: &Path, to: &Path, lost: &mut Vec<String>) -> Result<(), FailedIo> {
    let mut unreadable = |error: &io::Error| {
        lost.push(format!("{} cannot be read: {error}", from.display()));
        Ok(())
    };
    let kind = match fs::symlink_metadata(from) {
        Ok(meta) => meta.file_type(),
        Err(error) => return unreadable(&error),
    };
    if kind.is_dir() {
        let entries = fs::read_dir(from).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => return unreadable(&error),
        };
        let made = DirBuilder::new().mode(0o700).create(to);
        made.map_err(FailedIo::of("create", to))?;
        for entry in entries {
            let name = entry.file_name();
            copy_tree(&from.join(&name), &to.join(&name), lost)?;
        }
        sync_folder(to).map_err(FailedIo::of("sync", to))?;
    } else if kind.is_file() && !is_left_over(from) {
        match copy(from, to, &|| false) {
            Ok(_) => {}
            Err(CopyError::Read(error)) => {
                // A part of it is worse than none.
                remove(to).map_err(FailedIo::of("remove", to))?;
                return unreadable(&error);
            }
            Err(error) => return Err(error.named(from, to)),
        }
    }
    Ok(())
}

/// Whether a process that was killed has left a file that it had not completed.
fn is_left_over(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    is_temporary(&name.to_string_lossy())
}
