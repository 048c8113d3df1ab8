//! Takes the census of sessions again and again, in the background.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::domain::Census;
use crate::session::Signs;
use crate::store::StoreError;

/// The pause after a census that took little.
const EVERY: Duration = Duration::from_secs(30);
/// The shortest pause, also if a session has moved meanwhile.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// A pause takes so many times as long as the census before it, so that the store is not read all the time;
/// a tenth of that after a session has moved.
const PAUSE_PART: u32 = 100;

/// The last census; none before the first one.
pub(super) type LastCensus = watch::Receiver<Option<Arc<Census>>>;

/// Starts taking it; the first one begins after a short pause, once the first clients are served.
pub(super) fn start(signs: Signs) -> LastCensus {
    let (sender, latest) = watch::channel(None);
    tokio::spawn(async move {
        tokio::time::sleep(PAUSE_MIN).await;
        while !sender.is_closed() {
            let began = Instant::now();
            let counting = signs.clone();
            let taken = tokio::task::spawn_blocking(move || counting.census()).await;
            match taken {
                Ok(Ok(census)) => drop(sender.send_replace(Some(Arc::new(census)))),
                Ok(Err(StoreError::Closed)) => return,
                Ok(Err(error)) => tracing::warn!(%error, "the sessions cannot be counted"),
                // The worker ends.
                Err(_) => return,
            }
            let took = began.elapsed();
            let moved = async {
                signs.session_moved().await;
                tokio::time::sleep(PAUSE_MIN.max(took * PAUSE_PART / 10)).await;
            };
            tokio::select! {
                () = moved => {}
                () = tokio::time::sleep(EVERY.max(took * PAUSE_PART)) => {}
            }
        }
    });
    latest
}
