//! Access tokens.

use std::num::NonZeroU32;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::{ArrayBuilder, Type};
use utoipa::openapi::{Array, ObjectBuilder};

use super::object::from_object;
use crate::domain::{
    AccessRole, AccessToken, TOKEN_PATTERN_MAX_BYTES, TOKEN_PATTERNS_MAX, TokenLimits, TokenName,
    UnixMillis,
};

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
    #[schema(schema_with = patterns_schema)]
    pub sessions: Vec<String>,
    /// When it stops to be accepted; never if left out.
    #[serde(default)]
    pub expires_at: Option<UnixMillis>,
    #[serde(default, deserialize_with = "from_object")]
    pub limits: TokenLimitsRequest,
}

/// The limits of a token to make.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenLimitsRequest {
    /// So many requests may come at once, and that many more by and by in each minute; any number if left
    /// out.
    #[serde(default, deserialize_with = "whole_number")]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 4_294_967_295_u32)]
    pub requests_per_minute: Option<NonZeroU32>,
    /// Requests that are being answered at a time, event streams included; any number if left out.
    #[serde(default, deserialize_with = "whole_number")]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 4_294_967_295_u32)]
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

/// JSON has no integers of its own: `1.0` is the number `1`, and some languages write it so.
fn whole_number<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<NonZeroU32>, D::Error> {
    let Some(number) = Option::<f64>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let whole = (number.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(&number))
        .then_some(number as u32)
        .and_then(NonZeroU32::new);
    let detail = || format!("{number} is no whole number from 1 to {}", u32::MAX);
    whole.map(Some).ok_or_else(|| D::Error::custom(detail()))
}

fn patterns_schema() -> Array {
    let pattern = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(TOKEN_PATTERN_MAX_BYTES))
        .pattern(Some(r"^[^\x00-\x1f\x7f-\x9f]+$"));
    ArrayBuilder::new()
        .items(pattern)
        .min_items(Some(1))
        .max_items(Some(TOKEN_PATTERNS_MAX))
        .description(Some(
            "The sessions that it is for: ids, or patterns with `*` for any run of characters; all if left out",
        ))
        .build()
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
