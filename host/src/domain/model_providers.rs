//! Model providers, as an operator sees them.

use serde::{Deserialize, Serialize};

use super::{ToolLeftOut, UnixMillis};

/// A model provider, and what is odd about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ModelProviderStatus {
    /// The name of its `[llm.NAME]`.
    pub name: String,
    /// Why it gives no answer; none where its last question was answered, or none was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<ModelProviderFailing>,
    /// What was found out of what its models take.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub found_out: Vec<ModelDialect>,
    /// Tools that its models are not shown, and why; the first of them, if there are many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<ToolLeftOut>,
}

/// A provider that gives no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ModelProviderFailing {
    /// Since when.
    pub since: UnixMillis,
    /// Why its last question was not answered, with the remedy.
    pub reason: String,
}

/// How requests to a model are made, since it refused them as they were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ModelDialect {
    /// The model.
    pub model: String,
    /// Like "without `stream_options`".
    pub asked: String,
}
