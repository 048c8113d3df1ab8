//! The snapshot format. Its header is checked before a guest is restored from the data.
//!
//! ```text
//! offset  size  field
//!      0     4  magic "ABSN"
//!      4     2  format, little-endian: 1
//!      6     2  length of the plugin's name, little-endian
//!      8     4  the guest's schema, little-endian
//!     12     4  CRC-32 (IEEE) of everything but this field
//!     16     8  length of the data, little-endian
//!     24    32  SHA-256 of the component that wrote it
//!     56     n  the plugin's name
//!   56+n     m  the data
//! ```

use super::Digest;

const MAGIC: [u8; 4] = *b"ABSN";
const FORMAT: u16 = 1;
const HEADER_BYTES: usize = 56;
const CRC_AT: std::ops::Range<usize> = 12..16;

/// A guest's state, and which plugin and component wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The plugin that it belongs to.
    pub plugin: String,
    /// The component that wrote it.
    pub component: Digest,
    /// The guest's own version of the data's encoding.
    pub schema: u32,
    /// The guest's data.
    pub data: Vec<u8>,
}

/// Why bytes are not a snapshot that may be restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSnapshot {
    /// It is not where it should be.
    #[error("its snapshot is missing from the store")]
    Missing,
    /// There are fewer bytes than the header requires.
    #[error("the snapshot is cut off: {have} bytes of {need}")]
    Truncated {
        /// The number of bytes.
        have: u64,
        /// The number of bytes that the header requires.
        need: u64,
    },
    /// The bytes do not begin with the magic.
    #[error("these bytes are not a snapshot of Abide's (they do not begin with `ABSN`)")]
    NotASnapshot,
    /// Written by a newer Abide.
    #[error("the snapshot has format {found}, this version of Abide reads up to {FORMAT}; upgrade")]
    NewerFormat { found: u16 },
    /// The checksum does not match.
    #[error("the snapshot is damaged: its checksum is {found:08x} and should be {expected:08x}")]
    Damaged {
        /// The checksum that was computed.
        found: u32,
        /// The checksum in the header.
        expected: u32,
    },
    /// The data is over the limit.
    #[error("the snapshot holds {bytes} bytes, `limits.snapshot` allows {limit}")]
    TooLarge {
        /// The size of its data.
        bytes: u64,
        limit: u64,
    },
    /// It belongs to another plugin.
    #[error("the snapshot belongs to plugin `{found}`, not to `{expected}`")]
    OtherPlugin {
        /// The plugin that the header names.
        found: String,
        /// The session's plugin.
        expected: String,
    },
}

