//! One question to one provider. What the provider refuses is removed, and the question is repeated
//! at once.

use super::attempt::attempt;
use super::classify::AttemptFailure;
use super::dialect::{Dialect, Mend};
use super::mend;
use super::ready::Ready;
use super::render::{self, Sent};
use super::think::ThinkOutcome;
use crate::domain::{ChatRequest, Completion, StepError};

/// Counters over all requests of one question.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// The number of requests sent.
    pub(super) asked: u32,
    /// Grows whenever all text shown before becomes void.
    voice: u32,
}

/// How many mends one question may need. Only a server that refuses tools one by one needs more
/// than a few.
const MENDS_MAX: usize = 32;
/// Asks `model`, repeating the request without whatever the server refuses. Calls `on_delta` with
/// each piece of text as it arrives, and with a number that grows whenever all earlier pieces
/// become void.
pub(super) async fn ask(
    name: &str,
    ready: &Ready,
    model: &str,
    request: &ChatRequest,
    limit_bytes: u64,
    numbers: &mut Numbers,
    on_delta: &mut impl FnMut(u32, &str),
) -> Result<Completion, AttemptFailure> {
    let known = ready.dialects.of(model);
    let mut dialect = known.clone();
    let mut tried: Vec<Mend> = Vec::new();
    // The dialect before the last mend, and the gist of the refusal that prompted the mend.
    let mut before: Option<(Dialect, String)> = None;
    // The server refused one image, not images in general.
    let mut is_bad_image = false;
    let mut is_repeated = false;
    let mut are_combined = false;
    loop {
        numbers.asked += 1;
        numbers.voice += 1;
        let sent = render::body(request, model, &ready.provider, &dialect);
        let sent = sent.map_err(AttemptFailure::nothing)?;
        ready.left_out.log_once(name, &sent.left_out);
        let show = |shown: ThinkOutcome| {
            numbers.voice += u32::from(shown.is_void);
            if !shown.text.is_empty() {
                on_delta(numbers.voice, &shown.text);
            }
        };
        let answer = attempt(name, ready, model, request, &sent, limit_bytes, show).await;
        let fault = match answer {
            Ok(completion) => {
                if is_bad_image {
                    dialect.no_images = known.no_images;
                }
                if dialect != known && ready.dialects.learn(model, &dialect) {
                    tracing::warn!(
                        provider = name, model, asked = %dialect,
                        "a model's server does not take all that requests have; from now on it is \
                         asked so"
                    );
                }
                return Ok(with_own_names(completion, &sent));
            }
            Err(fault) => fault,
        };
        let Some(refusal) = &fault.refusal else {
            return Err(fault);
        };
        let (status, document) = (refusal.status, &refusal.document);
        let gist = gist(&refusal.words());
        if let Some((dialect_before, said_before)) = before.take()
            && said_before == gist
        {
            // The server refuses in the same words, so the last mend did not help: undo it.
            dialect = dialect_before;
        }
        let bound = mend::answer_bound(status, document, &sent);
        // A request that is too large is for the guest to shorten: it knows what it can do without.
        let others = match fault.error {
            StepError::TooLarge(_) => Vec::new(),
            _ => mend::mends(status, document, &sent, &dialect),
        };
        let mut mends = bound.into_iter().chain(others);
        let next = mends.find(|mend| !tried.contains(mend));
        let mended = next.and_then(|mend| Some((dialect.without(mend.clone())?, mend)));
        let Some((mended, next)) = mended else {
            // Each mend was tried alone, but a template may refuse several things in the same
            // words: try all mends together, once.
            let all = tried.iter().fold(dialect.clone(), |all, mend| {
                all.without(mend.clone()).unwrap_or(all)
            });
            if tried.len() < 2 || all == dialect || std::mem::replace(&mut are_combined, true) {
                return Err(fault);
            }
            dialect = all;
            continue;
        };
        if !mend::is_lasting(status, document) && !std::mem::replace(&mut is_repeated, true) {
            // The failure may be transient, and then says nothing about the request: repeat it
            // unchanged once.
            continue;
        }
        if tried.len() >= MENDS_MAX {
            // Keep what was learned, so that the next question continues from here.
            ready.dialects.learn(model, &dialect);
            return Err(fault);
        }
        tracing::info!(provider = name, model, error = %fault.error, mend = ?next, "a request is mended");
        // Not for tools: the next refused tool moves to the same place in the list, so equal words
        // do not mean that the mend failed.
        if !matches!(next, Mend::Tool(_)) {
            before = Some((dialect.clone(), gist));
        }
        is_bad_image |= next == Mend::Images && mend::is_about_one_image(document);
        tried.push(next);
        dialect = mended;
    }
}

/// Removes the words that differ in each refusal, like request ids and times: all that hold digits.
fn gist(words: &str) -> String {
    let words = words.split_whitespace();
    let words = words.filter(|word| !word.bytes().any(|byte| byte.is_ascii_digit()));
    words.collect::<Vec<_>>().join(" ")
}

/// Replaces the tool names in an answer by the guest's own.
fn with_own_names(mut completion: Completion, sent: &Sent) -> Completion {
    let own = sent.names.back();
    for call in &mut completion.tool_calls {
        if let Some(name) = own.get(call.name.as_str()) {
            call.name = (*name).to_owned();
        }
    }
    completion
}
