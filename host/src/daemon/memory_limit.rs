//! The memory that this process may use: the default of `daemon.guest_memory` is made from it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::DaemonConfig;
use crate::supervisor::{CgroupVersion, MemoryGroup, memory_groups};

/// The share of the memory that guests may use by default: one part of this many. The other half is
/// for what no budget counts in full: the store's cache and write buffers, sessions and messages
/// (`daemon.session_memory`), what the host copies for guests, and tool servers, which the same limit
/// holds.
const GUEST_PART: u64 = 2;
/// The budget where neither a control group nor the kernel says how much memory there is.
const UNKNOWN_BYTES: u64 = 1 << 30;

/// Returns what all guests together may hold: what the key says, or else half of the memory that
/// this process may use.
pub(super) fn guest_memory_bytes(config: &DaemonConfig) -> u64 {
    config.guest_memory_bytes.unwrap_or_else(|| {
        let files = limit_files(&memory_groups());
        let limits = files.iter().filter_map(|file| limit_in(file));
        let machine = fs::read_to_string("/proc/meminfo").ok();
        let machine = machine.and_then(|text| total_in(&text));
        let least = limits.chain(machine).min();
        least.map_or(UNKNOWN_BYTES, |bytes| bytes / GUEST_PART)
    })
}

/// Returns the files that may hold a limit: those of the process's control groups and of all groups
/// above them.
fn limit_files(groups: &[MemoryGroup]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for group in groups {
        let name = match group.version {
            CgroupVersion::Two => "memory.max",
            CgroupVersion::One => "memory.limit_in_bytes",
        };
        // In a container the own group is mounted as the root: the last of the ancestors.
        for above in group.path.ancestors() {
            files.extend(group.roots.iter().map(|root| root.join(above).join(name)));
        }
    }
    files
}

/// Returns the limit in a file. Version 2 writes `max` for none, version 1 a number that no machine
/// reaches.
fn limit_in(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Returns the machine's memory, in bytes, according to the content of `/proc/meminfo`.
fn total_in(meminfo: &str) -> Option<u64> {
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::parse_groups;

    #[test]
    fn the_limits_of_all_groups_above_count() {
        let root = Path::new("/sys/fs/cgroup");
        let v2 = limit_files(&parse_groups("0::/system.slice/abide.service\n"));
        for path in ["system.slice/abide.service", "system.slice", ""] {
            assert!(
                v2.contains(&root.join(path).join("memory.max")),
                "{path:?} {v2:?}"
            );
        }
        let v1 = limit_files(&parse_groups(
            "9:name=systemd:/\n4:cpu,memory:/a:b/c\n0::/\n",
        ));
        for path in ["memory/a:b/c", "memory/a:b", "memory"] {
            let file = root.join(path).join("memory.limit_in_bytes");
            assert!(v1.contains(&file), "{path:?} {v1:?}");
        }
        for groups in ["", "nonsense", "1:2", "\n\n", "7:cpu:/x"] {
            assert_eq!(limit_files(&parse_groups(groups)), [] as [PathBuf; 0]);
        }
    }

    #[test]
    fn numbers_are_read_and_the_rest_is_no_limit() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("memory.max");
        for (text, limit) in [("524288000\n", Some(524_288_000)), ("max\n", None)] {
            fs::write(&file, text).expect("it is ours");
            assert_eq!(limit_in(&file), limit);
        }
        assert_eq!(limit_in(&folder.path().join("none")), None);
        assert_eq!(
            total_in("MemFree: 1 kB\nMemTotal:       24683656 kB\n"),
            Some(24_683_656 << 10)
        );
        assert_eq!(total_in("MemTotal: much\n"), None);
    }
}
