//! Files that are run. A process that forks while this one writes such a file inherits the open file until
//! it executes its own program, and a file that is open for writing cannot be run ("text file busy"). Tests
//! start programs all the time, so a process that starts none writes these files.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

/// Copies a program, with its permissions.
///
/// # Panics
/// If it cannot be copied.
pub fn copy_program(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("--").args([from, to]).status();
    let copied = copied.expect("the machine has `cp`");
    assert!(copied.success(), "{from:?} is not copied to {to:?}");
}

/// Writes a shell script that everybody may run.
///
/// # Panics
/// If the folder takes no files.
pub fn write_script(path: &Path, text: &str) {
    let plain = path.with_extension("text");
    fs::write(&plain, text).expect("the folder is ours");
    copy_program(&plain, path);
    fs::set_permissions(path, Permissions::from_mode(0o755)).expect("the file is ours");
}
