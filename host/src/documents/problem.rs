//! Problem documents (RFC 9457).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A problem document.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub struct ProblemDocument {
    /// The kind of problem, for programs: `urn:abide:problem:` and a name.
    #[serde(default)]
    #[schema(required = true)]
    pub r#type: String,
    /// The kind of problem, for humans.
    #[serde(default)]
    #[schema(required = true)]
    pub title: String,
    /// The response's status.
    #[serde(default)]
    #[schema(required = true)]
    pub status: u16,
    /// What happened, to what, and what to do.
    #[serde(default)]
    #[schema(required = true)]
    pub detail: String,
    /// Facts for programs, depending on the kind.
    #[serde(flatten)]
    #[schema(value_type = std::collections::BTreeMap<String, Value>)]
    pub facts: Map<String, Value>,
}
