//! The health of a provider: whether it answered its last question.

use std::sync::{Mutex, PoisonError};

use crate::domain::{ModelProviderFailing, StepError, UnixMillis};

/// Why a provider did not answer its last question, and since when it has answered none. Empty
/// while it answers.
#[derive(Debug, Default)]
pub(super) struct ProviderHealth(Mutex<Option<ModelProviderFailing>>);

impl ProviderHealth {
    pub(super) fn answered(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Records a failed question. A request that is too large says nothing about the provider.
    pub(super) fn failed(&self, error: &StepError) {
        if let StepError::TooLarge(_) = error {
            return;
        }
        let mut failing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = failing
            .as_ref()
            .map_or_else(UnixMillis::now, |before| before.since);
        *failing = Some(ModelProviderFailing {
            since,
            reason: error.to_string(),
        });
    }

    pub(super) fn failing(&self) -> Option<ModelProviderFailing> {
        let failing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failing.clone()
    }
}
