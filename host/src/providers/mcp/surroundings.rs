//! What lies beside the way to paths that are to be hidden. Landlock has no rule that forbids: a sandbox
//! lets in all that is found here, and so not what is hidden, nor what will be made beside it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags, open, statx};
use rustix::io::Errno;

/// The maximum number of links that the kernel follows to open a path.
const LINKS_MAX: usize = 40;

/// Paths that are to be hidden, and the folders on the way to them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hidden {
    /// Without symbolic links. What does not exist is hidden from its creation on.
    paths: BTreeSet<PathBuf>,
    /// The folders that exist above a hidden path and are not hidden themselves.
    ways: BTreeSet<PathBuf>,
}

/// Something that may be let in.
pub(super) struct Neighbour {
    /// Opened as a place (`O_PATH`), not for reading.
    pub(super) place: OwnedFd,
    pub(super) is_folder: bool,
}

/// Why what lies beside cannot be let in.
#[derive(Debug, thiserror::Error)]
#[error("`{}` cannot be listed ({source})", folder.display())]
pub(super) struct Unlisted {
    folder: PathBuf,
    source: io::Error,
}

impl Hidden {
    /// Finds where absolute paths lead. Reads folders and links, which may block.
    ///
    /// # Errors
    /// Where a folder may not be passed through.
    pub(super) fn find(given: &[PathBuf]) -> Result<Self, Unlisted> {
        let links = given.iter().flat_map(|path| links(path));
        let given: BTreeSet<PathBuf> = given.iter().cloned().chain(links).collect();
        let mut found = given.iter().map(|path| match path.is_symlink() {
            // What it leads to is among them, and it must not be replaced.
            true => Ok(path.clone()),
            false => real(path),
        });
        let mut paths = found.try_fold(BTreeSet::new(), |mut paths, path| {
            paths.insert(path?);
            Ok(paths)
        })?;
        let all = paths.clone();
        paths.retain(|path| !above(path).any(|folder| all.contains(folder)));
        let ways = paths.iter().flat_map(|path| above(path));
        let ways = ways.filter(|folder| folder.is_dir());
        let ways = ways.map(Path::to_owned).collect();
        Ok(Self { paths, ways })
    }

    /// Returns the folders in which only what is there already can be let in.
    pub(super) fn ways(&self) -> impl Iterator<Item = &Path> {
        self.ways.iter().map(PathBuf::as_path)
    }

    /// Gives everything that lies beside the way to `let_in`. Of symbolic links, what they lead to counts
    /// where it is. What is a hidden path or on the way to one is left out under other names too, where
    /// these lie beside the way (hard links, folders that are mounted twice), and so are the copies that
    /// editors and Abide lay beside a file.
    pub(super) fn neighbours<E: From<Unlisted>>(
        &self,
        mut let_in: impl FnMut(Neighbour) -> Result<(), E>,
    ) -> Result<(), E> {
        let known = self.paths.iter().chain(&self.ways);
        let known = known.filter_map(|path| look(&place(path).ok()?).ok());
        let known: BTreeSet<Inode> = known.map(|(inode, _)| inode).collect();
        for folder in &self.ways {
            let unlisted = |source| Unlisted {
                folder: folder.clone(),
                source,
            };
            for entry in fs::read_dir(folder).map_err(unlisted)? {
                let path = entry.map_err(unlisted)?.path();
                if self.paths.contains(&path) || self.ways.contains(&path) {
                    continue;
                }
                let found = place(&path).and_then(|place| Ok((look(&place)?, place)));
                let ((inode, kind), place) = match found {
                    Ok(found) => found,
                    Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => {
                        return Err(unlisted(error.into()).into());
                    }
                    // Nobody needs to be let into what has gone, may not be reached, or has broken down.
                    Err(_) => continue,
                };
                let is_folder = kind == FileType::Directory;
                if kind == FileType::Symlink
                    || known.contains(&inode)
                    || (!is_folder && self.is_copy(&path))
                {
                    continue;
                }
                let_in(Neighbour { place, is_folder })?;
            }
        }
        Ok(())
    }

    /// Returns whether a file's name says that it is a copy of a hidden one: `x.toml~`, `.x.toml.swp`,
    /// `x.toml.replaced`.
    fn is_copy(&self, path: &Path) -> bool {
        let Some(name) = path.file_name() else {
            return false;
        };
        let name = name.as_bytes();
        let name = name.strip_prefix(b".").unwrap_or(name);
        let name = name.strip_prefix(b"#").unwrap_or(name);
        let beside = self
            .paths
            .iter()
            .filter(|hidden| hidden.parent() == path.parent() && !hidden.is_dir());
        let mut of = beside.filter_map(|hidden| hidden.file_name().map(OsStr::as_bytes));
        of.any(|of| matches!(name.strip_prefix(of), Some([] | [b'.' | b'~' | b'#', ..])))
    }
}

/// The device, as two numbers, and the number on it.
type Inode = (u32, u32, u64);

/// Opens a path as a place, a symbolic link as itself.
fn place(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    open(path, flags, Mode::empty())
}

/// Tells what is at a place. Does not wait for the server of a file system, which may be down.
fn look(place: &impl AsFd) -> Result<(Inode, FileType), Errno> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let about = statx(place, "", flags, StatxFlags::TYPE | StatxFlags::INO)?;
    let inode = (about.stx_dev_major, about.stx_dev_minor, about.stx_ino);
    Ok((inode, FileType::from_raw_mode(about.stx_mode.into())))
}

