//! The model's context window: whether a request fits is asked before it is sent. Some providers
//! refuse one that does not; others forget its beginning without a word.

use std::sync::atomic::{AtomicU64, Ordering};

use super::render;
use crate::domain::ChatRequest;

/// A token in thousandths of bytes, before the provider has counted any: OpenAI's rule of thumb for
/// English, four characters.
const TOKEN_MILLIBYTES: u64 = 4_000;
/// What a provider's count may make of it.
const TOKEN_MILLIBYTES_RANGE: std::ops::RangeInclusive<u64> = 1_000..=8_000;
/// A request of fewer tokens says more of the provider's template than of the text.
const COUNTED_MIN_TOKENS: u64 = 64;
/// What a message costs beside its texts, in bytes: a role and marks, about four tokens.
const MESSAGE_BYTES: u64 = 16;
/// What is kept free for an answer whose length the guest does not limit, as a part of the window.
const ANSWER_PART: u64 = 8;

/// How many bytes a provider's model makes a token of, as far as is known.
pub(super) struct Tokens(AtomicU64);

/// A request that does not fit. All in tokens.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMuch {
    /// What it has, about.
    pub(super) has: u64,
    /// What is left beside the answer.
    pub(super) room: u64,
}

impl Tokens {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(TOKEN_MILLIBYTES))
    }

    /// The provider has counted so many tokens in that request.
    pub(super) fn counted(&self, request: &ChatRequest, tokens: u64) {
        if tokens < COUNTED_MIN_TOKENS {
            return;
        }
        let token = bytes(request).saturating_mul(1000) / tokens;
        let (least, most) = TOKEN_MILLIBYTES_RANGE.into_inner();
        // Whichever request counts last: they differ little.
        self.0.store(token.clamp(least, most), Ordering::Relaxed);
    }

    /// Whether the request fits into a window beside its answer.
    pub(super) fn fits(&self, request: &ChatRequest, window: u64) -> Result<(), TooMuch> {
        let token = self.0.load(Ordering::Relaxed);
        let has = bytes(request).saturating_mul(1000).div_ceil(token);
        let answer = request.max_tokens.map_or(window / ANSWER_PART, u64::from);
        // A wish for a longer answer than that is not the conversation's fault.
        let room = window - answer.min(window / 2);
        match has <= room {
            true => Ok(()),
            false => Err(TooMuch { has, room }),
        }
    }
}

/// What the model reads, in bytes.
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
        // Beyond reason: a server that counts something else.
        tokens.counted(&long, 1_000_000);
        assert_eq!(has(&tokens), Err(3000));
    }
}
