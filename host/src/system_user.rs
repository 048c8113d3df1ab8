//! Users of this machine, whom tool servers may run as.

use std::ffi::{CString, OsString};
use std::path::PathBuf;

use nix::unistd::{Gid, Uid, User, getgrouplist};

/// A user whom a process can become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SystemUser {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// All groups, `gid` among them.
    pub(crate) groups: Vec<u32>,
    /// What a program of this user finds in its environment.
    pub(crate) env: Vec<(&'static str, OsString)>,
}

/// Why a text names no user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnknownUser {
    #[error("there is no user `{0}` on this machine")]
    NoSuchUser(String),
    #[error("`{0}` is neither a user's name nor two ids (`UID:GID`)")]
    Malformed(String),
    #[error("the user `{0}` cannot be looked up ({1})")]
    Lookup(String, nix::Error),
}

impl SystemUser {
    /// Finds a user by its name, or takes the ids of `UID:GID`, which need no entry in the system's list of
    /// users. Reads that list, which may block.
    pub(crate) fn find(text: &str) -> Result<Self, UnknownUser> {
        match text.split_once(':') {
            // The largest number means no user to the kernel, but that nothing is to change.
            Some((uid, gid)) => match (uid.parse(), gid.parse()) {
                (Ok(uid), Ok(gid)) if uid != u32::MAX && gid != u32::MAX => Ok(Self {
                    uid,
                    gid,
                    groups: vec![gid],
                    env: vec![("HOME", "/".into())],
                }),
                _ => Err(UnknownUser::Malformed(text.to_owned())),
            },
            None => Self::named(text),
        }
    }

    fn named(name: &str) -> Result<Self, UnknownUser> {
        let failed = |error| UnknownUser::Lookup(name.to_owned(), error);
        let Ok(c_name) = CString::new(name) else {
            return Err(UnknownUser::Malformed(name.to_owned()));
        };
        let user = User::from_name(name).map_err(failed)?;
        let user = user.ok_or_else(|| UnknownUser::NoSuchUser(name.to_owned()))?;
        let groups = getgrouplist(&c_name, user.gid).map_err(failed)?;
        let path = |path: PathBuf| path.into_os_string();
        Ok(Self {
            uid: Uid::as_raw(user.uid),
            gid: Gid::as_raw(user.gid),
            groups: groups.into_iter().map(Gid::as_raw).collect(),
            env: vec![
                ("HOME", path(user.dir)),
                ("USER", name.into()),
                ("LOGNAME", name.into()),
                ("SHELL", path(user.shell)),
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_or_taken_by_their_ids() {
        let root = SystemUser::find("root").expect("each system has it");
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0));
        assert!(root.env.contains(&("USER", "root".into())));
        let ids = SystemUser::find("4242:17").expect("ids");
        assert_eq!((ids.uid, ids.gid, ids.groups), (4242, 17, vec![17]));
        for (text, reason) in [
            ("no-such-user", "no user `no-such-user`"),
            ("4242", "no user `4242`"),
            ("", "no user ``"),
            ("a:b", "neither"),
            ("1:", "neither"),
            ("-1:1", "neither"),
            ("4294967295:1", "neither"),
            ("1:4294967295", "neither"),
            ("a\0b", "neither"),
        ] {
            let error = SystemUser::find(text).expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
