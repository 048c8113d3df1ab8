//! Who calls the API, and what they may do: a role, the right to approve, the sessions that they may
//! name.
//!
//! ```text
//!   a request --> principal (by its token) --> its rights --allow(act, session)--> done, or a denial
//! ```

use std::fmt;
use std::num::NonZeroU32;

use serde::{Deserialize, Deserializer, Serialize};

use super::patterns::Patterns;
use super::{SessionId, UnixMillis};

/// The longest name of an access token, in bytes.
const TOKEN_NAME_MAX_BYTES: usize = 64;
/// The maximum number of session patterns of an access token, and the longest one, in bytes.
const TOKEN_PATTERNS_MAX: usize = 32;
const TOKEN_PATTERN_MAX_BYTES: usize = 256;

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
    /// The holder of the token that the configuration names.
    Configured,
    /// The holder of an access token.
    Token(TokenName),
}

impl PrincipalName {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Anybody => "anybody",
            Self::Configured => "config",
            Self::Token(name) => name.as_str(),
        }
    }

    /// Returns the name that is recorded with a message: none if nobody was authenticated.
    pub fn sender(&self) -> Option<&str> {
        match self {
            Self::Anybody => None,
            Self::Configured | Self::Token(_) => Some(self.as_str()),
        }
    }
}

impl fmt::Display for PrincipalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Principal {
    /// Anybody, on a daemon that asks for no token.
    pub fn anybody() -> Self {
        Self {
            name: PrincipalName::Anybody,
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
            return Err(denied(DenialReason::Approve));
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
#[error("{reason}; an admin can make another token (`abide token create`). This one is `{who}`")]
pub struct Denial {
    /// The principal's name.
    pub who: String,
    pub reason: DenialReason,
}

/// See [`Denial`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DenialReason {
    #[error("this needs the role `{needs}`, and the token has `{has}`")]
    Role { needs: AccessRole, has: AccessRole },
    #[error("to decide approvals, a token needs the right to approve, which this one lacks")]
    Approve,
    #[error("the token is for the sessions `{patterns}`, and `{session}` is none of them")]
    Session {
        session: SessionId,
        patterns: String,
    },
    #[error("this concerns all sessions, and the token is for `{0}` alone")]
    Daemon(String),
}

/// The name of an access token: 1 to 64 of the characters `A-Z a-z 0-9 . _ -`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]+$")]
pub struct TokenName(String);

/// Why a text is no name of an access token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTokenName {
    #[error(
        "a token's name has 1 to {TOKEN_NAME_MAX_BYTES} of the characters A-Z a-z 0-9 . _ - and no other"
    )]
    Characters,
    #[error("`{0}` is the name of a caller without an access token; choose another")]
    Reserved(String),
}

impl TokenName {
    pub fn new(name: impl Into<String>) -> Result<Self, BadTokenName> {
        let name = name.into();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        // `.` and `..` vanish from a URL's path.
        let vanishes = matches!(&*name, "." | "..");
        if name.is_empty()
            || name.len() > TOKEN_NAME_MAX_BYTES
            || vanishes
            || !name.chars().all(is_plain)
        {
            return Err(BadTokenName::Characters);
        }
        let others = [PrincipalName::Anybody, PrincipalName::Configured];
        match others.iter().any(|other| other.as_str() == name) {
            true => Err(BadTokenName::Reserved(name)),
            false => Ok(Self(name)),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TokenName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// An access token, without its secret, of which only a digest is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AccessToken {
    pub name: TokenName,
    pub role: AccessRole,
    /// Whether its holder may decide approvals.
    pub approve: bool,
    /// The sessions that it is for: ids, or patterns with `*` for any run of characters.
    pub sessions: Vec<String>,
    pub created_at: UnixMillis,
    /// Who made it.
    pub created_by: String,
    /// When it stops to be accepted; null for never.
    #[serde(default)]
    pub expires_at: Option<UnixMillis>,
    #[serde(default)]
    pub limits: TokenLimits,
}

/// How much the holder of an access token may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TokenLimits {
    /// So many requests may come at once, and that many more by and by in each minute. Null for no limit.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub requests_per_minute: Option<NonZeroU32>,
    /// Requests that are being answered at a time, event streams included. Null for no limit.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub requests_at_once: Option<NonZeroU32>,
}

impl AccessToken {
    /// Whether it is not accepted any more.
    pub fn has_expired(&self, now: UnixMillis) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// Returns its holder.
    pub fn principal(&self) -> Principal {
        Principal {
            name: PrincipalName::Token(self.name.clone()),
            rights: Rights {
                role: self.role,
                approve: self.approve,
                sessions: Patterns(self.sessions.clone()),
            },
        }
    }
}

/// Why a list of session patterns cannot be a token's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPatterns {
    #[error("a token is for 1 to {TOKEN_PATTERNS_MAX} session patterns; `*` is for all sessions")]
    Count,
    #[error(
        "a session pattern has 1 to {TOKEN_PATTERN_MAX_BYTES} bytes without control characters; \
         pattern {0} is not so"
    )]
    Pattern(usize),
}

/// Checks the session patterns of an access token.
pub fn check_patterns(patterns: &[String]) -> Result<(), BadPatterns> {
    if patterns.is_empty() || patterns.len() > TOKEN_PATTERNS_MAX {
        return Err(BadPatterns::Count);
    }
    let is_bad = |pattern: &String| {
        pattern.is_empty()
            || pattern.len() > TOKEN_PATTERN_MAX_BYTES
            || pattern.chars().any(char::is_control)
    };
    match patterns.iter().position(is_bad) {
        Some(at) => Err(BadPatterns::Pattern(at + 1)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(role: AccessRole, approve: bool, sessions: &[&str]) -> Principal {
        let token = AccessToken {
            name: TokenName::new("ci").unwrap(),
            role,
            approve,
            sessions: sessions.iter().map(|&pattern| pattern.to_owned()).collect(),
            created_at: UnixMillis(1),
            created_by: "config".to_owned(),
            expires_at: Some(UnixMillis(5)),
            limits: TokenLimits::default(),
        };
        assert!(!token.has_expired(UnixMillis(4)) && token.has_expired(UnixMillis(5)));
        token.principal()
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

    #[test]
    fn names_are_plain_and_those_of_no_other_caller() {
        for good in ["a", "ci-7", "Ada.Lovelace_2", &"x".repeat(64)] {
            assert!(TokenName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "ä", "a\n", &"x".repeat(65)] {
            assert_eq!(
                TokenName::new(bad),
                Err(BadTokenName::Characters),
                "{bad:?}"
            );
        }
        for taken in ["anybody", "config"] {
            assert!(matches!(
                TokenName::new(taken),
                Err(BadTokenName::Reserved(_))
            ));
        }
    }

    #[test]
    fn patterns_have_limits() {
        let patterns =
            |list: &[&str]| check_patterns(&list.iter().map(|&p| p.into()).collect::<Vec<_>>());
        assert_eq!(patterns(&["*"]), Ok(()));
        assert_eq!(patterns(&[]), Err(BadPatterns::Count));
        assert_eq!(patterns(&["x"; 33]), Err(BadPatterns::Count));
        assert_eq!(patterns(&["a", ""]), Err(BadPatterns::Pattern(2)));
        assert_eq!(patterns(&["a\u{7}"]), Err(BadPatterns::Pattern(1)));
        assert_eq!(patterns(&[&"x".repeat(257)]), Err(BadPatterns::Pattern(1)));
    }
}
