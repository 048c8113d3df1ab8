//! Who is at the other end of a connection. Of the local socket, the kernel tells the process that has
//! connected. One that descends from the daemon may have been started by a tool, so it is a stranger there.
//!
//! ```text
//!   operator's shell -- abide approvals        local
//!   supervisor -- worker -- tool -- ...        stranger; its orphans stay children of the supervisor
//! ```

use std::os::fd::OwnedFd;

use nix::sys::socket::{getsockopt, sockopt::PeerPidfd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, geteuid, getpid, getppid, test_kill_process};
use tokio::net::UnixStream;

use crate::process_entry::ProcessEntry;

/// The maximum number of ancestors of a process that are looked at.
const ANCESTORS_MAX: usize = 256;
/// How many times they are looked at, while they change.
const LOOKS_MAX: usize = 5;
/// What is appended to the label of a local peer's connection, when it is passed on.
const LOCAL_MARK: &str = "+local";

/// Who is at the other end of a connection, as far as the kernel tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::api) enum PeerKind {
    /// Anybody who reaches the address.
    #[default]
    Network,
    /// At the local socket: a process of the daemon's user, or of root, that does not descend from the
    /// daemon.
    Local,
    /// At the local socket: any other process.
    Stranger,
}

impl PeerKind {
    /// Judges who has connected to the local socket. It is judged once, as soon as it is accepted: later,
    /// the process may be gone and its number be another's.
    pub(super) async fn at(socket: &UnixStream) -> Self {
        let Ok(peer) = socket.peer_cred() else {
            return Self::Stranger;
        };
        // Kernels before 6.5 have none.
        let held = getsockopt(socket, PeerPidfd).ok();
        let (user, pid) = (peer.uid(), peer.pid());
        let judge = move || match pid {
            // 0 is a process of another namespace: a neighbour in the same pod, maybe.
            Some(pid) if pid > 0 && is_trusted(user, pid, held.as_ref()) => Self::Local,
            _ => Self::Stranger,
        };
        // A panic is a stranger's.
        let judged = tokio::task::spawn_blocking(judge).await;
        judged.unwrap_or(Self::Stranger)
    }

    /// Returns the label with which a connection is passed on, so that who it is stays known.
    pub(super) fn marked(self, label: &str) -> String {
        match self {
            Self::Local => format!("{label}{LOCAL_MARK}"),
            Self::Network | Self::Stranger => label.to_owned(),
        }
    }

    /// Splits the mark off a label. Without one, it is `unmarked`.
    pub(super) fn split(label: &str, unmarked: Self) -> (&str, Self) {
        match label.strip_suffix(LOCAL_MARK) {
            Some(label) => (label, Self::Local),
            None => (label, unmarked),
        }
    }
}

fn is_trusted(user: u32, pid: i32, held: Option<&OwnedFd>) -> bool {
    let daemon = [Some(getpid()), getppid()].map(|pid| pid.map_or(0, Pid::as_raw_pid));
    [0, geteuid().as_raw()].contains(&user)
        && is_outside(pid, &daemon, look)
        // Looked at last: what was found before is of this process, and of no later one of its number.
        && held.is_none_or(|held| !has_ended(held))
}

/// What a look at a process shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Process {
        /// 0 if it is not visible from here, and so was not started from here.
        parent: i32,
        /// In ticks since boot: numbers are given out again, the pair is not.
        started: u64,
    },
    /// Another user's, and hidden from this one (`hidepid`).
    Hidden,
    /// It has ended, or it is one of this user's that hides itself.
    Gone,
}

/// Whether a process descends from none of `inside`. False if that cannot be told.
fn is_outside(pid: i32, inside: &[i32], look: impl Fn(i32) -> Look) -> bool {
    for _ in 0..LOOKS_MAX {
        // An ancestor may end between two looks, its child get another parent and its number be
        // another's. A line that is found twice was there as a whole.
        if let Some(found) = line(pid, &look)
            && line(pid, &look).as_ref() == Some(&found)
        {
            return !found.iter().any(|(pid, _)| inside.contains(pid));
        }
    }
    false
}

/// Returns a process and its ancestors, as far as they are visible from here.
fn line(pid: i32, look: &impl Fn(i32) -> Look) -> Option<Vec<(i32, u64)>> {
    let mut line = Vec::new();
    let mut next = pid;
    while next != 0 {
        match look(next) {
            Look::Process { parent, started } if line.len() < ANCESTORS_MAX => {
                line.push((next, started));
                next = parent;
            }
            Look::Hidden => break,
            Look::Process { .. } | Look::Gone => return None,
        }
    }
    Some(line)
}

fn look(pid: i32) -> Look {
    if let Some(ProcessEntry { parent, start, .. }) = ProcessEntry::read(pid) {
        return Look::Process {
            parent,
            started: start,
        };
    }
    match Pid::from_raw(pid).map(test_kill_process) {
        Some(Err(Errno::PERM)) => Look::Hidden,
        _ => Look::Gone,
    }
}

