//! Who calls the API, and what they may do: a role, the right to approve, the sessions that they may
//! name.
//!
//! ```text
//!   a request --> principal (by its token) --> its rights --allow(act, session)--> done, or a denial
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use super::SessionId;
use super::patterns::Patterns;
use super::token_name::{ANYBODY, CONFIGURED, TokenName};

/// What a caller may do, from the least to the most: each role may do what those before it may.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum AccessRole {
    /// Reads sessions; with all sessions, also the daemon's status and metrics.
    Viewer,
    /// Creates sessions and converses with them.
    Client,
    /// Repairs sessions; with all sessions, also restarts, drains and backs up the daemon.
    Operator,
    /// Makes and revokes access tokens, and reads the audit log.
    Admin,
}

impl AccessRole {
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Client, Self::Operator, Self::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Client => "client",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for AccessRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A kind of request, by what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Read a session, or what is no session's, such as the names of plugins.
    Read,
    /// Create, use or close a session.
    Converse,
    /// Decide an approval.
    Decide,
    /// Repair a session, or replay its turns.
    Repair,
    /// Read the daemon's status and metrics.
    Watch,
    /// Restart, drain or back up the daemon, or plan a restart.
    Run,
    /// Make and revoke access tokens, read the audit log.
    Administer,
}

impl Act {
    pub const ALL: [Self; 7] = [
        Self::Read,
        Self::Converse,
        Self::Decide,
        Self::Repair,
        Self::Watch,
        Self::Run,
        Self::Administer,
    ];

    /// Returns the least role that may do it.
    pub fn role(self) -> AccessRole {
        match self {
            Self::Read | Self::Watch | Self::Decide => AccessRole::Viewer,
            Self::Converse => AccessRole::Client,
            Self::Repair | Self::Run => AccessRole::Operator,
            Self::Administer => AccessRole::Admin,
        }
    }

    /// Whether it concerns all sessions, so that rights to some of them do not suffice.
    pub fn is_of_daemon(self) -> bool {
        match self {
            Self::Watch | Self::Run | Self::Administer => true,
            Self::Read | Self::Converse | Self::Decide | Self::Repair => false,
        }
    }
}

/// What a principal may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    pub role: AccessRole,
    /// Whether it may decide approvals, whatever its role.
    pub approve: bool,
    /// The sessions that it may name.
    pub sessions: Patterns,
}

impl Rights {
    /// Returns all rights.
    pub fn all() -> Self {
        Self {
            role: AccessRole::Admin,
            approve: true,
            sessions: Patterns::all(),
        }
    }

    /// Whether they are for all sessions, also for those that are not there yet.
    pub fn are_for_all(&self) -> bool {
        self.sessions.0.iter().any(|pattern| pattern == "*")
    }

    /// Whether they are for this session.
    pub fn are_for(&self, session: &SessionId) -> bool {
        self.sessions.allow(session.as_str())
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    pub name: PrincipalName,
    pub rights: Rights,
}

/// The name of a principal, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrincipalName {
    /// Anybody: no token is configured, and the daemon listens on loopback alone.
    Anybody,
    /// Whoever runs commands on this machine as the daemon's user, where no token is configured.
    Local,
    /// The holder of the token that the configuration names.
    Configured,
    /// The holder of an access token.
    Token(TokenName),
}

impl PrincipalName {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Anybody => ANYBODY,
            // No token can have this name, not even one from before this caller was known.
            Self::Local => "@local",
            Self::Configured => CONFIGURED,
            Self::Token(name) => name.as_str(),
        }
    }

    /// Returns the name that is recorded with a message: none if nobody was authenticated.
    pub fn sender(&self) -> Option<&str> {
        match self {
            Self::Anybody => None,
            Self::Local | Self::Configured | Self::Token(_) => Some(self.as_str()),
        }
    }
}

impl fmt::Display for PrincipalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Principal {
    /// Anybody, on a daemon that asks for no token. A tool that an agent calls is anybody too: it must
    /// not approve its own calls.
    pub fn anybody() -> Self {
        Self {
            name: PrincipalName::Anybody,
            rights: Rights {
                approve: false,
                ..Rights::all()
            },
        }
    }

    /// A process that the daemon has not started, of the daemon's user or of root, on a daemon that asks
    /// for no token.
    pub fn local() -> Self {
        Self {
            name: PrincipalName::Local,
            rights: Rights::all(),
        }
    }

    /// The holder of the token that the configuration names.
    pub fn configured() -> Self {
        Self {
            name: PrincipalName::Configured,
            rights: Rights::all(),
        }
    }

