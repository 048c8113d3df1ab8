//! Users of this machine, whom tool servers may run as.

use std::ffi::{CString, OsString};

use nix::unistd::{User, getgrouplist};
use rustix::process::{Gid, Uid};

/// A user whom a process can become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SystemUser {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    /// All groups, `gid` among them.
    pub(crate) groups: Vec<Gid>,
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
                    uid: Uid::from_raw(uid),
                    gid: Gid::from_raw(gid),
                    groups: vec![Gid::from_raw(gid)],
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
        let own = |gid: nix::unistd::Gid| Gid::from_raw(gid.as_raw());
        Ok(Self {
            uid: Uid::from_raw(user.uid.as_raw()),
            gid: own(user.gid),
            groups: groups.into_iter().map(own).collect(),
            env: vec![
                ("HOME", user.dir.into()),
                ("USER", name.into()),
                ("LOGNAME", name.into()),
                ("SHELL", user.shell.into()),
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
        assert_eq!((root.uid, root.gid), (Uid::ROOT, Gid::ROOT));
        assert!(root.groups.contains(&Gid::ROOT));
        assert!(root.env.contains(&("USER", "root".into())));
        let ids = SystemUser::find("4242:17").expect("ids");
        let gid = Gid::from_raw(17);
        assert_eq!(
            (ids.uid, ids.gid, ids.groups),
            (Uid::from_raw(4242), gid, vec![gid])
        );
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
