//! The transport over a server's pipes: reads leniently, and records for each request whether it
//! was written.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::transport::async_rw::AsyncRwTransport;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, Empty};
use tokio::sync::Mutex;

use super::bound::AnswerBound;
use super::delivery::{Delivery, DeliveryFate};
use super::frames::Frames;
use super::jsonrpc::{JsonRpcReader, TOO_LONG};
use super::requests::Requests;

/// The size of one read.
const CHUNK_BYTES: usize = 16 << 10;

/// The transport over a server's standard output and input.
pub(super) struct StdioPipes<R, W>
where
    W: AsyncWrite + Send + Unpin + 'static,
{
    /// Only used for writing: the SDK's own reader accepts only strictly valid messages.
    writer: AsyncRwTransport<RoleClient, Empty, W>,
    /// Serializes writes. Locked before a request counts as begun, so that a request that waits
    /// behind a server that reads nothing can still be given up.
    turn: Arc<Mutex<()>>,
    requests: Requests,
    read: R,
    bound: AnswerBound,
    chunk: Vec<u8>,
    frames: Frames,
    ready: VecDeque<ServerJsonRpcMessage>,
}

impl<R, W> StdioPipes<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    /// Creates the transport. `bound` limits the size of a message that is read.
    pub(super) fn new(read: R, write: W, bound: AnswerBound) -> Self {
        Self {
            writer: AsyncRwTransport::new_client(tokio::io::empty(), write),
            turn: Arc::default(),
            requests: Requests::default(),
            read,
            bound,
            chunk: Vec::with_capacity(CHUNK_BYTES),
            frames: Frames::default(),
            ready: VecDeque::new(),
        }
    }

    /// Processes one frame, if there is one; returns whether there was.
    fn take_frame(&mut self) -> bool {
        let Some(frame) = self.frames.next() else {
            return false;
        };
        let reader = JsonRpcReader {
            requests: &self.requests,
            posted: None,
        };
        // A message quoted in a log line counts only if it answers a request that waits.
        let waits = |id| self.requests.wait_for(id);
        if frame.is_quoted && !frame.answers.is_some_and(waits) {
            return true;
        }
        match frame.bytes {
            Some(bytes) => self.ready.extend(reader.read(&bytes, || frame.answers)),
            None => {
                let bytes = frame.length;
                tracing::warn!(bytes, "a tool server's message is too long, and is dropped");
                let failure = frame.answers.and_then(|id| {
                    let why = format!("{bytes} bytes");
                    reader.failed(id, TOO_LONG, why)
                });
                self.ready.extend(failure);
            }
        }
        true
    }
}

impl<R, W> Transport<RoleClient> for StdioPipes<R, W>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    type Error = io::Error;

    fn send(
        &mut self,
        message: ClientJsonRpcMessage,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let sending = Delivery::of(&message);
        let turn = self.turn.clone();
        // Registered before it is written: the answer may arrive before the write returns.
        self.requests.sent(&message);
        let write = self.writer.send(message);
        async move {
            let _turn = turn.lock().await;
            if sending.as_ref().is_some_and(|sending| !sending.begin()) {
                return Err(io::Error::other("its caller has given it up"));
            }
            let written = write.await;
            if let (Err(_), Some(sending)) = (&written, sending) {
                // The pipe did not accept the whole line, and a server acts on whole lines only.
                sending.settle(DeliveryFate::NotSent);
            }
            written
        }
    }

    /// Cancel safe: state changes only between reads, and `read_buf` loses no bytes when dropped.
    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            if self.take_frame() {
                continue;
            }
            self.chunk.clear();
            match self.read.read_buf(&mut self.chunk).await {
                Ok(1..) => self.frames.take(&self.chunk, self.bound.bytes()),
                Ok(0) | Err(_) => return None,
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        self.writer.close().await
    }
}
