//! Waiting for something to become true.

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up on it. Far longer than it ever takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long between two looks, where there is no event to wait for.
const GLANCE: Duration = Duration::from_millis(10);

/// Waits until `look` finds something.
///
/// # Panics
/// If it has not after [`PATIENCE`].
pub async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, look).await
}

/// Waits at most `patience` until `look` finds something.
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
