//! Access tokens: what the store has of them, and how much their holders may ask for.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::UnixMillis;
use super::patterns::Patterns;
use super::principal::{AccessRole, Principal, PrincipalName, Rights};
use super::token_name::TokenName;

/// The maximum number of session patterns of an access token, and the longest one, in bytes.
pub const TOKEN_PATTERNS_MAX: usize = 32;
pub const TOKEN_PATTERN_MAX_BYTES: usize = 256;

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
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 4_294_967_295_u32)]
    pub requests_per_minute: Option<NonZeroU32>,
    /// Requests that are being answered at a time, event streams included. Null for no limit.
    #[serde(default)]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 4_294_967_295_u32)]
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

    #[test]
    fn a_token_is_accepted_until_it_expires() {
        let token = AccessToken {
            name: TokenName::new("ci").unwrap(),
            role: AccessRole::Viewer,
            approve: true,
            sessions: vec!["a/*".to_owned()],
            created_at: UnixMillis(1),
            created_by: "config".to_owned(),
            expires_at: Some(UnixMillis(5)),
            limits: TokenLimits::default(),
        };
        assert!(!token.has_expired(UnixMillis(4)) && token.has_expired(UnixMillis(5)));
        let Principal { name, rights } = token.principal();
        assert_eq!(name.as_str(), "ci");
        assert!(rights.approve && rights.role == AccessRole::Viewer && !rights.are_for_all());
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
