//! How a child becomes another user before its program runs, and gives up the rights that the daemon may
//! have beyond its user's.

use rustix::io;
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities,
    set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::system_user::SystemUser;

/// What a child needs to become another user. It is made before the fork: between fork and exec nothing may
/// be allocated.
#[derive(Debug)]
pub(super) struct OtherUser {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl OtherUser {
    pub(super) fn new(user: &SystemUser) -> Self {
        let groups = user.groups.iter();
        Self {
            uid: Uid::from_raw(user.uid),
            gid: Gid::from_raw(user.gid),
            groups: groups.map(|gid| Gid::from_raw(*gid)).collect(),
        }
    }

    /// Makes this process, which has one thread, the user's. It keeps no capability and gets no rights by
    /// set-user-id files. Only system calls, so that it may be called between fork and exec.
    ///
    /// # Errors
    /// `EPERM` if the process may not become another user.
    pub(super) fn take_over(&self) -> io::Result<()> {
        set_thread_groups(&self.groups)?;
        set_thread_res_gid(self.gid, self.gid, self.gid)?;
        set_thread_res_uid(self.uid, self.uid, self.uid)?;
        // A change between two users that are not root leaves capabilities as they are.
        give_up_all_capabilities()?;
        set_no_new_privs(true)
    }
}

/// Gives up the capabilities that the daemon was given to start programs as other users: its own user's
/// have none. What is root's stays root's. Only system calls, so that it may be called between fork and
/// exec.
pub(super) fn give_up_capabilities() -> io::Result<()> {
    match geteuid().is_root() {
        true => Ok(()),
        false => give_up_all_capabilities(),
    }
}

fn give_up_all_capabilities() -> io::Result<()> {
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )
}
