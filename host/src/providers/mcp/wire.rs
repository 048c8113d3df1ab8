//! The SDK's transport over a server's pipes, made to tell whether a request was written.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, GetExtensions as _, JsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::transport::async_rw::AsyncRwTransport;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;

use super::lines::BoundedLines;

/// How far a request has come. Whoever makes the first move has it: the writer begins, or the
/// caller gives up, and then not a byte of the request is ever written.
#[derive(Clone, Debug, Default)]
pub(super) struct Sending(Arc<AtomicU8>);

const WAITS: u8 = 0;
const BEGUN: u8 = 1;
const GIVEN_UP: u8 = 2;

impl Sending {
    fn leave_waiting_for(&self, next: u8) -> bool {
        self.0
            .compare_exchange(WAITS, next, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Whether it may be written.
    fn begin(&self) -> bool {
        self.leave_waiting_for(BEGUN)
    }

    /// Whether the server has certainly not been sent it, and will not be.
    pub(super) fn give_up(&self) -> bool {
        self.leave_waiting_for(GIVEN_UP) || self.0.load(Ordering::Acquire) == GIVEN_UP
    }
}

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
        let sending = match &message {
            JsonRpcMessage::Request(asked) => asked.request.extensions().get::<Sending>().cloned(),
            _ => None,
        };
        let turn = self.turn.clone();
        let write = self.inner.send(message);
        async move {
            let _turn = turn.lock().await;
            if sending.is_some_and(|sending| !sending.begin()) {
                return Err(io::Error::other("its caller has given it up"));
            }
            write.await
        }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        self.inner.receive().await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.inner.close().await
    }
}