    /// Refuses an act that the rights do not cover. `session` is the one that it concerns, if it
    /// concerns one.
    pub fn allow(&self, act: Act, session: Option<&SessionId>) -> Result<(), Denial> {
        let Rights { role, approve, .. } = self.rights;
        let denied = |reason| Denial {
            who: self.name.to_string(),
            reason,
        };
        if role < act.role() {
            return Err(denied(DenialReason::Role {
                needs: act.role(),
                has: role,
            }));
        }
        if act == Act::Decide && !approve {
            return Err(denied(match self.name {
                PrincipalName::Anybody => DenialReason::Unknown,
                _ => DenialReason::Approve,
            }));
        }
        if act.is_of_daemon() && !self.rights.are_for_all() {
            return Err(denied(DenialReason::Daemon(self.patterns())));
        }
        match session {
            Some(session) if !self.rights.are_for(session) => Err(denied(DenialReason::Session {
                session: session.clone(),
                patterns: self.patterns(),
            })),
            _ => Ok(()),
        }
    }

    fn patterns(&self) -> String {
        self.rights.sessions.0.join("`, `")
    }
}

/// Why a principal may not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}; {}", self.remedy())]
pub struct Denial {
    /// The principal's name.
    pub who: String,
    pub reason: DenialReason,
}

impl Denial {
    fn remedy(&self) -> String {
        match self.reason {
            DenialReason::Unknown => {
                "decide with `abide approvals` on the daemon's machine, as its user \
                 and from a process that it has not started; or configure a token (`token_env` or \
                 `token_file` under [daemon]) and send it"
                    .to_owned()
            }
            _ => format!(
                "an admin can make another token (`abide token create`). This one is `{}`",
                self.who
            ),
        }
    }
}

/// See [`Denial`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DenialReason {
    #[error("this needs the role `{needs}`, and the token has `{has}`")]
    Role { needs: AccessRole, has: AccessRole },
    #[error("to decide approvals, a token needs the right to approve, which this one lacks")]
    Approve,
    /// No token is configured.
    #[error("who decides an approval must be known, and this daemon asks nobody for a token")]
    Unknown,
    #[error("the token is for the sessions `{patterns}`, and `{session}` is none of them")]
    Session {
        session: SessionId,
        patterns: String,
    },
    #[error("this concerns all sessions, and the token is for `{0}` alone")]
    Daemon(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(role: AccessRole, approve: bool, sessions: &[&str]) -> Principal {
        let sessions = sessions.iter().map(|&pattern| pattern.to_owned());
        Principal {
            name: PrincipalName::Token(TokenName::new("ci").unwrap()),
            rights: Rights {
                role,
                approve,
                sessions: Patterns(sessions.collect()),
            },
        }
    }

    #[test]
    fn a_role_may_do_what_the_roles_below_it_may_and_no_more() {
        for act in Act::ALL {
            for role in AccessRole::ALL {
                let allowed = holder(role, true, &["*"]).allow(act, None);
                assert_eq!(allowed.is_ok(), role >= act.role(), "{role} {act:?}");
                if let Err(denial) = allowed {
                    let text = denial.to_string();
                    assert!(text.contains(act.role().as_str()), "{text}");
                    assert!(text.contains("`ci`"), "{text}");
                }
            }
        }
    }

    #[test]
    fn approving_is_a_right_of_its_own() {
        for role in AccessRole::ALL {
            let denied = holder(role, false, &["*"]).allow(Act::Decide, None);
            assert_eq!(denied.unwrap_err().reason, DenialReason::Approve, "{role}");
            assert!(holder(role, true, &["*"]).allow(Act::Decide, None).is_ok());
        }
    }

    #[test]
    fn where_nobody_is_asked_for_a_token_deciding_is_not_for_anybody() {
        for act in Act::ALL {
            assert!(Principal::local().allow(act, None).is_ok(), "{act:?}");
            match Principal::anybody().allow(act, None) {
                Ok(()) => assert_ne!(act, Act::Decide),
                Err(denial) => {
                    assert_eq!(act, Act::Decide);
                    let text = denial.to_string();
                    assert!(text.contains("`abide approvals`"), "{text}");
                    assert!(!text.contains("another token"), "{text}");
                }
            }
        }
    }

    #[test]
    fn some_sessions_are_neither_others_nor_the_daemon() {
        let (own, other) = (
            SessionId::new("team/1").unwrap(),
            SessionId::new("steam/1").unwrap(),
        );
        for act in Act::ALL {
            let some = holder(AccessRole::Admin, true, &["team/*", "x"]);
            assert_eq!(
                some.allow(act, None).is_ok(),
                !act.is_of_daemon(),
                "{act:?}"
            );
            if !act.is_of_daemon() {
                assert!(some.allow(act, Some(&own)).is_ok(), "{act:?}");
                let denial = some.allow(act, Some(&other)).unwrap_err();
                assert!(denial.to_string().contains("`team/*`, `x`"), "{denial}");
            }
            // A pattern that happens to match everything today is no right to the daemon.
            let most = holder(AccessRole::Admin, true, &["t*", "s*"]);
            assert_eq!(most.allow(act, None).is_ok(), !act.is_of_daemon());
            let all = holder(AccessRole::Admin, true, &["x", "*"]);
            assert!(all.allow(act, Some(&other)).is_ok(), "{act:?}");
        }
    }
}
