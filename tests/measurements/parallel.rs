//! Runs many requests with limited concurrency.

use futures::StreamExt as _;

/// Runs `act` for each number below `count`, at most `at_once` concurrently.
///
/// # Panics
/// If one of the acts panics.
pub(crate) async fn for_each<F>(count: usize, at_once: usize, act: impl Fn(usize) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    futures::stream::iter(0..count)
        .map(|n| tokio::spawn(act(n)))
        .buffer_unordered(at_once)
        .for_each(|done| async { done.expect("it went well") })
        .await;
}
