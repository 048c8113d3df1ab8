//! Why a token is not made or revoked.

use tokio::task::JoinError;

use crate::domain::{BadPatterns, TokenName, UnixMillis};
use crate::store::StoreError;

/// The maximum number of access tokens.
pub(super) const TOKENS_MAX: usize = 1000;

/// See the module. The texts name the reason and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    #[error("there is a token `{0}` already; revoke it first, or choose another name")]
    Taken(TokenName),
    #[error("there is no token `{0}`; `abide token list` lists those that there are")]
    Unknown(String),
    #[error("there are {TOKENS_MAX} tokens already; revoke one that is not used any more")]
    TooMany,
    #[error(transparent)]
    Patterns(#[from] BadPatterns),
    #[error("a token that expires at {at} would be of no use, it is {now}; choose a later time")]
    Past { at: UnixMillis, now: UnixMillis },
    /// The data folder cannot hold it before this version's probation is over.
    #[error("{0}")]
    NotYet(String),
    #[error(
        "the token `{0}` is not accepted any more, but the disk takes its time to note that; it is noted \
         as soon as it can be, and a restart before then would accept the token again"
    )]
    RevokedHere(TokenName),
    /// The worker is about to be replaced, or to stop.
    #[error("the daemon is being replaced; send again in a moment")]
    Restarting,
    #[error("{0}")]
    Store(String),
}

impl From<JoinError> for TokenRefusal {
    fn from(error: JoinError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<StoreError> for TokenRefusal {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        match error {
            StoreError::LacksPart { .. } => Self::NotYet(text),
            StoreError::Closed => Self::Restarting,
            _ => Self::Store(text),
        }
    }
}
