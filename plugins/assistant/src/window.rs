//! How much the model's context window takes, as far as refusals tell.
//!
//! Windows are counted in tokens, and only the host and the model's own server know how many a text
//! has: what is too much, they refuse. That decides how much of the conversation a model is shown;
//! what is kept is not for it to say.

use serde::{Deserialize, Serialize};

/// How much more than before is tried, as a part of it, once what was allowed has been taken.
const STEP: u64 = 16;

/// What is known of the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Window {
    /// The model that answered last. None if it has refused a request since: whichever answers
    /// next is the one that did.
    model: Option<String>,
    /// What a whole request may weigh, in bytes, since larger ones were refused.
    ceiling: Option<u64>,
}

impl Window {
    /// What a whole request should weigh at most, in bytes; none if none was refused.
    pub(crate) fn bytes(&self) -> Option<usize> {
        let bytes = self.ceiling?;
        Some(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// This model has answered a request of that weight, in bytes.
    pub(crate) fn answered(&mut self, asked: usize, model: &str) {
        let same = self.model.as_deref().is_none_or(|before| before == model);
        let asked = asked as u64;
        // What a model refused says nothing of another one. And a guess that held is on the safe
        // side, or the window has become larger since.
        self.ceiling = self.ceiling.filter(|_| same).map(|ceiling| {
            let full = asked >= ceiling - ceiling / STEP;
            let step = if full { ceiling / STEP } else { 0 };
            ceiling.max(asked).saturating_add(step)
        });
        self.model = Some(model.to_owned());
    }

    /// A request was refused as too large; the next should weigh that much.
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
        // Another model refuses before it has answered anything.
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
        // What is under way is asked, whatever the guess says.
        window.answered(3000, "m");
        assert_eq!(window.bytes(), Some(3106));
    }
}
