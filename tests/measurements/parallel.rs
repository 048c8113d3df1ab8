//! Many requests, some of them at a time.

use futures::StreamExt as _;

/// Does something for each number below `count`, `at_once` at a time.
///
/// # Panics
/// If one of them does.
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
