//! Step: calls of tools that the operator has connected and granted.

use serde::Serialize;

pub use crate::bindings::abide::session::tools::{Blob, Content, Invocation, Outcome, Tool};
use crate::{StepError, host};

/// Lists the tools that this plugin may call now, by name.
///
/// # Errors
/// See [`StepError`].
pub fn list() -> Result<Vec<Tool>, StepError> {
    host::tools::list()
}

/// Calls one tool.
///
/// # Errors
/// See [`StepError`]. A tool that ran and reports a failure is an [`Outcome`], not an error.
pub fn call(invocation: &Invocation) -> Result<Outcome, StepError> {
    host::tools::call(invocation)
}

/// Calls several tools at once; the results are in the order of the calls. Each call is a step of
/// its own: after an interruption, completed calls are not repeated.
pub fn call_all(invocations: &[Invocation]) -> Vec<Result<Outcome, StepError>> {
    host::tools::call_all(invocations)
}

impl Tool {
    /// Creates a tool without arguments, of which only a description is known.
    pub fn new(name: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            description: description.into(),
            parameters: r#"{"type":"object","properties":{}}"#.to_owned(),
            read_only: false,
            idempotent: false,
        }
    }
}

impl Outcome {
    /// Creates the successful answer of a tool, as text.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            content: vec![Content::Text(text.into())],
            is_error: false,
        }
    }

    /// Creates the answer of a tool that ran and failed, as text.
    pub fn error(text: impl Into<String>) -> Self {
        Self {
            is_error: true,
            ..Self::text(text)
        }
    }
}

impl Invocation {
    /// Creates a call of the tool `name` with `arguments`, which must be a JSON object.
    ///
    /// # Errors
    /// If `arguments` cannot be written as JSON.
    pub fn new(name: impl Into<String>, arguments: &impl Serialize) -> serde_json::Result<Self> {
        Ok(Self {
            name: name.into(),
            arguments: serde_json::to_string(arguments)?,
        })
    }
}