fn has_ended(process: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    !matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;
    use std::process::Command;

    use super::*;

    /// The worker and the supervisor.
    const DAEMON: [i32; 2] = [11, 10];

    fn process(parent: i32) -> Look {
        Look::Process { parent, started: 7 }
    }

    /// A shell 20 of init's with a command 30; a supervisor 10 of the shell's with a worker 11, a tool 12
    /// and what that has started, 13; 14 is a tool's orphan; 40 came from outside of the namespace.
    fn tree() -> BTreeMap<i32, Look> {
        let pairs = [
            (1, 0),
            (20, 1),
            (30, 20),
            (10, 20),
            (11, 10),
            (12, 11),
            (13, 12),
            (14, 10),
            (40, 0),
        ];
        pairs.map(|(pid, parent)| (pid, process(parent))).into()
    }

    fn outside(pid: i32, tree: &BTreeMap<i32, Look>) -> bool {
        is_outside(pid, &DAEMON, |pid| {
            tree.get(&pid).copied().unwrap_or(Look::Gone)
        })
    }

    #[test]
    fn what_the_daemon_has_started_is_not_outside() {
        let tree = tree();
        for (pid, expected) in [
            (30, true),
            (20, true),
            (1, true),
            (40, true),
            (10, false),
            (11, false),
            (12, false),
            (13, false),
            (14, false),
            // Ended.
            (99, false),
        ] {
            assert_eq!(outside(pid, &tree), expected, "{pid}");
        }
    }

    #[test]
    fn a_daemon_that_is_the_first_process_has_not_started_who_enters_its_container() {
        let tree = BTreeMap::from([(1, 0), (7, 1), (8, 7), (50, 0), (51, 50)]);
        let look = |pid| tree.get(&pid).map_or(Look::Gone, |parent| process(*parent));
        let outside = |pid| is_outside(pid, &[7, 1], look);
        assert!(outside(50) && outside(51));
        assert!(!outside(8));
    }

    #[test]
    fn an_ancestor_that_ends_meanwhile_hides_nothing() {
        // When 12 is looked at, it has ended, its number is an outsider's, and its child is an orphan.
        let looks = Cell::new(0);
        let look = |pid| match pid {
            12 => {
                looks.set(looks.get() + 1);
                process(20)
            }
            13 if looks.get() > 0 => process(10),
            _ => tree().get(&pid).copied().unwrap_or(Look::Gone),
        };
        assert!(!is_outside(13, &DAEMON, look));
        // A number that is given out at each look.
        let look = |pid| match pid {
            12 => {
                looks.set(looks.get() + 1);
                Look::Process {
                    parent: 20,
                    started: looks.get(),
                }
            }
            _ => tree().get(&pid).copied().unwrap_or(Look::Gone),
        };
        assert!(!is_outside(13, &DAEMON, look));
    }

    #[test]
    fn another_users_process_may_be_hidden_and_an_own_one_may_not() {
        for (parent, expected) in [(Look::Hidden, true), (Look::Gone, false)] {
            let tree = BTreeMap::from([(30, process(20)), (20, parent)]);
            assert_eq!(outside(30, &tree), expected);
        }
        assert!(outside(20, &BTreeMap::from([(20, Look::Hidden)])));
    }

    #[test]
    fn a_line_without_an_end_is_not_followed() {
        assert!(!is_outside(5, &DAEMON, |pid| process(pid + 1)));
    }

    #[test]
    fn a_process_is_seen_with_its_parent() {
        let me = getpid().as_raw_pid();
        let Look::Process { parent, started } = look(me) else {
            panic!("it is there");
        };
        assert_eq!(Some(parent), getppid().map(Pid::as_raw_pid));
        assert!(started > 0);
        assert_eq!(look(i32::MAX), Look::Gone);
    }

    #[test]
    fn who_has_ended_is_not_trusted() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let held = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        assert!(!has_ended(&held));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(has_ended(&held));
    }

    #[tokio::test]
    async fn this_process_is_a_stranger_to_itself() {
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(PeerKind::at(&one).await, PeerKind::Stranger);
    }

    #[test]
    fn who_it_is_stays_known_when_a_connection_is_passed_on() {
        let passed_on = |peer: PeerKind, unmarked| {
            let label = peer.marked("@abide-1");
            let (label, peer) = PeerKind::split(&label, unmarked);
            assert_eq!(label, "@abide-1");
            peer
        };
        assert_eq!(
            passed_on(PeerKind::Local, PeerKind::Stranger),
            PeerKind::Local
        );
        assert_eq!(
            passed_on(PeerKind::Stranger, PeerKind::Stranger),
            PeerKind::Stranger
        );
        assert_eq!(
            passed_on(PeerKind::Network, PeerKind::Network),
            PeerKind::Network
        );
    }
}
