//! The subset of HTTP/1.1 that a client needs which sends one kind of request: writes the bytes of
//! a request, and locates an answer in a buffer.

use std::fmt;
use std::io::Write as _;
use std::time::Duration;

use httparse::{EMPTY_HEADER, Response, Status, parse_chunk_size};

/// The maximum number of headers of an answer.
const HEADERS_MAX: usize = 64;

/// Appends a POST of JSON to `to`. `headers` are additional ones, each terminated by `\r\n`; `body`
/// is given in pieces.
pub fn write_post(
    to: &mut Vec<u8>,
    host: &str,
    path: fmt::Arguments<'_>,
    headers: fmt::Arguments<'_>,
    body: &[&str],
) {
    let length: usize = body.iter().map(|piece| piece.len()).sum();
    // Writing to a vector cannot fail.
    let _ = write!(
        to,
        "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n{headers}\r\n"
    );
    for piece in body {
        to.extend_from_slice(piece.as_bytes());
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    /// When to retry, if the server specifies it.
    pub(super) retry_after: Option<Duration>,
    /// Whether the connection ends after this answer.
    pub(super) closes: bool,
    /// The length of the head, in bytes.
    pub(super) len: usize,
    pub(super) body: BodyKind,
}

/// How the end of a body is determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyKind {
    Length(usize),
    Chunked,
    UntilClose,
}

/// Why bytes are not a valid answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Garbled(pub(super) String);

/// Parses a head at the beginning of `bytes`; returns `None` while it is incomplete.
pub(super) fn read_head(bytes: &[u8]) -> Result<Option<Head>, Garbled> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut response = Response::new(&mut headers);
    let len = match response.parse(bytes) {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) => return Ok(None),
        Err(error) => return Err(Garbled(format!("an answer that is no HTTP: {error}"))),
    };
    let status = response.code.unwrap_or_default();
    let mut head = Head {
        status,
        retry_after: None,
        // HTTP/1.0 closes the connection unless a header says otherwise.
        closes: response.version == Some(0),
        len,
        body: BodyKind::UntilClose,
    };
    let mut chunked = false;
    for header in response.headers.iter() {
        let name = header.name;
        let value = header.value.trim_ascii();
        if name.eq_ignore_ascii_case("content-length") {
            let length = str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse().ok());
            let length = length.ok_or_else(|| Garbled("a content-length without sense".into()))?;
            head.body = BodyKind::Length(length);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = value.to_ascii_lowercase().ends_with(b"chunked");
        } else if name.eq_ignore_ascii_case("connection") {
            head.closes = value.eq_ignore_ascii_case(b"close")
                || (head.closes && !value.eq_ignore_ascii_case(b"keep-alive"));
        } else if name.eq_ignore_ascii_case("retry-after") {
            // A date in place of seconds is ignored.
            let seconds = str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse().ok());
            head.retry_after = seconds.map(Duration::from_secs);
        }
    }
    if chunked {
        head.body = BodyKind::Chunked;
    } else if matches!(status, 100..200 | 204 | 304) {
        head.body = BodyKind::Length(0);
    }
    Ok(Some(head))
}

/// An incremental decoder of a chunked body.
#[derive(Debug, Default)]
pub(super) struct ChunkedReader {
    /// The number of bytes decoded, from the beginning of the body.
    at: usize,
    /// The concatenated complete chunks.
    pub(super) body: Vec<u8>,
}

impl ChunkedReader {
    /// Resets the decoder for another body.
    pub(super) fn begin(&mut self) {
        self.at = 0;
        self.body.clear();
    }

    /// Continues decoding with all bytes of the body received so far. Returns the encoded length
    /// once the body is complete.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<Option<usize>, Garbled> {
        loop {
            let (line, size) = match parse_chunk_size(&bytes[self.at..]) {
                Ok(Status::Complete((line, size))) => (line, usize::try_from(size)),
                Ok(Status::Partial) => return Ok(None),
                Err(error) => return Err(Garbled(format!("a chunk without sense: {error}"))),
            };
            let size = size.map_err(|_| Garbled("a chunk without an end".into()))?;
            let from = self.at + line;
            // After the last chunk come trailers, which no server here sends, or an empty line.
            let end = from.saturating_add(size).saturating_add(2);
            if bytes.len() < end {
                return Ok(None);
            }
            if &bytes[end - 2..end] != b"\r\n" {
                return Err(Garbled("a chunk that is longer than it says".into()));
            }
            self.body.extend_from_slice(&bytes[from..end - 2]);
            self.at = end;
            if size == 0 {
                return Ok(Some(end));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        let head = read_head(text.as_bytes()).expect("HTTP");
        head.expect("a whole head")
    }

    #[test]
    fn a_post_is_http() {
        let mut bytes = Vec::new();
        let key = format_args!("idempotency-key: {}\r\n", 7);
        write_post(
            &mut bytes,
            "h:1",
            format_args!("/a/{}", 2),
            key,
            &["{", "}"],
        );
        let text = String::from_utf8(bytes).expect("ASCII");
        let expected = "POST /a/2 HTTP/1.1\r\nhost: h:1\r\ncontent-type: application/json\r\n\
                        content-length: 2\r\nidempotency-key: 7\r\n\r\n{}";
        assert_eq!(text, expected);
    }

    #[test]
    fn heads_say_how_long_a_body_is() {
        let plain = head("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nbody");
        assert_eq!((plain.status, plain.body), (200, BodyKind::Length(12)));
        assert!(!plain.closes && plain.retry_after.is_none());
        assert_eq!(plain.len, 39);

        let chunked = head("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        assert_eq!(chunked.body, BodyKind::Chunked);
        let empty = head("HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(empty.body, BodyKind::Length(0));
        let old = head("HTTP/1.0 200 OK\r\n\r\n");
        assert_eq!((old.body, old.closes), (BodyKind::UntilClose, true));
        let kept = head("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n");
        assert!(!kept.closes);

        let later = head(
            "HTTP/1.1 503 Later\r\nretry-after: 2\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        );
        assert_eq!(later.retry_after, Some(Duration::from_secs(2)));
        assert!(later.closes);
    }

    #[test]
    fn heads_come_in_pieces_and_may_be_nonsense() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(read_head(&whole[..end]), Ok(None), "{end}");
        }
        assert!(read_head(b"SMTP 220 hello\r\n\r\n").is_err());
        assert!(read_head(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n").is_err());
    }

    #[test]
    fn chunks_are_put_together_wherever_they_are_cut() {
        let whole = b"4\r\nabcd\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n";
        for cut in 0..=whole.len() {
            let mut chunks = ChunkedReader::default();
            chunks.begin();
            let first = chunks.read(&whole[..cut]).expect("chunks");
            assert_eq!(first.is_some(), cut == whole.len(), "{cut}");
            if first.is_none() {
                assert_eq!(chunks.read(whole), Ok(Some(whole.len())), "{cut}");
            }
            assert_eq!(chunks.body, b"abcd0123456789", "{cut}");
        }
        assert!(ChunkedReader::default().read(b"zz\r\n").is_err());
        assert!(ChunkedReader::default().read(b"1\r\nabc").is_err());
    }
}
