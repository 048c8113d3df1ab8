//! How long an answer may be on the wire.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The longest message that is read of any server, in bytes.
const LONGEST_BYTES: usize = 64 << 20;
/// The longest where no call takes a longer answer: lists of tools have no other limit, and images
/// that are too large for an answer are dropped alone, which they can be only once they are read.
const LONG_BYTES: usize = 8 << 20;
/// How much longer than its content an answer is on the wire, at most: escapes and base64.
const WIRE_FACTOR: u64 = 4;

/// How long an answer may be on the wire, in bytes, at this moment: as long as some call takes.
#[derive(Clone)]
pub(super) struct AnswerBound(Arc<AtomicUsize>);

impl AnswerBound {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicUsize::new(LONG_BYTES)))
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn make_room_for(&self, limit_bytes: u64) {
        let bound = limit_bytes.saturating_mul(WIRE_FACTOR);
        let bound = usize::try_from(bound).unwrap_or(LONGEST_BYTES);
        self.0
            .fetch_max(bound.min(LONGEST_BYTES), Ordering::Relaxed);
    }
}
