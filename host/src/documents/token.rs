//! Access tokens.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{AccessRole, AccessToken, TokenLimits, TokenName, UnixMillis};

/// A token to make.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    pub name: TokenName,
    pub role: AccessRole,
    /// Whether its holder may decide approvals.
    #[serde(default)]
    pub approve: bool,
    /// The sessions that it is for: ids, or patterns with `*` for any run of characters; all if left
    /// out. At most 32, of at most 256 bytes each.
    #[serde(default = "all_sessions")]
    pub sessions: Vec<String>,
    /// When it stops to be accepted; never if left out.
    #[serde(default)]
    pub expires_at: Option<UnixMillis>,
    #[serde(default)]
    pub limits: TokenLimitsRequest,
}

/// The limits of a token to make.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenLimitsRequest {
    /// So many requests may come at once, and that many more by and by in each minute; any number if left
    /// out.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub requests_per_minute: Option<NonZeroU32>,
    /// Requests that are being answered at a time, event streams included; any number if left out.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub requests_at_once: Option<NonZeroU32>,
}

impl From<TokenLimitsRequest> for TokenLimits {
    fn from(request: TokenLimitsRequest) -> Self {
        Self {
            requests_per_minute: request.requests_per_minute,
            requests_at_once: request.requests_at_once,
        }
    }
}

fn all_sessions() -> Vec<String> {
    vec!["*".to_owned()]
}

/// A token that was made.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct TokenCreated {
    #[serde(flatten)]
    pub token: AccessToken,
    /// What its holder sends, as `Authorization: Bearer SECRET`. It is in this response alone: the daemon
    /// keeps a digest of it.
    pub secret: String,
}
