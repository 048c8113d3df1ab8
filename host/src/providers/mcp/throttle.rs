//! A transport that reads no more of a server than it should say: one that floods is slowed down,
//! and does not take the daemon's time from everybody else.

use std::time::Duration;

use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, JsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::time::{Instant, sleep_until};

/// Messages that answer nothing which are read in one window; what follows waits for the next one,
/// and so, behind full buffers, does the server.
const BURST: u32 = 1000;
const WINDOW: Duration = Duration::from_secs(1);

/// A transport that is read at a bounded pace.
pub(super) struct Paced<T> {
    inner: T,
    window: Instant,
    said: u32,
}

impl<T> Paced<T> {
    pub(super) fn new(inner: T) -> Self {
        Self {
            inner,
            window: Instant::now(),
            said: 0,
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

    /// May be dropped at any time, as that of the inner one: it changes nothing while it waits.
    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        if self.said >= BURST {
            sleep_until(self.window + WINDOW).await;
        }
        let message = self.inner.receive().await?;
        if self.window.elapsed() >= WINDOW {
            (self.window, self.said) = (Instant::now(), 0);
        }
        if !matches!(
            message,
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_)
        ) {
            self.said += 1;
            if self.said == BURST {
                tracing::warn!("a tool server says too much, and is read slowly");
            }
        }
        Some(message)
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.inner.close().await
    }
}
