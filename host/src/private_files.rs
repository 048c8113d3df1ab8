//! Files of this process's user alone: sessions hold what people and agents said to each other.
//!
//! The umask is the process's, and RocksDB's files have no mode of their own. What a process starts (a
//! tool server, whose files are another matter) gets the umask back that it was started with itself.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::Mode;
use rustix::process::umask;

/// The bits of everybody but the owner.
const OTHERS: u32 = 0o077;

/// The umask that this process was started with, once it has another one.
static INHERITED: OnceLock<Mode> = OnceLock::new();

/// From now on this process makes files and folders for its user alone.
pub(crate) fn keep_private() {
    let inherited = umask(Mode::from_raw_mode(OTHERS));
    // A second call finds its own one.
    let _ = INHERITED.set(inherited);
}

/// Gives this process the umask back that it was started with. For a child before its program runs.
pub(crate) fn restore_umask() {
    if let Some(inherited) = INHERITED.get() {
        umask(*inherited);
    }
}

/// How far [`make_private`] goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The folder itself, which keeps others from all that is in it.
    Folder,
    /// All that is in it as well. That takes a while in a folder of many files.
    All,
}

/// Takes everybody's rights but the owner's from a folder. Returns how many files and folders had such
/// rights. Symbolic links are left alone, and so is what they lead to.
pub(crate) fn make_private(path: &Path, reach: Reach) -> io::Result<usize> {
    let meta = fs::symlink_metadata(path)?;
    if meta.is_symlink() {
        return Ok(0);
    }
    let mode = meta.permissions().mode();
    let mut changed = 0;
    if mode & OTHERS != 0 {
        fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS & 0o7777))?;
        changed = 1;
    }
    if meta.is_dir() && reach == Reach::All {
        for entry in fs::read_dir(path)? {
            match make_private(&entry?.path(), reach) {
                Ok(more) => changed += more,
                // A file may go while they are listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_folder_becomes_its_owners_alone() {
        let home = tempfile::tempdir().unwrap();
        let (data, outside) = (home.path().join("data"), home.path().join("outside"));
        let (folder, file) = (data.join("db"), data.join("db/000007.sst"));
        fs::create_dir_all(&folder).unwrap();
        for path in [&file, &outside] {
            fs::write(path, "x").unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
        }
        for path in [&data, &folder] {
            fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        }
        symlink(&outside, data.join("link")).unwrap();
        assert_eq!(make_private(&data, Reach::Folder).unwrap(), 1);
        assert_eq!((mode(&data), mode(&folder)), (0o700, 0o755));
        assert_eq!(make_private(&data, Reach::All).unwrap(), 2);
        assert_eq!(
            (mode(&data), mode(&folder), mode(&file)),
            (0o700, 0o700, 0o600)
        );
        assert_eq!(mode(&outside), 0o644);
        assert_eq!(make_private(&data, Reach::All).unwrap(), 0);
    }
}
