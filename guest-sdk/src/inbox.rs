//! Step: messages that arrived since the turn began, so that a running turn can be steered.

use crate::{Message, StepError, host};

/// Takes all queued messages, oldest first; empty if there are none. The turn consumes them: they
/// will not begin turns of their own, unless the turn fails.
///
/// # Errors
/// See [`StepError`].
pub fn receive() -> Result<Vec<Message>, StepError> {
    host::inbox::receive()
}