impl Snapshot {
    /// Encodes the snapshot for the store. The caller has checked the data against the limit.
    pub fn encode(&self) -> Vec<u8> {
        let name = &self.plugin.as_bytes()[..self.plugin.len().min(usize::from(u16::MAX))];
        let mut bytes = Vec::with_capacity(HEADER_BYTES + name.len() + self.data.len());
        bytes.extend(MAGIC);
        bytes.extend(FORMAT.to_le_bytes());
        bytes.extend((name.len() as u16).to_le_bytes());
        bytes.extend(self.schema.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend((self.data.len() as u64).to_le_bytes());
        bytes.extend(self.component.as_bytes());
        bytes.extend(name);
        bytes.extend(&self.data);
        let crc = checksum(&bytes);
        bytes[CRC_AT].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Decodes what [`Snapshot::encode`] wrote, for a session of `plugin` that may have
    /// `limit_bytes` of data.
    pub fn decode(bytes: &[u8], plugin: &str, limit_bytes: u64) -> Result<Self, BadSnapshot> {
        let snapshot = Self::decode_any(bytes)?;
        let bytes = snapshot.data.len() as u64;
        if bytes > limit_bytes {
            return Err(BadSnapshot::TooLarge {
                bytes,
                limit: limit_bytes,
            });
        }
        if snapshot.plugin != plugin {
            return Err(BadSnapshot::OtherPlugin {
                found: snapshot.plugin,
                expected: plugin.to_owned(),
            });
        }
        Ok(snapshot)
    }

    /// Decodes what [`Snapshot::encode`] wrote, for whichever plugin, of any size.
    pub fn decode_any(bytes: &[u8]) -> Result<Self, BadSnapshot> {
        let truncated = |need: u64| BadSnapshot::Truncated {
            have: bytes.len() as u64,
            need,
        };
        if bytes.len() >= MAGIC.len() && bytes[..MAGIC.len()] != MAGIC {
            return Err(BadSnapshot::NotASnapshot);
        }
        let header: &[u8; HEADER_BYTES] = bytes
            .first_chunk()
            .ok_or_else(|| truncated(HEADER_BYTES as u64))?;
        let format = u16::from_le_bytes([header[4], header[5]]);
        match format {
            0 => return Err(BadSnapshot::NotASnapshot),
            1..=FORMAT => {}
            found => return Err(BadSnapshot::NewerFormat { found }),
        }
        let name_len = usize::from(u16::from_le_bytes([header[6], header[7]]));
        let schema = le_u32(header, 8);
        let expected = le_u32(header, CRC_AT.start);
        let data_len = u64::from(le_u32(header, 16)) | u64::from(le_u32(header, 20)) << 32;
        let need = (HEADER_BYTES as u64 + name_len as u64).saturating_add(data_len);
        if (bytes.len() as u64) < need {
            return Err(truncated(need));
        }
        let found = checksum(bytes);
        if found != expected || bytes.len() as u64 != need {
            return Err(BadSnapshot::Damaged { found, expected });
        }
        let (name, data) = bytes[HEADER_BYTES..].split_at(name_len);
        let mut component = [0; 32];
        component.copy_from_slice(&header[24..56]);
        Ok(Self {
            plugin: String::from_utf8_lossy(name).into_owned(),
            component: Digest::from_bytes(component),
            schema,
            data: data.to_vec(),
        })
    }
}

fn le_u32(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

/// Returns the CRC-32 of all bytes except the checksum's own field.
fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..CRC_AT.start]);
    hasher.update(&bytes[CRC_AT.end..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn snapshot(data: Vec<u8>, schema: u32) -> Snapshot {
        Snapshot {
            plugin: "echo".into(),
            component: Digest::of(b"c"),
            schema,
            data,
        }
    }

    proptest! {
        #[test]
        fn round_trips(data: Vec<u8>, schema: u32) {
            let snapshot = snapshot(data, schema);
            prop_assert_eq!(Snapshot::decode(&snapshot.encode(), "echo", u64::MAX), Ok(snapshot));
        }

        #[test]
        fn any_cut_is_noticed(data: Vec<u8>, cut: prop::sample::Index) {
            let bytes = snapshot(data, 1).encode();
            let cut = cut.index(bytes.len());
            let refusal = Snapshot::decode(&bytes[..cut], "echo", u64::MAX);
            prop_assert!(matches!(refusal, Err(BadSnapshot::Truncated { .. })), "{refusal:?}");
        }

        #[test]
        fn any_flipped_bit_is_noticed(data: Vec<u8>, at: prop::sample::Index, bit in 0..8u8) {
            let mut bytes = snapshot(data, 1).encode();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(Snapshot::decode(&bytes, "echo", u64::MAX).is_err());
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            prop_assert!(Snapshot::decode(&bytes, "echo", u64::MAX).is_err());
        }
    }

    #[test]
    fn each_refusal_has_its_own_error() {
        let good = snapshot(vec![1; 100], 3);
        let refusal = |bytes: &[u8], plugin, limit| Snapshot::decode(bytes, plugin, limit);
        assert_eq!(
            refusal(&good.encode(), "echo", 99),
            Err(BadSnapshot::TooLarge {
                bytes: 100,
                limit: 99
            })
        );
        assert_eq!(
            refusal(&good.encode(), "assistant", 100),
            Err(BadSnapshot::OtherPlugin {
                found: "echo".into(),
                expected: "assistant".into()
            })
        );
        assert_eq!(
            refusal(b"something else", "echo", 100),
            Err(BadSnapshot::NotASnapshot)
        );
        let mut newer = good.encode();
        newer[4] = 9;
        assert_eq!(
            refusal(&newer, "echo", 100),
            Err(BadSnapshot::NewerFormat { found: 9 })
        );
    }
}
