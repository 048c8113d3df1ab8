//! A directory as the processes that use it see it, and as a disk keeps it.
//!
//! Files and directories are nodes. A node has its durable state and, in order, the operations
//! since then; a sync moves operations from the second to the first. Directories hold nodes by
//! name, so a name is durable or not by its directory's syncs, regardless of the file's content.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::log::Op;

/// An index of [`Image::nodes`]. Unlike an inode number, it is never reused.
pub(super) type Node = usize;
/// The node of the watched directory.
const ROOT: Node = 0;

/// Which of the two states to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// The state that processes see.
    Live,
    /// The state after a power cut.
    Durable,
}

#[derive(Debug)]
pub(super) enum NodeKind {
    File(Versions<Vec<u8>, FileOp>),
    Folder(Versions<BTreeMap<OsString, Node>, Entry>),
    Link(PathBuf),
}

/// The durable state, and the operations since then, each with the number of its record.
#[derive(Debug)]
pub(super) struct Versions<T, C> {
    pub(super) durable: T,
    pub(super) pending: Vec<(u64, C)>,
}

/// An operation on a file.
#[derive(Debug)]
pub(super) enum FileOp {
    Write(usize, Vec<u8>),
    Truncate(usize),
    Extend(usize),
    Zero(usize, usize),
}

/// An operation on a name in a directory: the name now refers to this node, or is removed.
#[derive(Debug)]
pub(super) struct Entry(OsString, Option<Node>);

pub(super) trait Apply<C> {
    fn apply(&mut self, change: &C);
}

impl Apply<FileOp> for Vec<u8> {
    fn apply(&mut self, change: &FileOp) {
        match change {
            FileOp::Write(from, data) => {
                let end = from + data.len();
                self.resize(self.len().max(end), 0);
                self[*from..end].copy_from_slice(data);
            }
            FileOp::Truncate(bytes) => self.resize(*bytes, 0),
            FileOp::Extend(bytes) => self.resize(self.len().max(*bytes), 0),
            FileOp::Zero(from, bytes) => {
                let end = (from + bytes).min(self.len());
                self[(*from).min(end)..end].fill(0);
            }
        }
    }
}

impl Apply<Entry> for BTreeMap<OsString, Node> {
    fn apply(&mut self, Entry(name, node): &Entry) {
        match node {
            Some(node) => self.insert(name.clone(), *node),
            None => self.remove(name),
        };
    }
}

impl<T: Apply<C> + Clone, C> Versions<T, C> {
    fn new(durable: T) -> Self {
        let pending = Vec::new();
        Self { durable, pending }
    }

    fn view(&self, view: View) -> T {
        let mut seen = self.durable.clone();
        if view == View::Live {
            self.pending
                .iter()
                .for_each(|(_, change)| seen.apply(change));
        }
        seen
    }

    /// Makes the operations before that record durable.
    pub(super) fn sync(&mut self, before: u64) {
        let covered = self.pending.partition_point(|(at, _)| *at < before);
        for (_, change) in self.pending.drain(..covered) {
            self.durable.apply(&change);
        }
    }
}

/// A file, directory or symbolic link in one view.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    File(Vec<u8>),
    Folder,
    Link(PathBuf),
}

/// The state of a directory; see the module.
#[derive(Debug)]
pub(super) struct Image {
    /// Each with its mode.
    pub(super) nodes: Vec<(NodeKind, u32)>,
    by_inode: HashMap<u64, Node>,
    /// The record at which each thread's current sync began.
    begun: HashMap<u64, u64>,
    /// The number of records so far.
    pub(super) records: u64,
}

impl Image {
    /// Reads the content of a directory, and treats all of it as durable.
    pub(super) fn scan(folder: &Path) -> io::Result<Self> {
        let mut image = Self {
            nodes: Vec::new(),
            by_inode: HashMap::new(),
            begun: HashMap::new(),
            records: 0,
        };
        image.scan_node(folder)?;
        Ok(image)
    }

