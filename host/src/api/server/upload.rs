//! A request's body while it arrives. What has arrived is kept with the request's head, so that another
//! worker can read the request from its beginning: before a handler has the whole body, it does nothing.
//! (An operator's act is in the audit log twice then: without an end, and with one.)

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use axum::body::{Bytes, HttpBody as _};
use http::header::TRANSFER_ENCODING;
use http::request::Parts;
use hyper::body::{Frame, Incoming, SizeHint};

/// The longest request head, and the most bytes that are passed on with a connection.
pub(super) const HEAD_MAX_BYTES: usize = 64 << 10;

/// After so long without a byte to or from it, a client is not waited for when the worker leaves.
pub(super) const STALLED: Duration = match cfg!(test) {
    true => Duration::from_millis(50),
    false => Duration::from_secs(1),
};

/// A body of which a part is still to come.
pub(super) struct Upload {
    body: Incoming,
    /// What was taken out of the body and not read yet.
    unread: VecDeque<Result<Frame<Bytes>, hyper::Error>>,
    /// The request as far as it has arrived; none if it cannot be passed on.
    kept: Option<Vec<u8>>,
    /// When the last part of it arrived.
    last: Instant,
}

impl Upload {
    /// `first` has been taken out of the body before, and is read first.
    pub(super) fn new(
        head: &Parts,
        first: Option<Result<Frame<Bytes>, hyper::Error>>,
        body: Incoming,
    ) -> Self {
        // Within a body in chunks, nobody knows where the next one begins.
        let kept = (!head.headers.contains_key(TRANSFER_ENCODING)).then(|| text_of(head));
        let mut upload = Self {
            body,
            unread: VecDeque::new(),
            kept,
            last: Instant::now(),
        };
        if let Some(first) = first {
            upload.keep(&first);
            upload.unread.push_back(first);
        }
        upload
    }

    pub(super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.unread.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => self.poll_body(context),
        }
    }

    fn poll_body(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(frame)) = &polled {
            self.keep(frame);
        }
        polled
    }

    pub(super) fn is_over(&self) -> bool {
        self.unread.is_empty() && self.body.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let unread = self
            .unread
            .iter()
            .filter_map(|it| it.as_ref().ok()?.data_ref());
        let unread = unread.map(|data| data.len() as u64).sum::<u64>();
        let body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + unread);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + unread);
        }
        hint
    }

    /// Returns the request as far as it has been received, what nobody has read yet included: nothing may be
    /// read from it afterwards. None if it cannot be passed on; then it goes on as before.
    pub(super) fn received(&mut self) -> Option<Vec<u8>> {
        let mut context = Context::from_waker(Waker::noop());
        while self.kept.is_some() && !self.body.is_end_stream() {
            match self.poll_body(&mut context) {
                Poll::Ready(Some(frame)) => self.unread.push_back(frame),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        self.kept.take()
    }

    /// Whether nothing has arrived for [`STALLED`].
    pub(super) fn has_stalled(&self) -> bool {
        self.last.elapsed() >= STALLED
    }

    fn keep(&mut self, frame: &Result<Frame<Bytes>, hyper::Error>) {
        self.last = Instant::now();
        let Some(kept) = &mut self.kept else { return };
        match frame.as_ref().ok().and_then(Frame::data_ref) {
            Some(data) if kept.len() + data.len() <= HEAD_MAX_BYTES => kept.extend_from_slice(data),
            _ => self.kept = None,
        }
    }
}

/// Returns a request's head as it is sent.
fn text_of(head: &Parts) -> Vec<u8> {
    let Parts {
        method,
        uri,
        version,
        headers,
        ..
    } = head;
    let mut line = String::new();
    // Writing to a string never fails.
    let _ = write!(line, "{method} {uri} {version:?}\r\n");
    let mut text = line.into_bytes();
    for (name, value) in headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            text.extend_from_slice(part);
        }
    }
    text.extend_from_slice(b"\r\n");
    text
}
