//! Dead letters of all sessions.

use serde::{Deserialize, Serialize};

use crate::domain::{DeadLetter, SessionId};

/// A dead letter, with the session that it is of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SessionDeadLetter {
    /// The session.
    pub session: SessionId,
    /// The letter.
    #[serde(flatten)]
    pub letter: DeadLetter,
}
