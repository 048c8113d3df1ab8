//! The names of access tokens.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// The longest name of an access token, in bytes.
const TOKEN_NAME_MAX_BYTES: usize = 64;
/// Callers without an access token, which no token is named after: anybody, and the holder of the
/// token that the configuration names.
pub(super) const ANYBODY: &str = "anybody";
pub(super) const CONFIGURED: &str = "config";

/// The name of an access token: 1 to 64 of the characters `A-Z a-z 0-9 . _ -`, but neither `.` nor `..`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, min_length = 1, max_length = 64, pattern = r"^(\.{3,}|\.*[A-Za-z0-9_-][A-Za-z0-9._-]*)$")]
pub struct TokenName(String);

/// Why a text is no name of an access token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTokenName {
    #[error(
        "a token's name has 1 to {TOKEN_NAME_MAX_BYTES} of the characters A-Z a-z 0-9 . _ - and no other, and \
         is neither `.` nor `..`"
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
        match [ANYBODY, CONFIGURED].contains(&name.as_str()) {
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

#[cfg(test)]
mod tests {
    use super::*;

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
        for taken in [ANYBODY, CONFIGURED] {
            assert!(matches!(
                TokenName::new(taken),
                Err(BadTokenName::Reserved(_))
            ));
        }
    }
}
