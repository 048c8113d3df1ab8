//! The SDK's transport over a server's pipes, made to tell whether a request was written.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::transport::async_rw::AsyncRwTransport;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;

use super::lines::BoundedLines;
use super::sending::{Fate, Sending};

/// A server's standard output and input.
pub(super) struct Wire<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    inner: AsyncRwTransport<RoleClient, BoundedLines<R>, W>,
    /// Messages are written one after the other. Taken before a request counts as begun, so that
    /// one which waits behind a server that reads nothing can still be given up.
    turn: Arc<Mutex<()>>,
}

impl<R, W> Wire<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    /// `bound` is the longest line that is read.
    pub(super) fn new(read: R, write: W, bound: Arc<AtomicUsize>) -> Self {
        let lines = BoundedLines::new(read, bound);
        Self {
            inner: AsyncRwTransport::new_client(lines, write).with_max_line_length(usize::MAX),
            turn: Arc::default(),
        }
    }
}

impl<R, W> Transport<RoleClient> for Wire<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    type Error = io::Error;

    fn send(
        &mut self,
        message: ClientJsonRpcMessage,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let sending = Sending::of(&message);
        let turn = self.turn.clone();
        let write = self.inner.send(message);
        async move {
            let _turn = turn.lock().await;
            if sending.as_ref().is_some_and(|sending| !sending.begin()) {
                return Err(io::Error::other("its caller has given it up"));
            }
            let written = write.await;
            if let (Err(_), Some(sending)) = (&written, sending) {
                // The pipe did not take the whole line, and who reads it acts on whole lines.
                sending.settle(Fate::NotSent);
            }
            written
        }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        self.inner.receive().await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.inner.close().await
    }
}
