//! What parts of a request weigh.

use std::iter::Sum;
use std::ops::Add;

use abide_guest_sdk::llm::{ChatMessage, ToolDefinition};

/// What a message or a tool costs beside its text, in bytes: about what its encoding adds, and no
/// less than what a model's own template adds.
const OVERHEAD: usize = 64;

/// Messages or tools, by what they weigh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weight(usize);

impl Weight {
    /// In bytes.
    pub(crate) fn bytes(self) -> usize {
        self.0
    }
}

impl From<&ChatMessage> for Weight {
    fn from(message: &ChatMessage) -> Self {
        let calls = message.tool_calls.iter();
        let calls = calls.map(|call| call.id.len() + call.name.len() + call.arguments.len());
        Self(message.content.len() + calls.sum::<usize>() + OVERHEAD)
    }
}

impl From<&ToolDefinition> for Weight {
    fn from(tool: &ToolDefinition) -> Self {
        Self(tool.name.len() + tool.description.len() + tool.parameters.len() + OVERHEAD)
    }
}

impl Add for Weight {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl<T: Into<Weight>> Sum<T> for Weight {
    fn sum<I: Iterator<Item = T>>(parts: I) -> Self {
        parts.fold(Self::default(), |sum, part| sum + part.into())
    }
}
