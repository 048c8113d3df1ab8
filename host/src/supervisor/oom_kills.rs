//! The kernel's own account of what its out-of-memory killer has killed. A SIGKILL does not say
//! whether a human sent it or the kernel, and the difference matters: a worker that has grown until
//! the kernel killed it will do so again, if it is started again on the same work.
//!
//! The first of these that can be read is the account:
//!
//! | file | what it counts |
//! |---|---|
//! | `memory.events` of the control group (version 2), `oom_kill` | the group's processes, and those of groups below it |
//! | `memory.oom_control` of the control group (version 1), `oom_kill` | the group's processes |
//! | `/proc/vmstat`, `oom_kill` | all processes of the system |
//!
//! Each counts the victim before it sends the signal. Sandboxes that are not quite Linux may have none
//! of them: there nobody knows who sent a SIGKILL.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::memory_groups::{CGROUP_ROOT, CgroupVersion, MemoryGroup, memory_groups};

/// How long before a worker's death the kernel may have counted it. The victim first gives back its
/// memory, which takes some seconds if it is large.
const DYING: Duration = Duration::from_secs(5);

/// Who sent a SIGKILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KilledBy {
    /// The kernel, for want of memory.
    Kernel,
    /// Somebody else: the kernel has an account, and has not counted it.
    Other,
    /// There is no account.
    Unknown,
}

/// The account, and how far it had come.
#[derive(Debug, Default)]
pub(super) struct OomKills {
    account: Option<PathBuf>,
    seen: u64,
    last_kill: Option<Instant>,
}

impl OomKills {
    /// Opens the account of this process's control group. (Workers are in the same one: they are
    /// started by this process.)
    pub(super) fn open() -> Self {
        let mut kills = Self::default();
        kills.observe();
        kills
    }

    /// Reads the account. Must be called before each wait for events: the less time passes between
    /// two calls, the less likely is it that a kill is taken for another process's.
    pub(super) fn observe(&mut self) {
        let mut counts = candidates(&memory_groups())
            .into_iter()
            .filter_map(|file| Some((count_in(&file)?, file)));
        match counts.next() {
            Some((count, file)) => self.note(file, count),
            None => self.account = None,
        }
    }

    /// Notes what an account says. The first time it only says where the count begins.
    fn note(&mut self, file: PathBuf, count: u64) {
        if self.account.as_ref() == Some(&file) && count > self.seen {
            self.last_kill = Some(Instant::now());
        }
        (self.account, self.seen) = (Some(file), count);
    }

    fn has_killed(&self) -> bool {
        self.last_kill.is_some_and(|at| at.elapsed() < DYING)
    }

    /// Returns who killed a process that has just died of SIGKILL. Another process's death for want
    /// of memory within the last seconds is taken for it.
    pub(super) fn explain_death(&mut self) -> KilledBy {
        self.observe();
        match &self.account {
            _ if self.has_killed() => KilledBy::Kernel,
            Some(_) => KilledBy::Other,
            None => KilledBy::Unknown,
        }
    }
}

/// Returns the files that may be the account, the best first.
fn candidates(groups: &[MemoryGroup]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for MemoryGroup {
        version,
        roots,
        path,
    } in groups
    {
        let own = roots.iter().map(|root| root.join(path));
        match version {
            CgroupVersion::Two => files.extend(own.map(|group| group.join("memory.events"))),
            CgroupVersion::One => {
                let groups = own.chain(roots.iter().cloned());
                files.extend(groups.map(|group| group.join("memory.oom_control")));
            }
        }
    }
    files.push(Path::new(CGROUP_ROOT).join("memory.events"));
    files.push(PathBuf::from("/proc/vmstat"));
    files
}

fn count_in(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    value?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::memory_groups::parse_groups;
    use super::*;

    #[test]
    fn a_kill_is_told_from_earlier_ones_and_from_those_of_another_group() {
        let mut kills = OomKills::default();
        let (own, next) = (PathBuf::from("own"), PathBuf::from("next"));
        for (file, count, killed) in [
            (&own, 2, false),
            (&own, 2, false),
            // It begins anew.
            (&own, 0, false),
            (&next, 7, false),
            (&next, 8, true),
            // The death may be seen some time after the count.
            (&next, 8, true),
        ] {
            kills.note(file.clone(), count);
            assert_eq!(kills.has_killed(), killed, "{file:?} {count}");
        }
    }

    #[test]
    fn a_count_is_found_among_others() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("memory.events");
        fs::write(&file, "max 9\noom 3\noom_kill 2\noom_group_kill 0\n").expect("it is ours");
        assert_eq!(count_in(&file), Some(2));
        fs::write(&file, "").expect("it is ours");
        assert_eq!(count_in(&file), None);
        assert_eq!(count_in(&folder.path().join("none")), None);
        assert!(OomKills::open().account.is_some());
    }

    #[test]
    fn the_account_is_that_of_the_own_group() {
        let v2 = candidates(&parse_groups("0::/system.slice/abide.service\n"));
        assert_eq!(
            v2[0],
            Path::new("/sys/fs/cgroup/system.slice/abide.service/memory.events")
        );
        let v1 = candidates(&parse_groups("9:name=systemd:/\n4:cpu,memory:/a:b\n0::/\n"));
        assert_eq!(
            v1[0],
            Path::new("/sys/fs/cgroup/memory/a:b/memory.oom_control")
        );
        for groups in ["", "nonsense", "1:2", "\n\n"] {
            assert!(candidates(&parse_groups(groups)).contains(&PathBuf::from("/proc/vmstat")));
        }
    }
}
