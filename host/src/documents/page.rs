//! One page of a list.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A page of a list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T, N = Value> {
    pub items: Vec<T>,
    /// What to send as `after` for the next page; none at the end.
    pub next: Option<N>,
}

impl<T> Page<T> {
    /// Returns [`Page::next`] as text for a query.
    pub fn next_text(&self) -> Option<String> {
        match self.next.as_ref()? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }
}