/// Returns the symbolic links by which an absolute path leads to what it names, and that to which each
/// leads: whoever replaces one of them replaces what the path names.
fn links(path: &Path) -> Vec<PathBuf> {
    let (mut found, mut path) = (Vec::new(), path.to_owned());
    while found.len() < 2 * LINKS_MAX {
        let mut prefixes: Vec<&Path> = path.ancestors().collect();
        prefixes.reverse();
        let Some(link) = prefixes.into_iter().find(|prefix| prefix.is_symlink()) else {
            break;
        };
        let Ok(target) = fs::read_link(link) else {
            break;
        };
        let rest = path.strip_prefix(link).unwrap_or(Path::new(""));
        let next = without_dots(&above(link).next().unwrap_or(link).join(target).join(rest));
        found.extend([link.to_owned(), next.clone()]);
        path = next;
    }
    found
}

/// Resolves `.` and `..`, which are taken to follow no symbolic links.
fn without_dots(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut path, part| {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::CurDir => {}
            part => path.push(part),
        }
        path
    })
}

/// Returns the folders above an absolute path.
fn above(path: &Path) -> impl Iterator<Item = &Path> {
    path.ancestors().skip(1)
}

/// Resolves a path's symbolic links, as far as it exists.
fn real(path: &Path) -> Result<PathBuf, Unlisted> {
    for known in path.ancestors() {
        match fs::canonicalize(known) {
            Ok(found) => {
                let rest = path.strip_prefix(known).unwrap_or(Path::new(""));
                return Ok(found.components().chain(rest.components()).collect());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(Unlisted {
                    folder: known.to_owned(),
                    source,
                });
            }
        }
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs::{File, create_dir, hard_link};
    use std::os::unix::fs::symlink;

    use super::*;

    fn beside(hidden: &Hidden, world: &Path) -> Vec<String> {
        let mut names = Vec::new();
        let let_in = |neighbour: Neighbour| {
            use std::os::fd::AsRawFd as _;
            let at = format!("/proc/self/fd/{}", neighbour.place.as_raw_fd());
            let path = fs::read_link(at).unwrap();
            assert_eq!(neighbour.is_folder, path.is_dir());
            if let Ok(within) = path.strip_prefix(world) {
                names.push(within.display().to_string());
            }
            Ok::<(), Unlisted>(())
        };
        hidden.neighbours(let_in).unwrap();
        names.sort();
        names
    }

    #[test]
    fn what_lies_beside_the_way_is_found_and_what_is_hidden_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let world = &fs::canonicalize(folder.path()).unwrap();
        let at = |name: &str| world.join(name);
        for name in ["data", "data/db", "conf", "conf/tools", "other", "database"] {
            create_dir(at(name)).unwrap();
        }
        for name in [
            "x.toml",
            "x.toml~",
            ".x.toml.swp",
            "x.toml.replaced.2",
            "x.tomls",
            "free",
            "conf/key",
            "conf/server",
            "data/FORMAT",
        ] {
            File::create(at(name)).unwrap();
        }
        hard_link(at("conf/key"), at("conf/again")).unwrap();
        symlink(at("data"), at("way-in")).unwrap();
        symlink("conf", at("conf-link")).unwrap();
        let hidden = Hidden::find(&[
            at("data"),
            at("data/FORMAT"),
            at("x.toml"),
            at("conf-link/key"),
            at("other/not-yet"),
        ])
        .unwrap();
        let ways: Vec<&Path> = hidden.ways().filter(|way| way.starts_with(world)).collect();
        assert_eq!(ways, [world.as_path(), &at("conf"), &at("other")]);
        assert_eq!(
            beside(&hidden, world),
            ["conf/server", "conf/tools", "database", "free", "x.tomls"]
        );
    }

    #[test]
    fn a_way_that_cannot_be_listed_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        File::create(&file).unwrap();
        let error = Hidden::find(&[file.join("x")]).unwrap_err().to_string();
        assert!(error.contains("cannot be listed"), "{error}");
    }

    #[test]
    fn a_link_to_what_is_hidden_cannot_be_replaced_either() {
        let folder = tempfile::tempdir().unwrap();
        let world = &fs::canonicalize(folder.path()).unwrap();
        let at = |name: &str| world.join(name);
        for name in ["conf", "dots", "dots/real", "free", "free/deep"] {
            create_dir(at(name)).unwrap();
        }
        File::create(at("dots/real/x.toml")).unwrap();
        symlink("../dots/link.toml", at("conf/x.toml")).unwrap();
        symlink("real/x.toml", at("dots/link.toml")).unwrap();
        let hidden = Hidden::find(&[at("conf/x.toml")]).unwrap();
        for way in ["conf", "dots", "dots/real"] {
            assert!(hidden.ways().any(|it| it == at(way)), "{way}");
        }
        assert_eq!(beside(&hidden, world), ["free"]);
        // A folder on the way may be a link, too.
        symlink(at("dots/real"), at("free/deep/way")).unwrap();
        let hidden = Hidden::find(&[at("free/deep/way/x.toml")]).unwrap();
        for way in ["free", "free/deep", "dots/real"] {
            assert!(hidden.ways().any(|it| it == at(way)), "{way}");
        }
    }
}
