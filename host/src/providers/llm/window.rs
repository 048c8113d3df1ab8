//! The model's context window. Whether a request fits is checked before it is sent: some providers
//! refuse one that does not, others silently drop its beginning.

use std::sync::atomic::{AtomicU64, Ordering};

use super::render;
use crate::domain::ChatRequest;

/// The size of a token in thousandths of a byte, until the provider has counted any: OpenAI's rule
/// of thumb for English, four characters.
const TOKEN_MILLIBYTES: u64 = 4_000;
/// The range to which a provider's counts may change it.
const TOKEN_MILLIBYTES_RANGE: std::ops::RangeInclusive<u64> = 1_000..=8_000;
/// Counts of requests with fewer tokens are ignored: they depend more on the provider's template
/// than on the text.
const COUNTED_MIN_TOKENS: u64 = 64;
/// What a message costs besides its texts, in bytes: a role and separators, about four tokens.
const MESSAGE_BYTES: u64 = 16;
/// The divisor for the part of the window that is reserved for an answer whose length the guest
/// does not limit.
const ANSWER_PART: u64 = 8;

/// The average size of a token of a provider's model, in thousandths of a byte.
pub(super) struct Tokens(AtomicU64);

/// The sizes of a request that does not fit, in tokens.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMuch {
    /// The estimated size of the request.
    pub(super) has: u64,
    /// The part of the window that the answer leaves.
    pub(super) room: u64,
}

impl Tokens {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(TOKEN_MILLIBYTES))
    }

    /// Learns the token size from the provider's count for a request.
    pub(super) fn counted(&self, request: &ChatRequest, tokens: u64) {
        if tokens < COUNTED_MIN_TOKENS {
            return;
        }
        let token = bytes(request).saturating_mul(1000) / tokens;
        let (least, most) = TOKEN_MILLIBYTES_RANGE.into_inner();
        // Of concurrent requests the last one wins, and no ordering is needed: the estimates differ
        // little.
        self.0.store(token.clamp(least, most), Ordering::Relaxed);
    }

    /// Checks that the request and its answer fit into the window together.
    pub(super) fn fits(&self, request: &ChatRequest, window: u64) -> Result<(), TooMuch> {
        let token = self.0.load(Ordering::Relaxed);
        let has = bytes(request).saturating_mul(1000).div_ceil(token);
        let answer = request.max_tokens.map_or(window / ANSWER_PART, u64::from);
        // If the guest wants an answer of more than half the window, a shorter conversation does
        // not help: count only half.
        let room = window - answer.min(window / 2);
        match has <= room {
            true => Ok(()),
            false => Err(TooMuch { has, room }),
        }
    }
}

/// Returns the size of what the model reads, in bytes.
fn bytes(request: &ChatRequest) -> u64 {
    let messages = request.messages.iter().map(|message| {
        let calls = message.tool_calls.iter();
        let calls: usize = calls
            .map(|call| call.name.len() + call.arguments.len())
            .sum();
        render::weight(&message.content) as u64 + calls as u64 + MESSAGE_BYTES
    });
    let tools = request.tools.iter().map(|tool| {
        (tool.name.len() + tool.description.len() + tool.parameters.len()) as u64 + MESSAGE_BYTES
    });
    messages.chain(tools).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ChatMessage, ChatRole};

    fn request(content: usize, max_tokens: Option<u32>) -> ChatRequest {
        ChatRequest {
            provider: None,
            model: None,
            messages: vec![ChatMessage {
                role: ChatRole::User,
                content: "x".repeat(content - MESSAGE_BYTES as usize),
                tool_calls: Vec::new(),
                tool_call_id: None,
            }],
            tools: Vec::new(),
            max_tokens,
            temperature: None,
        }
    }

    #[test]
    fn a_request_and_its_answer_share_the_window() {
        let tokens = Tokens::new();
        let fits = |bytes, max| tokens.fits(&request(bytes, max), 1000);
        assert_eq!(fits(3500, None), Ok(()));
        let too_much = |has, room| Err(TooMuch { has, room });
        assert_eq!(fits(3501, None), too_much(876, 875));
        assert_eq!(fits(3500, Some(200)), too_much(875, 800));
        assert_eq!(fits(2000, Some(5000)), Ok(()));
        assert_eq!(fits(2001, Some(5000)), too_much(501, 500));
    }

    #[test]
    fn what_the_provider_counts_counts() {
        let tokens = Tokens::new();
        let long = request(3000, None);
        tokens.counted(&long, 63);
        assert_eq!(tokens.fits(&long, 1000), Ok(()));
        tokens.counted(&long, 1500);
        let has = |tokens: &Tokens| tokens.fits(&long, 1000).map_err(|much| much.has);
        assert_eq!(has(&tokens), Err(1500));
        // Implausible counts, of a server that counts something else.
        tokens.counted(&long, 1_000_000);
        assert_eq!(has(&tokens), Err(3000));
    }
}
