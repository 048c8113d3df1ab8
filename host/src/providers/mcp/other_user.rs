//! How a child becomes another user before its program runs, and gives up the rights that the daemon may
//! have beyond its user's.

use rustix::io;
use rustix::process::geteuid;
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities,
    set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::system_user::SystemUser;

/// Makes this process, which has one thread, another user's. It keeps no capability and gets no rights by
/// set-user-id files. Only system calls, so that it may be called between fork and exec.
///
/// # Errors
/// `EPERM` if the process may not become another user.
pub(super) fn become_user(user: &SystemUser) -> io::Result<()> {
    let SystemUser {
        uid, gid, groups, ..
    } = user;
    set_thread_groups(groups)?;
    set_thread_res_gid(*gid, *gid, *gid)?;
    set_thread_res_uid(*uid, *uid, *uid)?;
    // A change between two users that are not root leaves capabilities as they are.
    give_up_all_capabilities()?;
    set_no_new_privs(true)
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
    match clear_ambient_capability_set() {
        // Sandboxes that are not quite Linux have no such set to clear.
        Ok(()) | Err(io::Errno::INVAL) => {}
        Err(error) => return Err(error),
    }
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
