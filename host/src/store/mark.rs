//! The number of the last write that was acknowledged, as the file `SYNCED` and the daemon's memory have it.
//!
//! ```text
//! "ABIDESY1"  sequence (u64 LE)  closed (u8)  anew (u8)  zeros (2)  CRC-32C of all before (u32 LE)
//! anew: 1 mended by a start, 2 put there by an operator
//! ```

const MAGIC: &[u8; 8] = b"ABIDESY1";
pub(super) const LENGTH: usize = 24;

/// The last acknowledged write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SyncedMark {
    /// RocksDB's number of the last acknowledged operation.
    pub(super) sequence: u64,
    /// Whether the store was closed after it.
    pub(super) closed: bool,
    /// Where the store comes from, if no worker has opened it since. Its numbers are not those of the
    /// database before it, and sessions that lack something are told of that.
    pub(super) anew: Option<Anew>,
}

/// How a store was written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anew {
    /// A start has mended it.
    Mended = 1,
    /// An operator has restored or salvaged it.
    PutThere = 2,
}

impl SyncedMark {
    pub(super) fn at(sequence: u64) -> Self {
        Self {
            sequence,
            closed: false,
            anew: None,
        }
    }

    pub(super) fn closed_at(sequence: u64) -> Self {
        Self {
            closed: true,
            ..Self::at(sequence)
        }
    }

    /// Returns the one that knows more; the first, if they know the same.
    pub(super) fn later(first: Option<Self>, second: Option<Self>) -> Option<Self> {
        match (first, second) {
            (Some(first), Some(second)) if first.sequence < second.sequence => Some(second),
            (first, second) => first.or(second),
        }
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LENGTH] = bytes.first_chunk()?;
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        let (magic, rest) = body.split_first_chunk::<8>()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let is_whole = magic == MAGIC && crc32c::crc32c(body) == u32::from_le_bytes(*crc);
        is_whole.then_some(Self {
            sequence: u64::from_le_bytes(*sequence),
            closed: *rest.first()? != 0,
            anew: match *rest.get(1)? {
                0 => None,
                1 => Some(Anew::Mended),
                _ => Some(Anew::PutThere),
            },
        })
    }

    pub(super) fn bytes(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16] = self.closed.into();
        bytes[17] = self.anew.map_or(0, |anew| anew as u8);
        let crc = crc32c::crc32c(&bytes[..20]);
        bytes[20..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }
}
