//! Where a connection stands between requests: the one question is whether its socket can be
//! passed on without losing a byte.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use http::{Request, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use tower::ServiceExt as _;

/// What a connection's parts know of it. All but a dropped body happens on the connection's own
/// task, so the flags need no ordering among each other.
#[derive(Default)]
pub(super) struct Track {
    /// A request was parsed and its response has not been written to its end.
    answering: AtomicBool,
    /// That request's body has not been read to its end.
    receiving: AtomicBool,
    /// A request's body was left unread: what comes next on the wire is not a request.
    spoiled: AtomicBool,
    /// The kernel does not take more bytes now, so the response is not out yet.
    blocked: AtomicBool,
    /// The socket shall leave: nothing new is read.
    leaving: AtomicBool,
}

impl Track {
    /// Between requests, with everything written: the socket and what was read of the next
    /// request are all there is.
    pub(super) fn is_idle(&self) -> bool {
        !is(&self.answering) && !is(&self.spoiled) && !is(&self.blocked)
    }

    pub(super) fn is_leaving(&self) -> bool {
        is(&self.leaving)
    }

    pub(super) fn leave(&self) {
        set(&self.leaving, true);
    }

    /// Whether bytes may be taken from the socket. Once it shall leave, only those of a request
    /// that has begun to be served.
    pub(super) fn may_read(&self) -> bool {
        !is(&self.leaving) || is(&self.receiving)
    }

    pub(super) fn write_blocked(&self, blocked: bool) {
        set(&self.blocked, blocked);
    }
}

fn is(flag: &AtomicBool) -> bool {
    flag.load(Ordering::SeqCst)
}

fn set(flag: &AtomicBool, to: bool) {
    flag.store(to, Ordering::SeqCst);
}

/// The router as one connection's service.
#[derive(Clone)]
pub(super) struct Tracked {
    pub(super) router: Router,
    pub(super) track: Arc<Track>,
}

impl hyper::service::Service<Request<Incoming>> for Tracked {
    type Response = Response<TrackedBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        set(&self.track.answering, true);
        let answering = Answering(self.track.clone());
        let request = request.map(|body| Body::new(RequestBody::new(body, self.track.clone())));
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

/// Lives as long as the response is not written to its end.
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

/// A request's body, which tells whether it was read to its end.
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
