//! An estimate of the model's context window, learned from rejected requests.
//!
//! Windows are measured in tokens, and only the host and the model's server know how many tokens a
//! text has; they reject what is too large. The estimate decides how much of the conversation is
//! shown to a model, but not how much is kept.

use serde::{Deserialize, Serialize};

/// The divisor of the ceiling by which the ceiling grows once a request close to it was accepted.
const STEP: u64 = 16;

/// The estimate of the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Window {
    /// The model that answered last. `None` if a request was rejected since: the next model that
    /// answers is the one that rejected it.
    model: Option<String>,
    /// The maximum size of a request, in bytes, after larger ones were rejected.
    ceiling: Option<u64>,
}

impl Window {
    /// Returns the maximum size of a request, in bytes; `None` if none was rejected.
    pub(crate) fn bytes(&self) -> Option<usize> {
        let bytes = self.ceiling?;
        Some(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// Records that this model answered a request of `asked` bytes.
    pub(crate) fn answered(&mut self, asked: usize, model: &str) {
        let same = self.model.as_deref().is_none_or(|before| before == model);
        let asked = asked as u64;
        // A rejection by one model says nothing about another. If a request of the estimated size
        // was accepted, the estimate is low, or the window has grown since.
        self.ceiling = self.ceiling.filter(|_| same).map(|ceiling| {
            let full = asked >= ceiling - ceiling / STEP;
            let step = if full { ceiling / STEP } else { 0 };
            ceiling.max(asked).saturating_add(step)
        });
        self.model = Some(model.to_owned());
    }

    /// Records that a request was rejected as too large, and that the next may have `next` bytes.
    pub(crate) fn refused(&mut self, next: usize) {
        self.model = None;
        self.ceiling = Some(next as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_remembered_of_that_model_alone() {
        let mut window = Window::default();
        assert_eq!(window.bytes(), None);
        window.answered(10_000, "m");
        assert_eq!(window.bytes(), None);
        window.refused(1600);
        window.answered(500, "m");
        assert_eq!(window.bytes(), Some(1600));
        window.answered(100, "larger");
        assert_eq!(window.bytes(), None);
        // Another model rejects a request before it has answered any.
        window.refused(300);
        window.answered(100, "smaller");
        assert_eq!(window.bytes(), Some(300));
    }

    #[test]
    fn what_held_is_tried_a_little_larger() {
        let mut window = Window::default();
        window.refused(1600);
        window.answered(1499, "m");
        assert_eq!(window.bytes(), Some(1600));
        window.answered(1500, "m");
        assert_eq!(window.bytes(), Some(1700));
        // A larger request is sent if it cannot be shortened, whatever the estimate.
        window.answered(3000, "m");
        assert_eq!(window.bytes(), Some(3106));
    }
}
