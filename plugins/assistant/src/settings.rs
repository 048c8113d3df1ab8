//! What the client may give when it creates a session.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

/// How much of a conversation is kept by default, in bytes.
const HISTORY_BYTES: usize = 256 * 1024;

/// The session's `args`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// What the model is told before everything else.
    pub(crate) system: Option<String>,
    /// The provider's name in the operator's configuration; the first granted one if none.
    pub(crate) provider: Option<String>,
    /// The model; the provider's default if none.
    pub(crate) model: Option<String>,
    /// The longest answer, in tokens; the provider's default if none.
    pub(crate) max_tokens: Option<NonZeroU32>,
    /// How much of the conversation is kept, in bytes. A model with a small context window needs
    /// less than the default.
    pub(crate) history_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            system: None,
            provider: None,
            model: None,
            max_tokens: None,
            history_bytes: HISTORY_BYTES,
        }
    }
}
