//! Keeps a server that runs as the daemon's user, and all that it starts, from the daemon's files: by
//! Landlock, which an ordinary user may use and nobody can leave.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, PathBeneath, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, Scope,
};
use rustix::process::geteuid;
use rustix::thread::set_no_new_privs;

use super::settings::Program;
use super::surroundings::{Hidden, Unlisted};
use crate::domain::ToolSandbox;

/// The kernel's version of Landlock whose rights over files are used: later ones know no further way to
/// read or write a file.
const FILES: ABI = ABI::V3;

/// Rules for a process that is about to start.
pub(super) struct Sandbox {
    rules: OwnedFd,
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoSandbox {
    #[error(
        "this kernel offers no Landlock (it needs Linux 5.13 or later, `landlock` in \
         /sys/kernel/security/lsm, and a container that allows it); run the server as another `user`"
    )]
    Kernel,
    #[error("{0}; let the daemon's user list it")]
    Unlisted(#[from] Unlisted),
    #[error("the kernel does not take a rule ({0}); run the server as another `user`")]
    Rule(#[from] RulesetError),
}

impl Sandbox {
    /// Makes the rules that hide these paths. Reads the folders on the way to them, which may block.
    pub(super) fn hiding(paths: &[PathBuf]) -> Result<Self, NoSandbox> {
        let hidden = Hidden::find(paths)?;
        let mut rules = Ruleset::default()
            .handle_access(AccessFs::from_all(FILES))?
            .scope(Scope::from_all(ABI::V6))?
            .create()?;
        hidden.neighbours(|neighbour| {
            let rights = match neighbour.is_folder {
                true => AccessFs::from_all(FILES),
                false => AccessFs::from_file(FILES),
            };
            (&mut rules).add_rule(PathBeneath::new(neighbour.place, rights))?;
            Ok::<(), NoSandbox>(())
        })?;
        let rules = Option::<OwnedFd>::from(rules).ok_or(NoSandbox::Kernel)?;
        Ok(Self { rules })
    }

    /// Puts this process, which has one thread, into the sandbox. It gets no rights by set-user-id files
    /// any more. Only system calls, so that it may be called between fork and exec.
    pub(super) fn enter(&self) -> io::Result<()> {
        set_no_new_privs(true)?;
        // SAFETY: the call takes numbers alone: an open descriptor, and no flags.
        let done = unsafe {
            libc::syscall(
                libc::SYS_landlock_restrict_self,
                self.rules.as_raw_fd(),
                0u32,
            )
        };
        match done {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// What Landlock can do on a kernel.
#[derive(Clone, Copy)]
struct Landlock {
    /// It is there at all.
    files: bool,
    /// From Linux 5.19 on.
    moves: bool,
    /// From Linux 6.2 on.
    truncation: bool,
    /// From Linux 6.12 on.
    processes: bool,
}

static HERE: LazyLock<Landlock> = LazyLock::new(|| {
    let strict = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let can = |right: AccessFs| strict().handle_access(right).is_ok();
    Landlock {
        files: can(AccessFs::ReadFile),
        moves: can(AccessFs::Refer),
        truncation: can(AccessFs::Truncate),
        processes: strict().scope(Scope::Signal).is_ok(),
    }
});

impl Landlock {
    /// Names what a sandbox does not hold.
    fn gaps(self) -> Vec<&'static str> {
        if !self.files {
            return vec!["anything: the kernel offers no Landlock, so the server is not started"];
        }
        let gaps = [
            (
                self.truncation,
                "hidden files can be emptied (before Linux 6.2)",
            ),
            (
                self.processes,
                "the daemon can be signalled, and local sockets without a file be reached (before Linux 6.12)",
            ),
            (
                self.moves,
                "files cannot be moved from one folder to another (before Linux 5.19)",
            ),
        ];
        let gaps = gaps.into_iter().filter(|(holds, _)| !holds);
        gaps.map(|(_, gap)| gap).collect()
    }
}

/// Tells what a server's sandbox does not hold on this machine, and what it costs; `None` if it has none.
/// Reads folders and links, which may block.
pub(super) fn status(program: &Program) -> Option<ToolSandbox> {
    let hidden = program.hidden.as_ref()?;
    let mut not_held = HERE.gaps();
    if geteuid().is_root() && program.user.is_none() {
        not_held.push("it runs as root, who has other ways to what is hidden: set `user` too");
    }
    // A start tells why they cannot be found.
    let found = Hidden::find(hidden);
    let shown = |path: &Path| path.display().to_string();
    let closed = found.map(|hidden| hidden.ways().map(shown).collect());
    Some(ToolSandbox {
        not_held: not_held.into_iter().map(str::to_owned).collect(),
        closed: closed.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kernel_does_not_hold_is_named() {
        let linux = |files, moves, truncation, processes| {
            let kernel = Landlock {
                files,
                moves,
                truncation,
                processes,
            };
            kernel.gaps().concat()
        };
        assert!(linux(false, false, false, false).contains("is not started"));
        let first = linux(true, false, false, false);
        for gap in ["moved", "emptied", "signalled"] {
            assert!(first.contains(gap), "{first}");
        }
        let later = linux(true, true, true, false);
        assert!(later.contains("signalled") && !later.contains("emptied"));
        assert_eq!(linux(true, true, true, true), "");
    }
}
