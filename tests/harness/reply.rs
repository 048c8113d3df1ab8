//! A response, and what tests expect of it.

use serde_json::Value;

/// A response.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    /// Its `Content-Type`, without parameters.
    pub content_type: String,
    /// Its body: JSON, or anything else as a string.
    pub body: Value,
}

impl Reply {
    /// Asserts that the reply is a problem document with that status, a title and a type. Returns
    /// title and detail as one text.
    ///
    /// # Panics
    /// If it is anything else.
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.content_type, "application/problem+json", "{self:?}");
        assert_eq!(self.body["status"], status, "{self:?}");
        let text = |key: &str| self.body[key].as_str().unwrap_or_default();
        assert!(!text("title").is_empty(), "{self:?}");
        assert!(!text("type").is_empty(), "{self:?}");
        format!("{}: {}", text("title"), text("detail"))
    }

    /// Returns the body of a reply that must have this status.
    ///
    /// # Panics
    /// If it has another one.
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.body
    }
}
