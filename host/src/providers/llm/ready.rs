//! A provider that is ready to be asked. All questions to it share what was learned from earlier
//! ones.

use super::dialect::Dialects;
use super::health::ProviderHealth;
use super::left_out::ToolsLeftOut;
use super::provider::{self, LlmProvider};
use super::server::ProviderServer;
use super::window::Tokens;

/// A provider with its client, and what was learned about it so far.
pub(super) struct Ready {
    pub(super) provider: LlmProvider,
    pub(super) server: ProviderServer,
    pub(super) tokens: Tokens,
    pub(super) dialects: Dialects,
    pub(super) left_out: ToolsLeftOut,
    pub(super) health: ProviderHealth,
}

impl Ready {
    /// Builds the provider's client, without connecting. The error is why it cannot be used.
    pub(super) fn new(provider: LlmProvider) -> Result<Self, String> {
        Ok(Self {
            server: provider::client(&provider)?,
            provider,
            tokens: Tokens::new(),
            dialects: Dialects::default(),
            left_out: ToolsLeftOut::default(),
            health: ProviderHealth::default(),
        })
    }
}
