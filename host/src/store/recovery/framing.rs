//! RocksDB's framing of a log file, which the write-ahead log and the MANIFEST share: blocks of 32 KiB
//! hold fragments, and a record is one fragment or several. See `db/log_format.h` of RocksDB.
//!
//! ```text
//! fragment   crc (u32 LE, masked CRC-32C of all that follows)  length (u16 LE)  kind (u8)
//!            [number (u32 LE): the low bits of the file's number, if the file may be a reused one]
//!            length bytes
//! kind       1 whole  2 first  3 middle  4 last; 5 to 8 the same with the number
//! ```
//!
//! A block never ends within a header: what is too short for one is zeros. A reused file holds, behind
//! its own fragments, those of its former life, which have another number.

use std::ops::Range;

use memchr::memmem;

pub(super) const BLOCK: usize = 32 << 10;
/// The length of a header without the number of the file.
const SHORT_HEADER: usize = 7;
/// The length of a header with it.
const LONG_HEADER: usize = 11;
/// Kinds from here on may be skipped by readers that do not know them.
const SKIPPABLE: u8 = 0x80;

/// A record of a log file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FramedRecord {
    pub(super) bytes: Vec<u8>,
    /// Where its fragments are in the file.
    pub(super) place: Range<usize>,
}

/// What follows in a log file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framed {
    Record(FramedRecord),
    /// The file ends here, between two records.
    End,
    /// From the offset `from` on there is no complete record, since there is no fragment of it at
    /// `at`: the end of what was written, or damage.
    Stop {
        from: usize,
        at: usize,
    },
}

/// Reads the records of a log file in order.
pub(super) struct LogRecords<'a> {
    bytes: &'a [u8],
    /// The low bits of the file's number; fragments with another number are not its own.
    number: u32,
    at: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    First,
    Middle,
    Last,
    Skipped,
}

struct LogFragment {
    part: Part,
    data: Range<usize>,
}

impl<'a> LogRecords<'a> {
    pub(super) fn new(bytes: &'a [u8], number: u64) -> Self {
        Self {
            bytes,
            number: number as u32,
            at: 0,
        }
    }

    /// Returns the next record. After a [`Framed::Stop`] it returns the same again.
    pub(super) fn next(&mut self) -> Framed {
        let start = self.skip_padding(self.at);
        let mut at = start;
        let mut record: Option<Vec<u8>> = None;
        loop {
            at = self.skip_padding(at);
            if at >= self.bytes.len() {
                return match record {
                    None => Framed::End,
                    Some(_) => Framed::Stop { from: start, at },
                };
            }
            let Some(fragment) = self.fragment(at) else {
                return Framed::Stop { from: start, at };
            };
            let before = std::mem::replace(&mut at, fragment.data.end);
            let data = &self.bytes[fragment.data];
            match (fragment.part, &mut record) {
                (Part::Skipped, _) => {}
                (Part::Whole, None) => return self.found(data.to_vec(), start..at),
                (Part::First, None) => record = Some(data.to_vec()),
                (Part::Middle, Some(bytes)) => bytes.extend(data),
                (Part::Last, Some(bytes)) => {
                    bytes.extend(data);
                    let bytes = std::mem::take(bytes);
                    return self.found(bytes, start..at);
                }
                (Part::Whole | Part::First, Some(_)) | (Part::Middle | Part::Last, None) => {
                    return Framed::Stop {
                        from: start,
                        at: before,
                    };
                }
            }
        }
    }

    fn found(&mut self, bytes: Vec<u8>, place: Range<usize>) -> Framed {
        self.at = place.end;
        Framed::Record(FramedRecord { bytes, place })
    }

    /// Goes on behind the damage at which [`Self::next`] has stopped: to the next fragment that is
    /// this file's own and begins a record. Returns its offset; none if there is no more. Only
    /// fragments with the number of the file are found.
    pub(super) fn skip_damage(&mut self) -> Option<usize> {
        let number = self.number.to_le_bytes();
        // From the first byte that can be the number of a fragment behind the damaged header.
        let mut from = self.skip_padding(self.at) + 1 + SHORT_HEADER;
        while let Some(found) = self
            .bytes
            .get(from..)
            .and_then(|rest| memmem::find(rest, &number))
        {
            let at = from + found - SHORT_HEADER;
            match self.fragment(at) {
                Some(LogFragment {
                    part: Part::Whole | Part::First,
                    ..
                }) => {
                    self.at = at;
                    return Some(at);
                }
                Some(fragment) => from = fragment.data.end.max(from + found + 1),
                None => from += found + 1,
            }
        }
        None
    }

    /// Returns the offset of the next header: `at`, or the next block if the rest of this one is too
    /// short.
    fn skip_padding(&self, at: usize) -> usize {
        let left = BLOCK - at % BLOCK;
        let is_padding = || {
            let rest = &self.bytes[at.min(self.bytes.len())..(at + left).min(self.bytes.len())];
            rest.iter().all(|byte| *byte == 0)
        };
        match left < SHORT_HEADER || (left < LONG_HEADER && is_padding()) {
            true => at + left,
            false => at,
        }
    }

    /// Returns the fragment whose header is at `at`, if it is whole and this file's own.
    fn fragment(&self, at: usize) -> Option<LogFragment> {
        let header = self.bytes.get(at..)?;
        let (crc, rest) = header.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (&kind, rest) = rest.split_first()?;
        let (part, header) = match kind {
            1..=4 => (kind, SHORT_HEADER),
            5..=8 => (kind - 4, LONG_HEADER),
            _ if kind & SKIPPABLE != 0 => (0, SHORT_HEADER),
            _ => return None,
        };
        if header == LONG_HEADER && *rest.first_chunk()? != self.number.to_le_bytes() {
            return None;
        }
        let start = at + header;
        let data = start..start + usize::from(u16::from_le_bytes(*length));
        if at % BLOCK + header + data.len() > BLOCK {
            return None;
        }
        let summed = self.bytes.get(at + SHORT_HEADER - 1..data.end)?;
        let part = match part {
            0 => Part::Skipped,
            1 => Part::Whole,
            2 => Part::First,
            3 => Part::Middle,
            _ => Part::Last,
        };
        (masked(crc32c::crc32c(summed)) == u32::from_le_bytes(*crc))
            .then_some(LogFragment { part, data })
    }
}

