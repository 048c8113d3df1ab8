//! The supervisor's end of one worker's link. No call blocks.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::Pid;

use super::process::Binary;
use super::socket::{self, SocketInput};
use super::wire::WireFrame;

/// The number of frames queued for a worker at which the supervisor stops reading from all workers
/// (backpressure).
const MAX_QUEUE: usize = 256;
/// How long a frame may be queued for a worker before the worker counts as hung.
const SEND_DEADLINE: Duration = Duration::from_secs(10);

/// A worker process and the link to it.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) pid: Pid,
    pub(super) link: OwnedFd,
    /// The binary that it was started from.
    pub(super) binary: Rc<Binary>,
    /// Whether the worker's end is closed: there is nothing more to send or receive.
    pub(super) closed: bool,
    queue: VecDeque<WireFrame>,
    /// When sending the first frame of the queue was first found to block.
    waits_since: Option<Instant>,
}

/// The result of receiving from a worker's link.
pub(super) enum LinkInput {
    Frame(WireFrame),
    Nothing,
    /// The worker has closed its end. Reported once.
    Closed,
    Broken(String),
}

impl Peer {
    pub(super) fn new(pid: Pid, link: OwnedFd, binary: Rc<Binary>) -> Self {
        Self {
            pid,
            link,
            binary,
            closed: false,
            queue: VecDeque::new(),
            waits_since: None,
        }
    }

    /// Returns the events to poll its link for.
    pub(super) fn interest(&self, listen: bool) -> PollFlags {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, listen);
        flags.set(PollFlags::OUT, !self.queue.is_empty());
        flags
    }

    pub(super) fn congested(&self) -> bool {
        self.queue.len() >= MAX_QUEUE
    }

    /// Returns the time left before the worker counts as hung for not reading; none if no frame is
    /// waiting to be sent.
    pub(super) fn patience(&self) -> Option<Duration> {
        Some(SEND_DEADLINE.saturating_sub(self.waits_since?.elapsed()))
    }

    /// Gives the worker so much longer to read.
    pub(super) fn bear_with(&mut self, time: Duration) {
        self.waits_since = self.waits_since.map(|since| since + time);
    }

    /// Sends a frame, or queues it if the socket is full.
    pub(super) fn send(&mut self, frame: WireFrame) -> Result<(), Errno> {
        if !self.closed {
            self.queue.push_back(frame);
        }
        self.flush()
    }

    /// Sends as many queued frames as possible.
    pub(super) fn flush(&mut self) -> Result<(), Errno> {
        while let Some(frame) = self.queue.front() {
            match socket::send(&self.link, frame, SendFlags::DONTWAIT) {
                Ok(()) => {
                    self.queue.pop_front();
                    self.waits_since = None;
                }
                Err(Errno::AGAIN) => {
                    self.waits_since.get_or_insert_with(Instant::now);
                    break;
                }
                // The worker is dead or dying; what it has sent can still be received, so this is
                // not an error.
                Err(Errno::PIPE | Errno::CONNRESET) => {
                    self.give_up_sending();
                    break;
                }
                Err(error) => {
                    self.give_up_sending();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn give_up_sending(&mut self) {
        self.queue.clear();
        self.waits_since = None;
    }

    /// Receives the next frame, if there is one.
    pub(super) fn next(&mut self, buffer: &mut Vec<u8>) -> LinkInput {
        if self.closed {
            return LinkInput::Nothing;
        }
        match socket::receive(&self.link, buffer, RecvFlags::DONTWAIT) {
            Ok(SocketInput::Frame(frame)) => LinkInput::Frame(frame),
            Ok(SocketInput::Oversized) => {
                LinkInput::Broken("a frame was cut, or no descriptor was free".to_owned())
            }
            Err(Errno::AGAIN) => LinkInput::Nothing,
            Ok(SocketInput::Closed) => {
                self.closed = true;
                self.give_up_sending();
                LinkInput::Closed
            }
            Err(error) => {
                self.closed = true;
                self.give_up_sending();
                LinkInput::Broken(error.to_string())
            }
        }
    }
}
