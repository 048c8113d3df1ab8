//! The limit on the size of an answer on the wire.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The absolute maximum of a message, in bytes, for every server.
const LONGEST_BYTES: usize = 64 << 20;
/// The bound unless a call allows a longer answer: lists of tools have no other limit, and an image
/// that is too large for an answer can be dropped alone only once it has been read.
const LONG_BYTES: usize = 8 << 20;
/// The maximum ratio of an answer's size on the wire to that of its content: escapes and base64.
const WIRE_FACTOR: u64 = 4;

/// The current limit on the size of an answer on the wire, in bytes: the largest that any call so
/// far allows. Relaxed ordering suffices, since the value only grows and guards no other data.
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