/// Appends a record, in fragments without a number, to the bytes of a file that ends between two records.
pub(super) fn append(bytes: &mut Vec<u8>, record: &[u8]) {
    let mut rest = record;
    let mut is_first = true;
    loop {
        let left = BLOCK - bytes.len() % BLOCK;
        if left < SHORT_HEADER {
            bytes.resize(bytes.len() + left, 0);
            continue;
        }
        let (data, later) = rest.split_at(rest.len().min(left - SHORT_HEADER));
        let kind = match (is_first, later.is_empty()) {
            (true, true) => 1,
            (true, false) => 2,
            (false, false) => 3,
            (false, true) => 4,
        };
        let crc = masked(crc32c::crc32c_append(crc32c::crc32c(&[kind]), data));
        bytes.extend(crc.to_le_bytes());
        bytes.extend((data.len() as u16).to_le_bytes());
        bytes.push(kind);
        bytes.extend(data);
        if later.is_empty() {
            return;
        }
        (rest, is_first) = (later, false);
    }
}

/// Masks a checksum as RocksDB stores it, so that checksums of checksums are not weak.
pub(super) fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(kind: u8, number: u32, data: &[u8]) -> Vec<u8> {
        let mut summed = vec![kind];
        if kind > 4 {
            summed.extend(number.to_le_bytes());
        }
        summed.extend(data);
        let mut bytes = masked(crc32c::crc32c(&summed)).to_le_bytes().to_vec();
        bytes.extend((data.len() as u16).to_le_bytes());
        bytes.extend(summed);
        bytes
    }

    fn all(bytes: &[u8]) -> (Vec<Vec<u8>>, Framed) {
        let mut frames = LogRecords::new(bytes, 7);
        let mut records = Vec::new();
        loop {
            match frames.next() {
                Framed::Record(record) => records.push(record.bytes),
                end => return (records, end),
            }
        }
    }

    #[test]
    fn a_record_is_one_fragment_or_several() {
        let mut bytes = fragment(5, 7, b"one");
        bytes.extend(fragment(6, 7, b"t"));
        bytes.extend(fragment(7, 7, b"w"));
        bytes.extend(fragment(8, 7, b"o"));
        bytes.extend(fragment(1, 0, b"three"));
        let (records, end) = all(&bytes);
        assert_eq!(records, [&b"one"[..], b"two", b"three"]);
        assert_eq!(end, Framed::End);
    }

    #[test]
    fn what_is_appended_is_read() {
        let mut bytes = Vec::new();
        let lengths = [0, 1, BLOCK - 30, 8, 100_000, 5, BLOCK - 7, 3];
        for (fill, length) in (0_u8..).zip(lengths) {
            append(&mut bytes, &vec![fill; length]);
        }
        let (records, end) = all(&bytes);
        assert_eq!(end, Framed::End);
        let found: Vec<usize> = records.iter().map(Vec::len).collect();
        assert_eq!(found, lengths);
        assert!(records[4].iter().all(|byte| *byte == 4));
    }

    #[test]
    fn the_end_of_a_block_is_padding() {
        // 9 bytes remain in the first block: too short for a header with a number.
        let mut bytes = fragment(5, 7, &vec![1; BLOCK - LONG_HEADER - 9]);
        bytes.extend([0; 9]);
        bytes.extend(fragment(5, 7, b"next"));
        let (records, end) = all(&bytes);
        assert_eq!(records[1], b"next");
        assert_eq!(end, Framed::End);
    }

    #[test]
    fn what_a_reused_file_held_before_is_not_read() {
        let mut bytes = fragment(5, 7, b"mine");
        let end = bytes.len();
        bytes.extend(fragment(5, 6, b"of before"));
        assert_eq!(
            all(&bytes),
            (vec![b"mine".to_vec()], Framed::Stop { from: end, at: end })
        );
        let mut frames = LogRecords::new(&bytes, 7);
        frames.next();
        assert_eq!(frames.skip_damage(), None);
    }

    #[test]
    fn what_is_behind_damage_is_found() {
        let mut bytes = fragment(5, 7, b"one");
        let damaged = bytes.len();
        bytes.extend(fragment(6, 7, b"tw"));
        bytes.extend(fragment(8, 7, b"o"));
        let behind = bytes.len();
        bytes.extend(fragment(5, 7, b"three"));
        for bit in 0..8 * (behind - damaged) {
            let mut bytes = bytes.clone();
            bytes[damaged + bit / 8] ^= 1 << (bit % 8);
            let mut frames = LogRecords::new(&bytes, 7);
            assert!(matches!(frames.next(), Framed::Record(one) if one.bytes == b"one"));
            for _ in 0..2 {
                let Framed::Stop { from, at } = frames.next() else {
                    panic!("bit {bit} was not noticed");
                };
                assert_eq!(from, damaged, "bit {bit}");
                assert!(at >= damaged && at < behind, "bit {bit}");
            }
            assert_eq!(frames.skip_damage(), Some(behind), "bit {bit}");
            assert!(matches!(frames.next(), Framed::Record(three) if three.bytes == b"three"));
            assert_eq!(frames.next(), Framed::End);
        }
    }
}
