//! Tracks the state of a connection between requests, to decide whether its socket can be passed on
//! to another worker without losing a byte.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use http::request::Parts;
use http::{Request, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use tower::ServiceExt as _;

use super::peer::PeerKind;
use super::silent::Newcomer;
use super::upload::{STALLED, Upload};

/// The state of a connection, shared by its parts. All accesses happen on the connection's own
/// task, except when a body is dropped, so the flags need no ordering among each other.
#[derive(Default)]
pub(super) struct Track {
    /// A request was parsed and its response is not completely written.
    answering: AtomicBool,
    /// That request's body, as long as it is not completely read.
    receiving: Mutex<Option<Arc<Mutex<Upload>>>>,
    /// A request's body was dropped before its end: the next bytes on the wire are not a request.
    spoiled: AtomicBool,
    /// Since when the kernel accepts no more bytes, so that the response is not completely sent, as
    /// [`now`] tells it; 0 while it accepts them.
    blocked_since: AtomicU64,
    /// The socket is to be passed on: no new request is read.
    leaving: AtomicBool,
    /// What has not arrived by now is not waited for.
    closing: AtomicBool,
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
        !is(&self.leaving) || lock(&self.receiving).is_some()
    }

    /// Ends the body that is being received with [`BodyError::Interrupted`].
    pub(super) fn close(&self) {
        set(&self.closing, true);
    }

    /// Returns what has arrived of a request whose body is still being received, if it can be passed on as
    /// the beginning of what comes: see [`Upload::received`].
    pub(super) fn received(&self) -> Option<Vec<u8>> {
        let upload = lock(&self.receiving);
        let upload = upload.as_ref().filter(|_| self.blocked_since() == 0)?;
        lock(upload).received()
    }

    /// Whether a request is being received of which nothing comes any more.
    pub(super) fn receives_nothing(&self) -> bool {
        let upload = lock(&self.receiving);
        upload.as_ref().is_some_and(|it| lock(it).has_stalled())
    }

    fn receives(&self, upload: Option<Arc<Mutex<Upload>>>) {
        *lock(&self.receiving) = upload;
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

/// Locks what one task uses. Poisoning is harmless: that task is over then.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        let (track, peer, router) = (self.track.clone(), self.peer, self.router.clone());
        Box::pin(async move {
            let (mut head, body) = request.into_parts();
            let body = RequestBody::of(&head, body, track).await;
            // Most come by the network, about which there is nothing to say.
            if peer != PeerKind::Network {
                head.extensions.insert(peer);
            }
            let request = Request::from_parts(head, Body::new(body));
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
    /// All of it, if it arrived with the head.
    first: Option<Frame<Bytes>>,
    /// What is still to come, if anything is.
    rest: Option<Arc<Mutex<Upload>>>,
    track: Arc<Track>,
}

/// Why a body ends before its end.
#[derive(Debug, thiserror::Error)]
pub(in crate::api) enum BodyError {
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    /// The worker leaves, and the request cannot be passed on to the next one.
    #[error("the daemon restarted before the body was there")]
    Interrupted,
}

impl RequestBody {
    async fn of(head: &Parts, mut body: Incoming, track: Arc<Track>) -> Self {
        let mut this = Self {
            first: None,
            rest: None,
            track,
        };
        if body.is_end_stream() {
            return this;
        }
        // Most bodies have arrived with their head, and there is nothing to keep of the request.
        let first = poll_fn(|context| Poll::Ready(Pin::new(&mut body).poll_frame(context))).await;
        let first = match first {
            Poll::Ready(Some(Ok(frame))) if body.is_end_stream() => {
                this.first = Some(frame);
                return this;
            }
            Poll::Ready(None) => return this,
            Poll::Ready(Some(first)) => Some(first),
            Poll::Pending => None,
        };
        let upload = Arc::new(Mutex::new(Upload::new(head, first, body)));
        this.track.receives(Some(upload.clone()));
        this.rest = Some(upload);
        this
    }

    fn end(&mut self) {
        self.rest = None;
        self.track.receives(None);
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        let Some(upload) = &self.rest else {
            return Poll::Ready(None);
        };
        let mut upload = lock(upload);
        let frame = upload.poll_frame(cx);
        let is_over = upload.is_over();
        drop(upload);
        match frame {
            Poll::Pending if is(&self.track.closing) => {
                Poll::Ready(Some(Err(BodyError::Interrupted)))
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(frame) => {
                if frame.is_none() || is_over {
                    self.end();
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Broken)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().and_then(Frame::data_ref);
        match &self.rest {
            Some(rest) => lock(rest).size_hint(),
            None => SizeHint::with_exact(first.map_or(0, Bytes::len) as u64),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if self.rest.is_some() {
            set(&self.track.spoiled, true);
            self.track.receives(None);
        }
    }
}
