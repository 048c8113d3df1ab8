//! The supervisor's end of one worker's link. Nothing here blocks.

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

/// How many frames may wait for a worker until the others are not listened to any more, and wait
/// in their turn.
const MAX_QUEUE: usize = 256;
/// How long a frame may wait for a worker until that counts as hung.
const SEND_DEADLINE: Duration = Duration::from_secs(10);

/// A worker process and the link to it.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) pid: Pid,
    pub(super) link: OwnedFd,
    /// What it was started from.
    pub(super) binary: Rc<Binary>,
    /// Whether its end is closed: there is nothing more to send or receive.
    pub(super) closed: bool,
    queue: VecDeque<WireFrame>,
    /// Since when the first frame of the queue has waited.
    waits_since: Option<Instant>,
}

/// What a worker's link had.
pub(super) enum LinkInput {
    Frame(WireFrame),
    Nothing,
    /// The end, told once.
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

    /// What to wait for on its link.
    pub(super) fn interest(&self, listen: bool) -> PollFlags {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, listen);
        flags.set(PollFlags::OUT, !self.queue.is_empty());
        flags
    }

    pub(super) fn congested(&self) -> bool {
        self.queue.len() >= MAX_QUEUE
    }

    /// How long until it counts as hung for not reading, if it does not read.
    pub(super) fn patience(&self) -> Option<Duration> {
        Some(SEND_DEADLINE.saturating_sub(self.waits_since?.elapsed()))
    }

    /// Sends a frame now or later.
    pub(super) fn send(&mut self, frame: WireFrame) -> Result<(), Errno> {
        if !self.closed {
            self.queue.push_back(frame);
        }
        self.flush()
    }

    /// Sends what can be sent now.
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
                // It is dead or dying; what it has said before is still there to be received.
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

    /// Receives a frame, if there is one.
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
