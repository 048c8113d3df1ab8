//! Detects what an HTTP response holds from its first bytes, since servers declare a wrong content
//! type or none. Also decompresses it: some servers compress without being asked.

use std::io;

use async_compression::tokio::bufread::{GzipDecoder, ZlibDecoder};
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use http::header;
use reqwest::Response;
use tokio_util::io::{ReaderStream, StreamReader};

use crate::providers::http_body::{causes, chain};

/// The maximum amount of whitespace before an answer, in bytes; some servers send it to keep a
/// connection alive.
const BLANKS_MAX_BYTES: usize = 1 << 20;

/// A stream of bytes, which ends with an error message if it breaks off.
pub(super) type ByteChunks = BoxStream<'static, Result<Bytes, String>>;

/// The format of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerKind {
    Json,
    Events,
    /// A format that MCP does not use.
    Strange,
}

/// Returns a response's body, decompressed.
pub(super) fn chunks(response: Response) -> ByteChunks {
    let packed = response.headers().get(header::CONTENT_ENCODING);
    let packed = packed.and_then(|packed| packed.to_str().ok());
    let packed = packed.unwrap_or_default().trim().to_ascii_lowercase();
    let bytes = response.bytes_stream();
    let unpack = bytes.map_err(|error| io::Error::other(causes(&error)));
    let why = |error: io::Error| chain(&error);
    match packed.as_str() {
        "gzip" | "x-gzip" => {
            let unpacked = GzipDecoder::new(StreamReader::new(unpack));
            ReaderStream::new(unpacked).map_err(why).boxed()
        }
        "deflate" => {
            let unpacked = ZlibDecoder::new(StreamReader::new(unpack));
            ReaderStream::new(unpacked).map_err(why).boxed()
        }
        _ => unpack.map_err(why).boxed(),
    }
}

/// Detects a body's format from its beginning, and returns the format and the whole body.
pub(super) async fn classify_body(
    response: Response,
    named: &str,
) -> Result<(AnswerKind, ByteChunks), String> {
    classify_chunks(chunks(response), named).await
}

async fn classify_chunks(
    mut chunks: ByteChunks,
    named: &str,
) -> Result<(AnswerKind, ByteChunks), String> {
    let mut blanks = 0;
    let (kind, first) = loop {
        let Some(chunk) = chunks.try_next().await? else {
            break (AnswerKind::Strange, None);
        };
        if let Some(kind) = kind_of(&chunk) {
            break (kind, Some(Ok(chunk)));
        }
        // Leading blanks can be dropped: line ends before the first event separate nothing.
        blanks += chunk.len();
        if blanks > BLANKS_MAX_BYTES {
            return Err(format!(
                "it began with more than {BLANKS_MAX_BYTES} bytes of blanks"
            ));
        }
        // Do not wait for the first event: it may take long to arrive.
        if named.starts_with("text/event-stream") {
            break (AnswerKind::Events, None);
        }
    };
    // Trust a declared content type of MCP; if it is wrong, parsing fails later.
    let kind = match kind {
        AnswerKind::Strange if named.starts_with("application/json") => AnswerKind::Json,
        AnswerKind::Strange if named.starts_with("text/event-stream") => AnswerKind::Events,
        kind => kind,
    };
    Ok((kind, stream::iter(first).chain(chunks).boxed()))
}

/// Returns the format of a body that begins with this chunk; `None` if the chunk is only
/// whitespace.
fn kind_of(chunk: &[u8]) -> Option<AnswerKind> {
    let is_blank = |byte: &u8| byte.is_ascii_whitespace() || [0xEF, 0xBB, 0xBF].contains(byte);
    let start = chunk.iter().position(|byte| !is_blank(byte))?;
    let text = &chunk[start..];
    if matches!(text[0], b'{' | b'[') {
        return Some(AnswerKind::Json);
    }
    let fields: [&[u8]; 5] = [b"data:", b"event:", b"id:", b"retry:", b":"];
    let is_event = |field: &&[u8]| text.starts_with(field) || field.starts_with(text);
    Some(match fields.iter().any(is_event) {
        true => AnswerKind::Events,
        false => AnswerKind::Strange,
    })
}

/// Reads a body, up to `bound` bytes; returns it and whether that was all of it.
pub(super) async fn read(mut chunks: ByteChunks, bound: usize) -> Result<(Vec<u8>, bool), String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.try_next().await? {
        let room = bound.saturating_sub(bytes.len());
        if chunk.len() > room {
            bytes.extend_from_slice(&chunk[..room]);
            return Ok((bytes, false));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok((bytes, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn classified(
        pieces: Vec<&'static [u8]>,
        named: &str,
    ) -> Result<(AnswerKind, Vec<u8>), String> {
        let pieces = pieces
            .into_iter()
            .map(|piece| Ok(Bytes::from_static(piece)));
        let (kind, chunks) = classify_chunks(stream::iter(pieces).boxed(), named).await?;
        let (bytes, _) = read(chunks, 1000).await?;
        Ok((kind, bytes))
    }

    #[tokio::test]
    async fn what_an_answer_is_shows_in_its_first_bytes() {
        for (pieces, named, kind, rest) in [
            (
                vec![&b"  "[..], b"\n", b"{}"],
                "text/plain",
                AnswerKind::Json,
                &b"{}"[..],
            ),
            (
                vec![b"{\"a\":", b"1}"],
                "text/event-stream",
                AnswerKind::Json,
                b"{\"a\":1}",
            ),
            (
                vec![b"data: {}\n\n"],
                "application/json",
                AnswerKind::Events,
                b"data: {}\n\n",
            ),
            (
                vec![b"\n", b": x\n\n"],
                "text/event-stream",
                AnswerKind::Events,
                b": x\n\n",
            ),
            (vec![], "text/html", AnswerKind::Strange, b""),
        ] {
            let found = classified(pieces, named).await;
            assert_eq!(found, Ok((kind, rest.to_vec())), "{named}");
        }
    }

    #[tokio::test]
    async fn blanks_are_not_kept_and_end() {
        let pieces = vec![&[b' '; 1000][..]; 10_000];
        let error = classified(pieces, "application/json").await;
        assert!(error.is_err_and(|why| why.contains("blanks")));
    }
}
