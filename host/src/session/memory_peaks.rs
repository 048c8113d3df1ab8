//! How much memory guests used when they last ran: what a turn reserves before it begins. An estimate
//! that is too low costs a growth, or a second run; one that is too high makes others wait.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::SessionId;
use crate::engine::UNKNOWN_PEAK_BYTES;

/// Of how many sessions the last peak is known. When there are more, all are forgotten: most of them
/// have not run for long, and their plugin's peak is an estimate, too.
const SESSIONS_MAX: usize = 16_384;
/// The weight of a turn's peak in its plugin's: one part of this many.
const WEIGHT_PART: u64 = 8;

/// The peaks of this worker's turns.
#[derive(Default)]
pub(super) struct MemoryPeaks(Mutex<KnownPeaks>);

#[derive(Default)]
struct KnownPeaks {
    /// The peak of each session's last turn, in bytes.
    sessions: HashMap<SessionId, u64>,
    /// The moving average of each plugin's peaks, in bytes.
    plugins: HashMap<String, u64>,
}

impl MemoryPeaks {
    /// Returns how much a turn should reserve: what the session's last turn used, or else what turns
    /// of its plugin use.
    pub(super) fn expected(&self, id: &SessionId, plugin: &str) -> u64 {
        let known = self.lock();
        let session = known.sessions.get(id);
        let peak = session.or_else(|| known.plugins.get(plugin));
        peak.copied().unwrap_or(UNKNOWN_PEAK_BYTES)
    }

    /// Records the peak of a turn that has ended.
    pub(super) fn record(&self, id: &SessionId, plugin: &str, peak_bytes: u64) {
        let known = &mut *self.lock();
        match known.sessions.get_mut(id) {
            Some(known) => *known = peak_bytes,
            None => {
                if known.sessions.len() >= SESSIONS_MAX {
                    known.sessions.clear();
                }
                known.sessions.insert(id.clone(), peak_bytes);
            }
        }
        match known.plugins.get_mut(plugin) {
            Some(average) => {
                *average = *average - *average / WEIGHT_PART + peak_bytes / WEIGHT_PART;
            }
            None => drop(known.plugins.insert(plugin.to_owned(), peak_bytes)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, KnownPeaks> {
        // Poisoning is harmless: each change leaves the tables whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn id(n: usize) -> SessionId {
        SessionId::new(n.to_string()).expect("it is a plain name")
    }

    #[test]
    fn a_session_is_expected_to_use_what_it_last_used_and_a_new_one_what_others_do() {
        let peaks = MemoryPeaks::default();
        assert_eq!(peaks.expected(&id(1), "p"), UNKNOWN_PEAK_BYTES);
        peaks.record(&id(1), "p", 8 * MIB);
        peaks.record(&id(2), "p", 16 * MIB);
        assert_eq!(peaks.expected(&id(1), "p"), 8 * MIB);
        assert_eq!(peaks.expected(&id(3), "p"), 9 * MIB);
        assert_eq!(peaks.expected(&id(3), "q"), UNKNOWN_PEAK_BYTES);
        peaks.record(&id(1), "p", MIB);
        assert_eq!(peaks.expected(&id(1), "p"), MIB);
    }

    #[test]
    fn what_is_known_is_bounded() {
        let peaks = MemoryPeaks::default();
        for n in 0..=SESSIONS_MAX {
            peaks.record(&id(n), "p", MIB);
        }
        assert_eq!(peaks.lock().sessions.len(), 1);
    }
}
