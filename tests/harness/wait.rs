//! Waiting until something becomes true.

use std::time::{Duration, Instant};

/// The time after which a test fails. Far longer than any operation takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The polling interval, where there is no event to wait for.
const GLANCE: Duration = Duration::from_millis(10);

/// Polls `look` until it returns a value.
///
/// # Panics
/// If it has not after [`PATIENCE`].
pub async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, look).await
}

/// Polls `look` for at most `patience` until it returns a value.
///
/// # Panics
/// If it has not by then.
pub async fn until_within<T>(
    patience: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            started.elapsed() < patience,
            "waited {patience:?} in vain: {what}"
        );
        tokio::time::sleep(GLANCE).await;
    }
}