    fn scan_node(&mut self, path: &Path) -> io::Result<Node> {
        let meta = fs::symlink_metadata(path)?;
        if meta.nlink() > 1
            && let Some(node) = self.by_inode.get(&meta.ino())
        {
            return Ok(*node);
        }
        let kind = match meta.file_type() {
            kind if kind.is_dir() => NodeKind::Folder(Versions::new(BTreeMap::new())),
            kind if kind.is_symlink() => NodeKind::Link(fs::read_link(path)?),
            _ => NodeKind::File(Versions::new(fs::read(path)?)),
        };
        let node = self.add(meta.ino(), meta.mode() & 0o7777, kind);
        if meta.is_dir() {
            let mut entries = BTreeMap::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                entries.insert(entry.file_name(), self.scan_node(&entry.path())?);
            }
            self.nodes[node].0 = NodeKind::Folder(Versions::new(entries));
        }
        Ok(node)
    }

    fn add(&mut self, inode: u64, mode: u32, kind: NodeKind) -> Node {
        self.nodes.push((kind, mode));
        self.by_inode.insert(inode, self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    /// Applies the operation of a process.
    pub(super) fn replay(&mut self, op: Op) -> Result<(), String> {
        self.records += 1;
        match op {
            Op::Open {
                path,
                inode,
                mode,
                emptied,
            } => match self.find(&path)? {
                None => {
                    let node = self.add(inode, mode, NodeKind::File(Versions::new(Vec::new())));
                    self.name(&path, Some(node))?;
                }
                Some(node) if self.by_inode.get(&inode) != Some(&node) => {
                    return Err(format!(
                        "{} was replaced, which is not in the log",
                        path.display()
                    ));
                }
                Some(_) if emptied => self.change(inode, FileOp::Truncate(0))?,
                Some(_) => {}
            },
            Op::Write { inode, from, data } => {
                self.change(inode, FileOp::Write(from as usize, data))?;
            }
            Op::Truncate { inode, bytes } => {
                self.change(inode, FileOp::Truncate(bytes as usize))?
            }
            Op::Extend { inode, bytes } => self.change(inode, FileOp::Extend(bytes as usize))?,
            Op::Zero { inode, from, bytes } => {
                self.change(inode, FileOp::Zero(from as usize, bytes as usize))?;
            }
            Op::SyncBegin { thread } => {
                self.begun.insert(thread, self.records);
            }
            Op::SyncEnd { inode, thread } => {
                let begun = self.begun.remove(&thread);
                let begun = begun.ok_or("a sync ended that had not begun")?;
                match inode {
                    0 => (0..self.nodes.len()).for_each(|node| self.sync(node, begun)),
                    _ => self.sync(self.open(inode)?, begun),
                }
            }
            Op::Rename { from, to } => {
                let node = self.existing(&from)?;
                // POSIX: renaming one of two names of the same file to the other changes nothing.
                if self.find(&to)? != Some(node) {
                    self.name(&from, None)?;
                    self.name(&to, Some(node))?;
                }
            }
            Op::Link { from, to } => {
                let node = self.existing(&from)?;
                self.name(&to, Some(node))?;
            }
            Op::Remove { path } => {
                self.existing(&path)?;
                self.name(&path, None)?;
            }
            Op::MakeFolder { path, inode, mode } => {
                let folder = NodeKind::Folder(Versions::new(BTreeMap::new()));
                let node = self.add(inode, mode, folder);
                self.name(&path, Some(node))?;
            }
            Op::MakeLink {
                path,
                inode,
                target,
            } => {
                let node = self.add(inode, 0o777, NodeKind::Link(target));
                self.name(&path, Some(node))?;
            }
        }
        Ok(())
    }

    fn open(&self, inode: u64) -> Result<Node, String> {
        let node = self.by_inode.get(&inode).copied();
        node.ok_or_else(|| format!("inode {inode} was made by an operation that is not in the log"))
    }

    fn change(&mut self, inode: u64, change: FileOp) -> Result<(), String> {
        let node = self.open(inode)?;
        match &mut self.nodes[node].0 {
            NodeKind::File(file) => file.pending.push((self.records, change)),
            other => return Err(format!("{change:?} of what is no file: {other:?}")),
        }
        Ok(())
    }

    fn sync(&mut self, node: Node, before: u64) {
        match &mut self.nodes[node].0 {
            NodeKind::File(file) => file.sync(before),
            NodeKind::Folder(folder) => folder.sync(before),
            NodeKind::Link(_) => {}
        }
    }

    fn entry(&self, folder: Node, name: &OsStr) -> Option<Node> {
        let NodeKind::Folder(folder) = &self.nodes[folder].0 else {
            return None;
        };
        let changed = folder.pending.iter().rev();
        let changed = changed
            .map(|(_, entry)| entry)
            .find(|entry| entry.0 == name);
        match changed {
            Some(Entry(_, node)) => *node,
            None => folder.durable.get(name).copied(),
        }
    }

    /// Returns the directory that contains a path, and the name in it, as processes see it.
    fn place<'a>(&self, path: &'a Path) -> Result<(Node, &'a OsStr), String> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(format!("{path:?} names nothing within the folder"));
        };
        let mut folders = parent.iter();
        let folder = folders.try_fold(ROOT, |folder, name| self.entry(folder, name));
        match folder {
            Some(folder) => Ok((folder, name)),
            None => Err(format!(
                "the folder of {} was made by an operation that is not in the log",
                path.display()
            )),
        }
    }

    fn find(&self, path: &Path) -> Result<Option<Node>, String> {
        let (folder, name) = self.place(path)?;
        Ok(self.entry(folder, name))
    }

    fn existing(&self, path: &Path) -> Result<Node, String> {
        let node = self.find(path)?;
        let missing = || {
            let path = path.display();
            format!("{path} was made by an operation that is not in the log")
        };
        node.ok_or_else(missing)
    }

    fn name(&mut self, path: &Path, node: Option<Node>) -> Result<(), String> {
        let (folder, name) = self.place(path)?;
        let entry = Entry(name.to_owned(), node);
        match &mut self.nodes[folder].0 {
            NodeKind::Folder(folder) => folder.pending.push((self.records, entry)),
            other => return Err(format!("{path:?} lies in what is no folder: {other:?}")),
        }
        Ok(())
    }

    /// Returns all paths of a view, directories before their content.
    fn paths(&self, view: View) -> BTreeMap<PathBuf, Node> {
        let mut found = BTreeMap::new();
        let mut folders = vec![(PathBuf::new(), ROOT)];
        while let Some((path, node)) = folders.pop() {
            if let NodeKind::Folder(folder) = &self.nodes[node].0 {
                for (name, node) in folder.view(view) {
                    found.insert(path.join(&name), node);
                    folders.push((path.join(name), node));
                }
            }
        }
        found
    }

    fn item(&self, node: Node, view: View) -> Item {
        match &self.nodes[node].0 {
            NodeKind::File(file) => Item::File(file.view(view)),
            NodeKind::Folder(_) => Item::Folder,
            NodeKind::Link(target) => Item::Link(target.clone()),
        }
    }

    /// Returns all items of a view, by path.
    pub(super) fn items(&self, view: View) -> BTreeMap<PathBuf, Item> {
        let paths = self.paths(view).into_iter();
        paths
            .map(|(path, node)| (path, self.item(node, view)))
            .collect()
    }

    /// Returns the number of unsynced bytes in existing files, and the number of unsynced changes
    /// of directory entries.
    pub(super) fn unsynced(&self) -> (u64, u64) {
        let (mut bytes, mut entries) = (0, 0);
        let mut nodes: Vec<_> = self.paths(View::Live).into_values().collect();
        nodes.push(ROOT);
        nodes.sort_unstable();
        nodes.dedup();
        for node in nodes {
            match &self.nodes[node].0 {
                NodeKind::File(file) => {
                    let written = file.pending.iter().map(|(_, change)| match change {
                        FileOp::Write(_, data) => data.len() as u64,
                        _ => 0,
                    });
                    bytes += written.sum::<u64>();
                }
                NodeKind::Folder(folder) => entries += folder.pending.len() as u64,
                NodeKind::Link(_) => {}
            }
        }
        (bytes, entries)
    }

    /// Replaces the content of a directory by its durable state.
    pub(super) fn restore(&self, folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path())?,
                false => fs::remove_file(entry.path())?,
            }
        }
        let mut written: HashMap<Node, PathBuf> = HashMap::new();
        for (path, node) in self.paths(View::Durable) {
            let path = folder.join(path);
            if let Some(other) = written.get(&node) {
                fs::hard_link(other, path)?;
                continue;
            }
            let mode = fs::Permissions::from_mode(self.nodes[node].1);
            match self.item(node, View::Durable) {
                Item::Folder => fs::create_dir(&path)?,
                Item::Link(target) => {
                    symlink(target, path)?;
                    continue;
                }
                Item::File(content) => {
                    fs::write(&path, content)?;
                    written.insert(node, path.clone());
                }
            }
            fs::set_permissions(path, mode)?;
        }
        Ok(())
    }
}
