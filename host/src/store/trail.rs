//! Each group of writes says in the log which sessions the groups before it were about. A group that is
//! lost to damage is thereby known by the one behind it: only its sessions are cut, and all others go on.
//!
//! ```text
//!   log    | a, b |  c  | a, d |##### lost ####|  b   |
//!                                                 '--- trail: number 31: a, d; number 38: c, e; ...
//! ```
//!
//! It is RocksDB's log data, which is in the log only: never in a table, and without a number of its
//! own. A session is known by a checksum of its id, so that one that is cut without a need is unlikely
//! (1 in 4,000 with a million sessions) and harmless.

use std::collections::{BTreeSet, VecDeque};
use std::mem::size_of;

use crate::domain::SessionId;

/// How much of the log is covered before the last group, at least: a block of RocksDB's log and of most
/// disks, which may be lost as a whole.
const COVERED_BYTES: usize = 32 << 10;
/// The beginning of a trail, of which there may be other versions.
const MAGIC: &[u8; 4] = b"ABT1";

/// The last groups of this writer.
#[derive(Debug, Default)]
pub(super) struct Trail {
    groups: VecDeque<TrailedGroup>,
}

#[derive(Debug)]
struct TrailedGroup {
    traced: TracedGroup,
    bytes: usize,
}

/// What a trail says of one group. It ends where the next one begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TracedGroup {
    /// The number of its first operation.
    pub(super) first: u64,
    pub(super) sessions: BTreeSet<SessionChecksum>,
}

/// The CRC-32C of a session's id.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct SessionChecksum(u32);

impl SessionChecksum {
    pub(super) fn of(id: &SessionId) -> Self {
        Self(crc32c::crc32c(id.as_str().as_bytes()))
    }

    pub(super) fn to_le_bytes(self) -> [u8; size_of::<u32>()] {
        self.0.to_le_bytes()
    }

    pub(super) fn from_le_bytes(bytes: [u8; size_of::<u32>()]) -> Self {
        Self(u32::from_le_bytes(bytes))
    }
}

impl Trail {
    /// Adds a group that is in the log now, with that many bytes.
    pub(super) fn add(&mut self, traced: TracedGroup, bytes: usize) {
        self.groups.push_back(TrailedGroup { traced, bytes });
        let mut before: usize = self.groups.iter().rev().skip(1).map(|g| g.bytes).sum();
        while let Some(oldest) = self.groups.front()
            && self.groups.len() > 1
            && before.saturating_sub(oldest.bytes) >= COVERED_BYTES
        {
            before -= oldest.bytes;
            self.groups.pop_front();
        }
    }

    /// Forgets the groups: what follows may not be behind them in one log.
    pub(super) fn clear(&mut self) {
        self.groups.clear();
    }

    /// Returns the bytes that the next group begins with.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for TrailedGroup { traced, .. } in &self.groups {
            bytes.extend(traced.first.to_le_bytes());
            bytes.extend((traced.sessions.len() as u32).to_le_bytes());
            for sum in &traced.sessions {
                bytes.extend(sum.to_le_bytes());
            }
        }
        bytes
    }
}

/// Reads a trail: none if the bytes are of another kind.
pub(super) fn parse(bytes: &[u8]) -> Option<Vec<TracedGroup>> {
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let mut groups = Vec::new();
    while !rest.is_empty() {
        let (first, after) = rest.split_first_chunk()?;
        let (count, after) = after.split_first_chunk()?;
        let count = u32::from_le_bytes(*count) as usize;
        let (sums, after) = after.split_at_checked(count.checked_mul(size_of::<u32>())?)?;
        let (sums, _) = sums.as_chunks();
        groups.push(TracedGroup {
            first: u64::from_le_bytes(*first),
            sessions: sums
                .iter()
                .map(|sum| SessionChecksum::from_le_bytes(*sum))
                .collect(),
        });
        rest = after;
    }
    Some(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(of: &[u32]) -> BTreeSet<SessionChecksum> {
        of.iter().map(|sum| SessionChecksum(*sum)).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let mut trail = Trail::default();
        assert_eq!(parse(&trail.encode()), Some(Vec::new()));
        let mut add = |first, sessions| trail.add(TracedGroup { first, sessions }, 100);
        add(7, sums(&[1, u32::MAX]));
        add(9, sums(&[]));
        let groups = parse(&trail.encode()).unwrap();
        assert_eq!(groups.len(), 2);
        assert_eq!(groups[0].first, 7);
        assert_eq!(groups[0].sessions, sums(&[u32::MAX, 1]));
        assert_eq!(groups[1].sessions, sums(&[]));
        for end in 1..trail.encode().len() {
            let cut = parse(&trail.encode()[..end]);
            assert!(cut.is_none_or(|cut| cut.len() < 2), "{end} bytes");
        }
        assert_eq!(parse(b"else"), None);
        trail.clear();
        assert_eq!(parse(&trail.encode()), Some(Vec::new()));
    }

    #[test]
    fn it_covers_a_block_before_the_last_group() {
        let mut trail = Trail::default();
        for n in 0..1_000 {
            let sessions = sums(&[n as u32]);
            trail.add(TracedGroup { first: n, sessions }, 1_000);
        }
        let groups = parse(&trail.encode()).unwrap();
        let wanted = 1 + COVERED_BYTES.div_ceil(1_000);
        assert_eq!(groups.len(), wanted);
        assert_eq!(groups[0].first, 1_000 - wanted as u64);
        // Of large groups, two: a block may be where one ends and the other begins.
        for n in 1_000..1_010 {
            let sessions = sums(&[1]);
            trail.add(TracedGroup { first: n, sessions }, 1 << 20);
        }
        let groups = parse(&trail.encode()).unwrap();
        let firsts: Vec<u64> = groups.iter().map(|group| group.first).collect();
        assert_eq!(firsts, [1_008, 1_009]);
    }
}
