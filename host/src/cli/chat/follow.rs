//! Follows a session across broken connections and restarts: each later event arrives exactly once.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::mpsc;

use super::super::calls::{RetryPause, Streamed};
use super::super::client::{Client, ClientError};
use super::view::{Absence, ChatItem};
use crate::domain::{EventId, SessionId};

/// The capacity of the queue of items to be shown. Backpressure: the connection is read no faster
/// than items are shown.
const ITEMS_MAX: usize = 256;
/// An absence shorter than this is not worth a line.
const UNNOTICED: Duration = Duration::from_secs(1);

/// How often the daemon is queried for the cause of an absence.
const ASKED_MAX: u32 = 3;

/// The follower's items, and in the end the error that stopped it.
pub(crate) type Items = mpsc::Receiver<Result<ChatItem, ClientError>>;

/// Starts following from a position. `generation` is the daemon's generation, if the caller may know it.
pub(crate) fn follow(
    client: Client,
    id: SessionId,
    from: EventId,
    generation: Option<u64>,
) -> Items {
    let (items, received) = mpsc::channel(ITEMS_MAX);
    let follower = ChatFollower {
        client,
        id,
        last: from,
        generation,
        items,
    };
    tokio::spawn(follower.run());
    received
}

struct ChatFollower {
    client: Client,
    id: SessionId,
    /// The last event.
    last: EventId,
    /// The daemon's generation, if the client may know it.
    generation: Option<u64>,
    items: mpsc::Sender<Result<ChatItem, ClientError>>,
}

/// The receiver of the items is gone.
struct Gone;

impl ChatFollower {
    async fn run(mut self) {
        let mut away = false;
        loop {
            match self.connected(away).await {
                Ok(Ok(())) => away = true,
                Ok(Err(end)) => {
                    // If the receiver is gone, nothing needs the reason.
                    let _ = self.items.send(Err(end)).await;
                    return;
                }
                Err(Gone) => return,
            }
        }
    }

    /// Follows over one connection, from connecting (again) to its end. The inner error is final.
    async fn connected(&mut self, away: bool) -> Result<Result<(), ClientError>, Gone> {
        let stream = match self.connect(away).await? {
            Ok(stream) => stream,
            Err(end) => return Ok(Err(end)),
        };
        let mut stream = pin!(stream);
        if away {
            let absence = self.absence().await;
            self.bring(ChatItem::Back(absence)).await?;
        }
        while let Some(item) = stream.next().await {
            match item {
                Ok(Streamed::Event(event)) => {
                    self.last = event.id();
                    self.bring(ChatItem::Event(event)).await?;
                }
                Ok(Streamed::Delta(delta)) => self.bring(ChatItem::Delta(delta)).await?,
                Ok(Streamed::Restart { retry }) => {
                    tokio::time::sleep(retry.unwrap_or_default().min(UNNOTICED)).await;
                    break;
                }
                Err(error) if error.is_passing() => break,
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(()))
    }

    /// Connects, and retries if there was a connection before.
    async fn connect(
        &mut self,
        away: bool,
    ) -> Result<
        Result<impl futures::Stream<Item = Result<Streamed, ClientError>> + use<>, ClientError>,
        Gone,
    > {
        let mut backoff = RetryPause::new();
        let mut notice = pin!(tokio::time::sleep(UNNOTICED));
        let mut notified = !away;
        loop {
            let client = self.client.clone();
            let (id, last) = (self.id.clone(), self.last.clone());
            let mut trial = pin!(async move { client.follow(&id, &last).await });
            let tried = loop {
                tokio::select! {
                    tried = &mut trial => break tried,
                    () = &mut notice, if !notified => {
                        notified = true;
                        self.bring(ChatItem::Lost).await?;
                    }
                    () = self.items.closed() => return Err(Gone),
                }
            };
            match tried {
                Ok(stream) => return Ok(Ok(stream)),
                Err(ClientError::Problem(problem))
                    if problem
                        .oldest()
                        .is_some_and(|oldest| oldest > self.last.cursor) =>
                {
                    self.last.cursor = problem.oldest().unwrap_or(self.last.cursor);
                    self.bring(ChatItem::Trimmed(self.last.cursor)).await?;
                }
                Err(ClientError::Problem(problem))
                    if problem.ahead().is_some_and(|ahead| ahead != self.last) =>
                {
                    self.last = problem.ahead().unwrap_or_default();
                    self.bring(ChatItem::Cut(self.last.cursor)).await?;
                }
                Err(error)
                    if away
                        && (error.is_passing()
                            || matches!(error, ClientError::Unreachable { .. })) =>
                {
                    tokio::select! {
                        () = backoff.pause() => {}
                        () = self.items.closed() => return Err(Gone),
                    }
                }
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    /// Returns the cause of the connection's loss.
    async fn absence(&mut self) -> Absence {
        let mut backoff = RetryPause::new();
        let Some(known) = self.generation else {
            return Absence::Connection;
        };
        for _ in 0..ASKED_MAX {
            match self.client.daemon().await {
                Ok(daemon) if daemon.generation.0 == known => return Absence::Connection,
                Ok(daemon) => {
                    self.generation = Some(daemon.generation.0);
                    // Query by generation: the latest record may be of a later restart, or not be
                    // written yet.
                    let record = self.client.restart(daemon.generation.0).await;
                    return Absence::Restart(record.ok().map(|record| record.cause));
                }
                Err(error) if error.is_passing() => backoff.pause().await,
                Err(_) => break,
            }
        }
        // If the cause is unknown, only the line that explains the absence is missing.
        Absence::Connection
    }

    async fn bring(&self, item: ChatItem) -> Result<(), Gone> {
        self.items.send(Ok(item)).await.map_err(|_| Gone)
    }
}
