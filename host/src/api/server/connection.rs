//! One connection, from its first byte to its end or to the moment when it is passed on.

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
use tokio_util::sync::CancellationToken;

use super::peer::PeerKind;
use super::silent::Newcomer;
use super::socket::{self, Socket};
use super::track::{Track, Tracked};
use super::unavailable;
use super::upload::HEAD_MAX_BYTES;
use super::wire::HttpIo;

/// The maximum number of headers of one request.
const HEADERS_MAX: usize = 100;
/// How long a connection may go without a complete request head. This limits idle connections too,
/// so it is longer than the usual time of clients' connection pools (90 s): the client should close
/// first, as a server that closes may do so while a request is on its way.
const HEAD_READ_TIMEOUT: Duration = Duration::from_secs(120);
/// Closing a socket with unread bytes resets the connection, and the client may then lose the
/// response. So bytes that still arrive are read and discarded, for this time and up to this size.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_MAX_BYTES: u64 = 64 << 20;

/// A connection between two requests, or amid the receipt of one, to be served by another worker.
#[derive(Debug)]
pub struct IdleConnection {
    /// The socket.
    pub fd: OwnedFd,
    /// The bytes of the next request, or of the one that is being received, that were already read; at most
    /// 64 KiB.
    pub prefix: Vec<u8>,
    /// The label of the listener that accepted it, and who is at the other end as far as that matters.
    pub local: String,
}

/// The signals that all connections of a server watch.
#[derive(Clone, Default)]
pub(super) struct Signals {
    /// Pass on idle connections at once, and the others once they are idle.
    pub(super) leave: CancellationToken,
    /// Nobody follows: what is passed on is dropped.
    pub(super) is_last: CancellationToken,
    /// Answer the current request with `connection: close`, and end.
    pub(super) close: CancellationToken,
    /// Abort at once.
    pub(super) cut: CancellationToken,
}

enum ConnectionEnd {
    Idle,
    Over,
    /// Amid a request's body, of which so much has arrived, with its head.
    Receiving(Vec<u8>),
    /// Amid a request's body of which nothing comes any more, and which cannot be passed on.
    Refused,
    /// Its client does not take its response.
    Stalled,
}

/// Serves a connection. Returns it if it is to be passed on. Who is at the other end is looked up if that
/// is not known.
pub(super) async fn serve(
    socket: Socket,
    prefix: Bytes,
    local: Arc<str>,
    peer: Option<PeerKind>,
    router: Router,
    signals: Signals,
    newcomer: Option<Newcomer>,
) -> Option<IdleConnection> {
    let track = Arc::new(Track::default());
    let peer = match peer {
        Some(peer) => peer,
        None => socket::peer(&socket).await,
    };
    let wire = HttpIo {
        socket,
        prefix,
        track: track.clone(),
    };
    let service = Tracked {
        router,
        track: track.clone(),
        newcomer,
        peer,
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
            if track.has_stalled() {
                return Poll::Ready(ConnectionEnd::Stalled);
            }
            if !signals.is_last.is_cancelled()
                && let Some(received) = track.received()
            {
                return Poll::Ready(ConnectionEnd::Receiving(received));
            }
            if track.receives_nothing() {
                return Poll::Ready(ConnectionEnd::Refused);
            }
        }
        if !closing && close.as_mut().poll(cx).is_ready() {
            closing = true;
            track.close();
            Pin::new(&mut connection).graceful_shutdown();
        }
        // hyper polls until it can make no progress, so between polls it holds no bytes except
        // those that the socket did not accept and those of the next request.
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
    let mut wire = parts.io.into_inner();
    match end {
        ConnectionEnd::Over => {
            linger(wire.socket).await;
            None
        }
        ConnectionEnd::Receiving(received)
            if received.len() + parts.read_buf.len() > HEAD_MAX_BYTES =>
        {
            // Whether or not it arrives, nothing was done.
            let _ = wire.socket.write_all(&unavailable::restarting()).await;
            linger(wire.socket).await;
            None
        }
        ConnectionEnd::Refused => {
            // The client need not be sending when it is answered, so nothing is waited for.
            let _ = wire.socket.write_all(&unavailable::restarting()).await;
            let _ = wire.socket.shutdown().await;
            None
        }
        // It goes on from its cursor, or asks again, once it reads.
        ConnectionEnd::Stalled => None,
        ConnectionEnd::Idle | ConnectionEnd::Receiving(_) => {
            let received = match end {
                ConnectionEnd::Receiving(received) => received,
                _ => Vec::new(),
            };
            let prefix = [&received, &parts.read_buf[..], &wire.prefix[..]].concat();
            let local = peer.marked(&local);
            match socket::into_fd(wire.socket) {
                Ok(fd) => Some(IdleConnection { fd, prefix, local }),
                Err(error) => {
                    tracing::warn!(%error, "an idle connection cannot be passed on");
                    None
                }
            }
        }
    }
}

/// Closes the write side, then waits up to [`LINGER`] for the client to close its side.
pub(super) async fn linger(mut socket: Socket) {
    let _ = tokio::time::timeout(LINGER, async {
        socket.shutdown().await?;
        let mut rest = socket.take(LINGER_MAX_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    })
    .await;
}

/// Rejects a client for lack of room: sends `response` in place of an answer to its request.
pub(super) async fn turn_away(mut socket: Socket, response: Arc<[u8]>) {
    let mut head = [0; 1024];
    let _ = tokio::time::timeout(LINGER, async {
        // Some clients discard a response that arrives before they have sent anything.
        let _some = socket.read(&mut head).await?;
        socket.write_all(&response).await
    })
    .await;
    linger(socket).await;
}
