//! Decodes UTF-8 from chunks: invalid bytes become U+FFFD, and a character that is split across two
//! chunks stays whole.

use bytes::Bytes;

/// A UTF-8 decoder for a stream of bytes.
#[derive(Default)]
pub(super) struct Utf8 {
    /// The incomplete character at the end of the last chunk.
    rest: Vec<u8>,
}

impl Utf8 {
    /// Decodes a chunk, except an incomplete character at its end.
    pub(super) fn take(&mut self, chunk: Bytes) -> Bytes {
        if self.rest.is_empty() && std::str::from_utf8(&chunk).is_ok() {
            return chunk;
        }
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend_from_slice(&chunk);
        let unfinished = std::str::from_utf8(&bytes[last_start(&bytes)..]);
        if unfinished.is_err_and(|error| error.error_len().is_none()) {
            self.rest = bytes.split_off(last_start(&bytes));
        }
        String::from_utf8_lossy(&bytes).into_owned().into()
    }
}

/// Returns where the last character begins, if its first byte is among the last four.
fn last_start(bytes: &[u8]) -> usize {
    let least = bytes.len().saturating_sub(4);
    let is_start = |byte: &u8| *byte & 0xC0 != 0x80;
    let start = bytes[least..].iter().rposition(is_start);
    start.map_or(bytes.len(), |at| least + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_stay_whole_and_the_rest_is_replaced() {
        for text in [
            &b"plain"[..],
            "häß 😀 x".as_bytes(),
            b"caf\xE9 x",
            b"\xF0\x9F\x98 x",
            b"\xFF\xFE\x80\x80\x80\x80\x80x",
            b"\xE4\xB8\xE4\xB8\xAD",
        ] {
            let expected = String::from_utf8_lossy(text);
            for size in 1..text.len() {
                let mut utf8 = Utf8::default();
                let chunks = text.chunks(size).map(Bytes::copy_from_slice);
                let read: Vec<u8> = chunks.flat_map(|chunk| utf8.take(chunk)).collect();
                assert_eq!(String::from_utf8(read).as_deref(), Ok(&*expected), "{size}");
                assert!(utf8.rest.is_empty());
            }
        }
    }
}
