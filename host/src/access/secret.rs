//! The secret of an access token: what a client sends. It is shown once, when the token is made.

use std::fmt::{self, Write as _};

/// What all secrets begin with, so that programs that search texts for secrets know them.
const PREFIX: &str = "abide_";
/// The number of random bytes: as many as the digest has that is stored of it.
const RANDOM_BYTES: usize = 32;

/// The secret of an access token.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenSecret(String);

impl TokenSecret {
    /// Draws one from the system's source of randomness.
    pub fn draw() -> Self {
        let random: [u8; RANDOM_BYTES] = rand::random();
        let mut text = PREFIX.to_owned();
        for byte in random {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// Returns the text, for the one response that has it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_are_not_shown() {
        let (a, b) = (TokenSecret::draw(), TokenSecret::draw());
        assert_ne!(a, b);
        assert_eq!(a.expose().len(), PREFIX.len() + 2 * RANDOM_BYTES);
        assert!(!format!("{a:?}").contains(a.expose()));
    }
}
