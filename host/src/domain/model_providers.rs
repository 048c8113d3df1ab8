//! The status of model providers, as operators see it.

use serde::{Deserialize, Serialize};

use super::{ToolLeftOut, UnixMillis};

/// The status of a model provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ModelProviderStatus {
    /// The name of its `[llm.NAME]`.
    pub name: String,
    /// Why it fails; none if its last request was answered, or none was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<ModelProviderFailing>,
    /// What the daemon found out about the requests that its models accept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub found_out: Vec<ModelDialect>,
    /// Tools that are hidden from its models, and why; only the first ones if there are many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<ToolLeftOut>,
}

/// A provider that does not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ModelProviderFailing {
    /// Since when.
    pub since: UnixMillis,
    /// Why its last request was not answered, with the remedy.
    pub reason: String,
}

/// How requests to a model are made since it refused the default form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ModelDialect {
    /// The model.
    pub model: String,
    /// The deviation from the default form, such as "without `stream_options`".
    pub asked: String,
}
