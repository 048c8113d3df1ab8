//! What the client may give when it creates a session.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

/// How much of a conversation is kept by default, in bytes.
const HISTORY_BYTES: usize = 256 * 1024;
/// How much of one tool result the model is shown by default, in bytes.
const TOOL_RESULT_BYTES: usize = 16 * 1024;
/// How often the model may ask for tools in one turn by default.
const MAX_ROUNDS: NonZeroU32 = NonZeroU32::new(50).unwrap();

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
    /// How much of the conversation is kept, in bytes. The model is shown as much of it as its
    /// context window takes.
    pub(crate) history_bytes: usize,
    /// How much of one tool result's text the model is shown, in bytes. Images have what
    /// `history_bytes` leaves to results.
    pub(crate) tool_result_bytes: usize,
    /// How often the model may ask for tools in one turn. Then the turn ends, and says so.
    pub(crate) max_rounds: NonZeroU32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            system: None,
            provider: None,
            model: None,
            max_tokens: None,
            history_bytes: HISTORY_BYTES,
            tool_result_bytes: TOOL_RESULT_BYTES,
            max_rounds: MAX_ROUNDS,
        }
    }
}
