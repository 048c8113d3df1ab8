//! Wakes the watch on file system notifications for the directories of some files, and of the links
//! that lead to them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

/// The interval at which the warning that a directory cannot be watched is repeated.
const WARN_AGAIN: Duration = Duration::from_secs(3600);

/// The kernel's own limit of symbolic links in a path.
const LINKS_MAX: usize = 40;

type WatchedNames = Arc<Mutex<BTreeSet<OsString>>>;

/// Wakes the watch when one of the files may have changed. It never polls: changes without a
/// notification are left to the polling of [`ConfigWatch`](super::watch::ConfigWatch).
pub(super) struct Notifier {
    /// `None` if only polling is wanted.
    wake: Option<SyncSender<()>>,
    watcher: Option<RecommendedWatcher>,
    /// Watched directories by path, with device and inode: a directory that was recreated needs a
    /// new watch.
    folders: BTreeMap<PathBuf, (u64, u64)>,
    /// Names of the files, links and directories whose events count.
    names: WatchedNames,
    warned: Option<Instant>,
}

impl Notifier {
    pub(super) fn new(wake: SyncSender<()>) -> Self {
        Self {
            wake: Some(wake),
            ..Self::none()
        }
    }

    /// Creates a notifier that never wakes the watch.
    pub(super) fn none() -> Self {
        Self {
            wake: None,
            watcher: None,
            folders: BTreeMap::new(),
            names: WatchedNames::default(),
            warned: None,
        }
    }

    /// Watches the directories of `files` and of the links to them, and no others. Must be called
    /// again before each scan: links may change their target, directories come and go, and a system
    /// resource that had run out may be available again.
    ///
    /// If the ways change while they are being watched, it wakes the watch to be called once more:
    /// what appeared before its directory was watched sends no event.
    pub(super) fn cover<'a>(&mut self, files: impl Iterator<Item = &'a PathBuf> + Clone) {
        let Some(wake) = &self.wake else { return };
        if self.watcher.is_none() {
            match listen(wake.clone(), self.names.clone()) {
                Ok(watcher) => self.watcher = Some(watcher),
                Err(error) => return self.warn(&error),
            }
        }
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let trail = Trail::of(files.clone());
        let wanted = trail.found();
        self.folders.retain(|folder, id| {
            let stays = wanted.get(folder) == Some(id);
            if !stays {
                // A removed directory took its watch with it; then this fails, which is fine.
                let _ = watcher.unwatch(folder);
            }
            stays
        });
        self.names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&trail.names);
        let mut failed = None;
        for (folder, id) in &wanted {
            // Also those already watched: a directory recreated under the inode number of the
            // previous one has lost its watch, and watching it again costs nothing.
            match watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.folders.insert(folder.clone(), *id)),
                Err(error) => failed = Some(error),
            }
        }
        let now = Trail::of(files);
        if now != trail || now.found() != wanted {
            // Full: a scan is due anyway. Closed: the watch has ended.
            let _ = wake.try_send(());
        } else if let Some(error) = failed {
            self.warn(&error);
        }
    }

    fn warn(&mut self, error: &notify::Error) {
        if self.warned.is_none_or(|at| at.elapsed() > WARN_AGAIN) {
            self.warned = Some(Instant::now());
            tracing::warn!(
                %error,
                "the system does not tell of changes of the configuration's files; they are looked \
                 at every few seconds instead (if it ran out of them, raise \
                 fs.inotify.max_user_instances or fs.inotify.max_user_watches)"
            );
        }
    }
}

fn listen(wake: SyncSender<()>, names: WatchedNames) -> notify::Result<RecommendedWatcher> {
    notify::recommended_watcher(move |event: notify::Result<Event>| {
        let names = names.lock().unwrap_or_else(PoisonError::into_inner);
        if counts(&event, &names) {
            // Full: a scan is due anyway. Closed: the watch has ended.
            let _ = wake.try_send(());
        }
    })
}

/// Returns whether an event calls for a scan. Unrelated files in the directory, such as a log, may
/// be written all the time.
fn counts(event: &notify::Result<Event>, names: &BTreeSet<OsString>) -> bool {
    let event = match event {
        Ok(event) if !event.need_rescan() => event,
        // Events were lost, so anything may have changed.
        Ok(_) | Err(_) => return true,
    };
    // Reads change nothing, and our own reads must not wake us.
    let is_read = matches!(event.kind, EventKind::Access(kind)
        if kind != AccessKind::Close(AccessMode::Write));
    let about = |path: &PathBuf| path.file_name().is_none_or(|name| names.contains(name));
    !is_read && (event.paths.is_empty() || event.paths.iter().any(about))
}

/// The places where a change could make paths resolve differently: directories, and the names of
/// interest in them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Trail {
    folders: BTreeSet<PathBuf>,
    names: BTreeSet<OsString>,
}

