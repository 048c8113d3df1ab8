//! Whether a provider answers, as its last question shows.

use std::sync::{Mutex, PoisonError};

use crate::domain::{ModelProviderFailing, StepError, UnixMillis};

/// Why a provider's last question was not answered, and since when none is.
#[derive(Debug, Default)]
pub(super) struct ProviderHealth(Mutex<Option<ModelProviderFailing>>);

impl ProviderHealth {
    pub(super) fn answered(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What is too large says nothing of the provider.
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
