//! What parts of a request weigh.

use std::iter::Sum;
use std::ops::Add;

use abide_guest_sdk::llm::{ChatMessage, ToolDefinition};

/// What a message or a tool costs beside its text, in bytes: about what its encoding adds, and no
/// less than what a model's own template adds.
const OVERHEAD: usize = 64;

/// Messages or tools, by what they weigh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    /// Their texts, in bytes.
    pub(crate) text: usize,
    /// How many they are.
    parts: usize,
}

impl Weight {
    /// All of it, in bytes.
    pub(crate) fn bytes(self) -> usize {
        self.text + self.parts * OVERHEAD
    }
}

impl From<&ChatMessage> for Weight {
    fn from(message: &ChatMessage) -> Self {
        let calls = message.tool_calls.iter();
        let calls = calls.map(|call| call.id.len() + call.name.len() + call.arguments.len());
        Self {
            text: message.content.len() + calls.sum::<usize>(),
            parts: 1,
        }
    }
}

impl From<&ToolDefinition> for Weight {
    fn from(tool: &ToolDefinition) -> Self {
        Self {
            text: tool.name.len() + tool.description.len() + tool.parameters.len(),
            parts: 1,
        }
    }
}

impl Add for Weight {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            text: self.text + other.text,
            parts: self.parts + other.parts,
        }
    }
}

impl<T: Into<Weight>> Sum<T> for Weight {
    fn sum<I: Iterator<Item = T>>(parts: I) -> Self {
        parts.fold(Self::default(), |sum, part| sum + part.into())
    }
}
