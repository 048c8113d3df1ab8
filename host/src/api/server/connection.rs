//! One connection, from its first byte to its end, or to the moment at which it is passed on.

use std::future::{Future as _, poll_fn};
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::track::{Track, Tracked};
use super::wire::HttpIo;

/// The longest request head, and so the most that is passed on with an idle connection.
pub(super) const HEAD_MAX_BYTES: usize = 64 << 10;
/// Headers of one request.
const HEADERS_MAX: usize = 100;
/// How long a connection may go without a whole request head. It bounds idle connections too, so
/// it is longer than clients' pools hold theirs (90 s are usual): a client should close first,
/// since a server that does may do so while a request is on its way.
const HEAD_READ_TIMEOUT: Duration = Duration::from_secs(120);
/// A socket that is closed with unread bytes resets the connection, and the client may lose the
/// response it was sent. So what still comes is read and dropped, for so long and so much.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_MAX_BYTES: u64 = 64 << 20;

/// A connection between two requests, to be served by another worker.
#[derive(Debug)]
pub struct IdleConnection {
    /// The socket.
    pub fd: OwnedFd,
    /// What has been read of the next request; at most 64 KiB.
    pub prefix: Vec<u8>,
    /// The label of the listener that accepted it.
    pub local: String,
}

/// What all connections of a server watch.
#[derive(Clone, Default)]
pub(super) struct Signals {
    /// Pass on what is idle, and the rest once it is.
    pub(super) leave: CancellationToken,
    /// Answer what runs with `connection: close`, and end.
    pub(super) close: CancellationToken,
    /// End now.
    pub(super) cut: CancellationToken,
}

enum ConnectionEnd {
    Idle,
    Over,
}

/// Serves a connection. Returns it if it is to be passed on.
pub(super) async fn serve(
    socket: TcpStream,
    prefix: Bytes,
    local: Arc<str>,
    router: Router,
    signals: Signals,
) -> Option<IdleConnection> {
    let track = Arc::new(Track::default());
    let wire = HttpIo {
        socket,
        prefix,
        track: track.clone(),
    };
    let service = Tracked {
        router,
        track: track.clone(),
    };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_READ_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_MAX_BYTES)
        .serve_connection(TokioIo::new(wire), service);
    let mut leave = pin!(signals.leave.cancelled());
    let mut close = pin!(signals.close.cancelled());
    let mut closing = false;
    let end = poll_fn(|cx| {
        if !track.is_leaving() && leave.as_mut().poll(cx).is_ready() {
            track.leave();
        }
        if !closing && close.as_mut().poll(cx).is_ready() {
            closing = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        // hyper runs until nothing more can be done now, so in between it holds no bytes but
        // those that the socket did not take and those of the next request.
        let passable = || track.is_leaving() && track.is_idle();
        if passable() {
            return Poll::Ready(ConnectionEnd::Idle);
        }
        match connection.poll_without_shutdown(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(ConnectionEnd::Over),
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "a connection ended with an error");
                Poll::Ready(ConnectionEnd::Over)
            }
            Poll::Pending if passable() => Poll::Ready(ConnectionEnd::Idle),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    let parts = connection.into_parts();
    let wire = parts.io.into_inner();
    match end {
        ConnectionEnd::Over => {
            linger(wire.socket).await;
            None
        }
        ConnectionEnd::Idle => {
            let prefix = [&parts.read_buf[..], &wire.prefix[..]].concat();
            let local = local.to_string();
            match wire.socket.into_std() {
                Ok(socket) => Some(IdleConnection {
                    fd: socket.into(),
                    prefix,
                    local,
                }),
                Err(error) => {
                    tracing::warn!(%error, "an idle connection cannot be passed on");
                    None
                }
            }
        }
    }
}

/// Closes our side, then waits a while for the client to close its own.
pub(super) async fn linger(mut socket: TcpStream) {
    let _ = tokio::time::timeout(LINGER, async {
        socket.shutdown().await?;
        let mut rest = socket.take(LINGER_MAX_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    })
    .await;
}

/// Tells a client that there is no room, in place of a request's answer.
pub(super) async fn turn_away(mut socket: TcpStream, response: Arc<[u8]>) {
    let mut head = [0; 1024];
    let _ = tokio::time::timeout(LINGER, async {
        // An answer before the question is one that some clients drop.
        let _some = socket.read(&mut head).await?;
        socket.write_all(&response).await
    })
    .await;
    linger(socket).await;
}
