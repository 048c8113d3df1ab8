//! The control groups that hold this process to an amount of memory: where their files are.

use std::fs;
use std::path::{Path, PathBuf};

/// The version of a control group's interface, which decides how its files are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupVersion {
    One,
    Two,
}

/// A control group of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryGroup {
    pub version: CgroupVersion,
    /// Where the hierarchy may be mounted, the likeliest first.
    pub roots: Vec<PathBuf>,
    /// The group's place below each of them. In a container it may be the host's, while the
    /// container's own group is mounted as the root.
    pub path: PathBuf,
}

/// The folder below which the hierarchies are mounted.
pub(super) const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Returns the memory groups of this process. They are read anew each time: a service manager may
/// move it into another group.
pub fn memory_groups() -> Vec<MemoryGroup> {
    parse_groups(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default())
}

/// Parses the content of `/proc/self/cgroup`: lines of the form `ID:CONTROLLERS:PATH`, where version 2
/// has ID 0 and no controllers.
pub fn parse_groups(groups: &str) -> Vec<MemoryGroup> {
    let root = Path::new(CGROUP_ROOT);
    let groups = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let (version, roots) = if id == "0" && controllers.is_empty() {
            // Mounted at the root, or beside version 1's controllers.
            let roots = vec![root.to_owned(), root.join("unified")];
            (CgroupVersion::Two, roots)
        } else if controllers.split(',').any(|name| name == "memory") {
            (CgroupVersion::One, vec![root.join("memory")])
        } else {
            return None;
        };
        Some(MemoryGroup {
            version,
            roots,
            path: path.trim_start_matches('/').into(),
        })
    });
    groups.collect()
}