impl Trail {
    fn of<'a>(files: impl Iterator<Item = &'a PathBuf>) -> Self {
        let mut trail = Self::default();
        for file in files {
            trail.follow(file);
        }
        trail
    }

    /// Returns the directories that exist, with device and inode.
    fn found(&self) -> BTreeMap<PathBuf, (u64, u64)> {
        let found = self.folders.iter().filter_map(|folder| {
            let meta = std::fs::metadata(folder).ok()?;
            Some((folder.clone(), (meta.dev(), meta.ino())))
        });
        found.collect()
    }

    /// Adds an absolute path: the directory of each link along it, and that of the file. If the
    /// path does not exist to its end, adds the directory in which it would continue.
    fn follow(&mut self, file: &Path) {
        let mut links = 0;
        // The resolved prefix, free of links.
        let mut at = PathBuf::from("/");
        let mut rest = steps(file);
        while let Some(step) = rest.pop() {
            if step == OsStr::new("..") {
                at.pop();
                continue;
            }
            let next = at.join(&step);
            if let Ok(target) = std::fs::read_link(&next) {
                self.add(&at, step);
                links += 1;
                if links > LINKS_MAX {
                    return;
                }
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                rest.extend(steps(&target));
            } else if rest.is_empty() || !next.is_dir() {
                self.add(&at, step);
                return;
            } else {
                at = next;
            }
        }
    }

    fn add(&mut self, folder: &Path, name: OsString) {
        // Moving or removing the directory is reported under its own name.
        self.names.extend(folder.file_name().map(OsStr::to_owned));
        self.names.insert(name);
        self.folders.insert(folder.to_owned());
    }
}

/// Returns the components of a path, the last one first.
fn steps(path: &Path) -> Vec<OsString> {
    let steps = path.components().rev().filter_map(|step| match step {
        Component::Normal(_) | Component::ParentDir => Some(step.as_os_str().to_owned()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    });
    steps.collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use notify::event::{CreateKind, DataChange, Flag, ModifyKind, RemoveKind, RenameMode};

    use super::*;

    #[test]
    fn every_link_on_the_way_is_watched_where_it_lies() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().canonicalize().expect("it is there");
        for name in ["etc", "mnt/releases/v1/conf", "mnt/shared"] {
            fs::create_dir_all(root.join(name)).expect("creates");
        }
        fs::write(root.join("mnt/shared/abide.toml"), "one").expect("writes");
        let link = |to: &Path, name: &str| symlink(to, root.join(name)).expect("links");
        link(&root.join("mnt/current/conf/abide.toml"), "etc/abide.toml");
        link(Path::new("releases/v1"), "mnt/current");
        let up = Path::new("../../../shared/abide.toml");
        link(up, "mnt/releases/v1/conf/abide.toml");

        let mut trail = Trail::default();
        trail.follow(&root.join("etc/../etc/./abide.toml"));
        let folders = ["etc", "mnt", "mnt/releases/v1/conf", "mnt/shared"];
        let folders: BTreeSet<_> = folders.iter().map(|name| root.join(name)).collect();
        assert_eq!(trail.folders, folders);
        let names = ["abide.toml", "conf", "current", "etc", "mnt", "shared"];
        assert!(trail.names.iter().eq(names), "{:?}", trail.names);
    }

    #[test]
    fn ways_that_end_early_are_watched_where_they_would_go_on() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().canonicalize().expect("it is there");
        symlink("loop", root.join("loop")).expect("links");
        symlink("nowhere/x", root.join("dangling")).expect("links");
        for (name, ends_at) in [
            ("not/there/abide.toml", "not"),
            ("abide.toml", "abide.toml"),
            ("loop", "loop"),
            ("dangling", "nowhere"),
        ] {
            let mut trail = Trail::default();
            trail.follow(&root.join(name));
            assert!(trail.folders.iter().eq([&root]), "{name}: {trail:?}");
            assert!(trail.names.contains(OsStr::new(ends_at)), "{trail:?}");
        }
    }

    #[test]
    fn events_count_that_are_of_our_names_or_lost() {
        let names = BTreeSet::from([OsString::from("abide.toml"), OsString::from("etc")]);
        let wakes = |kind, path: &str| counts(&Ok(Event::new(kind).add_path(path.into())), &names);
        let written = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        for kind in [
            written,
            renamed,
            EventKind::Create(CreateKind::File),
            EventKind::Remove(RemoveKind::File),
            EventKind::Access(AccessKind::Close(AccessMode::Write)),
        ] {
            assert!(wakes(kind, "/etc/abide.toml"), "{kind:?}");
            assert!(!wakes(kind, "/etc/abide.log"), "{kind:?}");
        }
        let read = EventKind::Access(AccessKind::Open(AccessMode::Any));
        assert!(!wakes(read, "/etc/abide.toml"));
        assert!(wakes(EventKind::Remove(RemoveKind::Folder), "/etc"));
        assert!(wakes(written, "/"));
        // The queue overflowed; the watcher failed; the event has no path.
        let lost = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert!(counts(&Ok(lost), &names));
        assert!(counts(&Err(notify::Error::generic("broken")), &names));
        assert!(counts(&Ok(Event::new(written)), &names));
    }
}
