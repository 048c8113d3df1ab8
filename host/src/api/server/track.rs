//! Tracks the state of a connection between requests, to decide whether its socket can be passed on
//! to another worker without losing a byte.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use http::{Request, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use tower::ServiceExt as _;

use super::peer::PeerKind;
use super::silent::Newcomer;

/// After so long without taking a byte, a client is not waited for when the worker leaves.
pub(super) const STALLED: Duration = match cfg!(test) {
    true => Duration::from_millis(50),
    false => Duration::from_secs(1),
};

/// The state of a connection, shared by its parts. All accesses happen on the connection's own
/// task, except when a body is dropped, so the flags need no ordering among each other.
#[derive(Default)]
pub(super) struct Track {
    /// A request was parsed and its response is not completely written.
    answering: AtomicBool,
    /// That request's body is not completely read.
    receiving: AtomicBool,
    /// A request's body was dropped before its end: the next bytes on the wire are not a request.
    spoiled: AtomicBool,
    /// Since when the kernel accepts no more bytes, so that the response is not completely sent, as
    /// [`now`] tells it; 0 while it accepts them.
    blocked_since: AtomicU64,
    /// The socket is to be passed on: no new request is read.
    leaving: AtomicBool,
}

impl Track {
    /// Whether the connection is between requests and everything is written. The socket, and the
    /// bytes that were read of the next request, are then its whole state.
    pub(super) fn is_idle(&self) -> bool {
        !is(&self.answering) && !is(&self.spoiled) && self.blocked_since() == 0
    }

    pub(super) fn is_leaving(&self) -> bool {
        is(&self.leaving)
    }

    pub(super) fn leave(&self) {
        set(&self.leaving, true);
    }

    /// Whether bytes may be read from the socket. Once it is to be passed on, only those of a
    /// request that is already being served.
    pub(super) fn may_read(&self) -> bool {
        !is(&self.leaving) || is(&self.receiving)
    }

    pub(super) fn write_blocked(&self, blocked: bool) {
        match blocked {
            false => self.blocked_since.store(0, Ordering::SeqCst),
            true if self.blocked_since() == 0 => {
                self.blocked_since.store(now(), Ordering::SeqCst);
            }
            true => {}
        }
    }

    /// Whether the client has not taken any of its response for [`STALLED`].
    pub(super) fn has_stalled(&self) -> bool {
        let since = self.blocked_since();
        since != 0 && now() - since >= STALLED.as_millis() as u64
    }

    fn blocked_since(&self) -> u64 {
        self.blocked_since.load(Ordering::SeqCst)
    }
}

/// The milliseconds since some moment of this process, and one.
fn now() -> u64 {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    EPOCH.get_or_init(Instant::now).elapsed().as_millis() as u64 + 1
}

fn is(flag: &AtomicBool) -> bool {
    flag.load(Ordering::SeqCst)
}

fn set(flag: &AtomicBool, to: bool) {
    flag.store(to, Ordering::SeqCst);
}

/// The router as one connection's service.
pub(super) struct Tracked {
    pub(super) router: Router,
    pub(super) track: Arc<Track>,
    /// The connection among those that are silent, if it is new.
    pub(super) newcomer: Option<Newcomer>,
    pub(super) peer: PeerKind,
}

impl hyper::service::Service<Request<Incoming>> for Tracked {
    type Response = Response<TrackedBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        set(&self.track.answering, true);
        if let Some(newcomer) = &self.newcomer {
            newcomer.has_spoken();
        }
        let answering = Answering(self.track.clone());
        let mut request = request.map(|body| Body::new(RequestBody::new(body, self.track.clone())));
        // Most come by the network, about which there is nothing to say.
        if self.peer != PeerKind::Network {
            request.extensions_mut().insert(self.peer);
        }
        let router = self.router.clone();
        Box::pin(async move {
            let response = router.oneshot(request).await?;
            Ok(response.map(|body| TrackedBody {
                body,
                _answering: answering,
            }))
        })
    }
}

/// Marks the connection as answering, until the response is completely written.
struct Answering(Arc<Track>);

impl Drop for Answering {
    fn drop(&mut self) {
        set(&self.0.answering, false);
    }
}

/// A response's body; hyper drops it once its last frame is in the write buffer.
pub(super) struct TrackedBody {
    body: Body,
    _answering: Answering,
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request's body, which records whether it was read to its end.
struct RequestBody {
    body: Incoming,
    ended: bool,
    track: Arc<Track>,
}

impl RequestBody {
    fn new(body: Incoming, track: Arc<Track>) -> Self {
        let ended = body.is_end_stream();
        set(&track.receiving, !ended);
        Self { body, ended, track }
    }

    fn end(&mut self) {
        self.ended = true;
        set(&self.track.receiving, false);
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) || (frame.is_ready() && self.body.is_end_stream()) {
            self.end();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.ended {
            set(&self.track.spoiled, true);
            set(&self.track.receiving, false);
        }
    }
}
