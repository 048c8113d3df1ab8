//! A rate limit on reading from a server: a server that floods is slowed down by backpressure, and
//! does not take the daemon's time from everything else.

use std::time::Duration;

use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, JsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::time::{Instant, sleep_until};

/// The number of messages in one window that are not answers; further ones wait for the next
/// window, and so, once the buffers are full, does the server.
const BURST: u32 = 1000;
const WINDOW: Duration = Duration::from_secs(1);

/// A transport that is read at a bounded rate.
pub(super) struct Paced<T> {
    inner: T,
    window: Instant,
    logged: u32,
}

impl<T> Paced<T> {
    pub(super) fn new(inner: T) -> Self {
        Self {
            inner,
            window: Instant::now(),
            logged: 0,
        }
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Paced<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        message: ClientJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.inner.send(message)
    }

    /// Cancel safe if the inner transport is: state changes only after a message has been received.
    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        if self.logged >= BURST {
            sleep_until(self.window + WINDOW).await;
        }
        let message = self.inner.receive().await?;
        if self.window.elapsed() >= WINDOW {
            (self.window, self.logged) = (Instant::now(), 0);
        }
        if !matches!(
            message,
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_)
        ) {
            self.logged += 1;
            if self.logged == BURST {
                tracing::warn!("a tool server says too much, and is read slowly");
            }
        }
        Some(message)
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.inner.close().await
    }
}
