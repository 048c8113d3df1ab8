//! The arguments that a client may give when it creates a session.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

/// The default limit on the conversation that is kept, in bytes.
const HISTORY_BYTES: usize = 256 * 1024;
/// The default limit on one tool result that is shown to the model, in bytes.
const TOOL_RESULT_BYTES: usize = 16 * 1024;
/// How often the model may request tools in one turn, by default.
const MAX_ROUNDS: NonZeroU32 = NonZeroU32::new(50).unwrap();

/// The session's `args`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// The system prompt.
    pub(crate) system: Option<String>,
    /// The provider's name in the operator's configuration; if `None`, the first granted one.
    pub(crate) provider: Option<String>,
    /// The model; if `None`, the provider's default.
    pub(crate) model: Option<String>,
    /// The limit on an answer, in tokens; if `None`, the provider's default.
    pub(crate) max_tokens: Option<NonZeroU32>,
    /// How much of the conversation is kept, in bytes. The model is shown as much of it as fits
    /// into its context window.
    pub(crate) history_bytes: usize,
    /// How much of one tool result's text the model is shown, in bytes. Images get the room that
    /// `history_bytes` leaves for results.
    pub(crate) tool_result_bytes: usize,
    /// How often the model may request tools in one turn. After that the turn ends with a message
    /// that says so.
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
