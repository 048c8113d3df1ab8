//! The audit log: who repaired a session, ran the daemon, decided an approval or changed tokens.

use serde::{Deserialize, Serialize};

use super::UnixMillis;

/// An act of an operator, as it is recorded before it is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditEntry {
    /// Its number: later acts have higher ones.
    pub id: AuditId,
    pub at: UnixMillis,
    /// Who did it: a token's name, `config` for the holder of the token that the configuration
    /// names; where no token is configured, `@local` by the local socket, else `anybody`.
    pub who: String,
    /// What, as the API's document names the operation, such as `restart_daemon`.
    pub act: String,
    /// The session, the approval or the token that it concerns, if it concerns one.
    #[serde(default)]
    pub subject: Option<String>,
    /// The status of the response; null if there was none: it is being done, or the daemon died or the
    /// client left while it was.
    #[serde(default)]
    pub status: Option<u16>,
}

/// The number of an entry of the audit log.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(transparent)]
#[schema(value_type = u64)]
pub struct AuditId(pub u64);
