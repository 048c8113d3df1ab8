//! The body of a request, while it arrives: it pays for the memory that it takes as it takes it, and may
//! not arrive arbitrarily slowly.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use bytes::BytesMut;
use http_body_util::{BodyExt as _, Limited};
use tokio::time::{Instant, timeout_at};

use super::problem::{Problem, ProblemKind};
use super::server::BodyError;
use crate::domain::Refusal;

/// How long a body may take to arrive.
pub(super) const PATIENCE: Patience = Patience {
    least: Duration::from_secs(30),
    bytes_per_second: 16 << 10,
};
/// How long the rest of a body that is refused may take to arrive.
const DROP_PATIENCE: Duration = Duration::from_secs(10);
/// What an element of a list or an object takes at most as a JSON value, beside its text.
const ELEMENT_BYTES: u64 = 64;
/// The memory that a parsed body may take at least.
const PARSED_MIN_BYTES: u64 = 16 << 20;

/// How long a body may take to arrive: a time for each, and more by what has arrived.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    least: Duration,
    /// A slow line, but a line.
    bytes_per_second: u64,
}

impl Patience {
    fn after(self, bytes: usize) -> Duration {
        self.least + Duration::from_secs(bytes as u64 / self.bytes_per_second)
    }
}

/// Reads a body of at most `limit` bytes. `grow` reserves memory for what has arrived, or refuses it.
pub(super) async fn read(
    mut body: Body,
    limit: usize,
    patience: Patience,
    mut grow: impl FnMut(u64) -> Result<(), Refusal>,
) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("the body has more than {limit} bytes");
        Problem::new(ProblemKind::TOO_LARGE, detail).fact("limit", limit)
    };
    if body.size_hint().lower() > limit as u64 {
        drop_rest(body, limit).await;
        return Err(too_large());
    }
    let since = Instant::now();
    let mut read = BytesMut::new();
    loop {
        let due = since + patience.after(read.len());
        let frame = match timeout_at(due, body.frame()).await {
            Ok(None) => return Ok(read.freeze()),
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => {
                if is_interrupted(&error) {
                    return Err(Refusal::Restarting.into());
                }
                let detail = format!("the body cannot be read: {error}");
                return Err(Problem::new(ProblemKind::BAD_REQUEST, detail));
            }
            Err(_) => {
                let detail = format!(
                    "the body arrives too slowly: {} bytes in {} s; send it faster, or in smaller parts",
                    read.len(),
                    since.elapsed().as_secs()
                );
                return Err(Problem::new(ProblemKind::TOO_SLOW, detail));
            }
        };
        // Trailers have no meaning here.
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if read.len() + data.len() > limit {
            drop_rest(body, limit).await;
            return Err(too_large());
        }
        if let Err(refusal) = grow(data.len() as u64) {
            drop(read);
            drop_rest(body, limit).await;
            return Err(refusal.into());
        }
        read.extend_from_slice(&data);
    }
}

/// Returns whether the body would have gone on, had the worker not left.
fn is_interrupted(error: &axum::Error) -> bool {
    let cause = std::error::Error::source(error);
    let cause = cause.and_then(|cause| cause.downcast_ref());
    matches!(cause, Some(BodyError::Interrupted))
}

/// Reads and discards the rest of a body that is refused: if the connection were closed while the client
/// still sends, the client might lose the response.
async fn drop_rest(body: Body, limit: usize) {
    let mut body = Limited::new(body, limit);
    let _ = tokio::time::timeout(DROP_PATIENCE, async {
        while let Some(Ok(frame)) = body.frame().await {
            drop(frame);
        }
    })
    .await;
}

/// Returns how much memory a JSON text takes at most once it is parsed: its texts, and a value for each
/// element. Separators within texts are counted as well, which does no harm.
pub(super) fn parsed_bytes(json: &[u8]) -> u64 {
    // So few at a time that a byte counts them: the compiler makes many comparisons one.
    let separators = json.chunks(usize::from(u8::MAX)).map(|bytes| {
        let is_one = |byte: &u8| matches!(byte, b',' | b':' | b'[' | b'{');
        u64::from(bytes.iter().map(|byte| u8::from(is_one(byte))).sum::<u8>())
    });
    json.len() as u64 + separators.sum::<u64>() * ELEMENT_BYTES
}

/// Returns how much memory a body of at most `limit` bytes may take once it is parsed.
pub(super) fn most_parsed_bytes(limit: usize) -> u64 {
    (limit as u64).saturating_mul(4).max(PARSED_MIN_BYTES)
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, stream};

    use super::*;

    #[test]
    fn what_has_arrived_gives_more_time() {
        assert_eq!(PATIENCE.after(0), Duration::from_secs(30));
        assert_eq!(PATIENCE.after(160 << 10), Duration::from_secs(40));
    }

    #[tokio::test]
    async fn a_body_that_stalls_is_answered() {
        let patience = Patience {
            least: Duration::from_millis(50),
            bytes_per_second: 1 << 20,
        };
        let begun = stream::iter([Ok::<_, std::io::Error>("[1")]).chain(stream::pending());
        let refused = read(Body::from_stream(begun), 100, patience, |_| Ok(())).await;
        let problem = refused.expect_err("it never ends");
        assert_eq!(problem.status(), 408);
        assert!(problem.detail().contains("2 bytes"), "{}", problem.detail());
    }

    #[tokio::test]
    async fn a_body_pays_for_what_has_arrived() {
        let parts = || ["[1,", "2,", "3]"].map(Ok::<_, std::io::Error>);
        let body = || Body::from_stream(stream::iter(parts()));
        let mut paid = Vec::new();
        let whole = read(body(), 100, PATIENCE, |bytes| {
            paid.push(bytes);
            Ok(())
        });
        assert_eq!(whole.await.expect("it fits"), "[1,2,3]");
        assert_eq!(paid, [3, 2, 2]);
        let refused = read(body(), 100, PATIENCE, |bytes| match bytes {
            3 => Ok(()),
            _ => Err(Refusal::Overloaded { limit: 3 }),
        });
        assert_eq!(refused.await.expect_err("no room").status(), 429);
        let large = read(body(), 6, PATIENCE, |_| Ok(())).await;
        assert_eq!(large.expect_err("seven bytes").status(), 413);
    }

    #[test]
    fn structure_weighs_more_than_text() {
        let (text, list) = (
            "\"".to_owned() + &"x".repeat(1000) + "\"",
            "[0".to_owned() + &",0".repeat(500) + "]",
        );
        assert!(parsed_bytes(text.as_bytes()) < 1100);
        let parsed: serde_json::Value = serde_json::from_str(&list).expect("JSON");
        let values = parsed.as_array().expect("a list").len() * size_of::<serde_json::Value>();
        assert!(parsed_bytes(list.as_bytes()) >= values as u64);
    }
}
