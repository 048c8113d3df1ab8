//! The worker's end of the link.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Mutex;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::net::{RecvFlags, SendFlags, SocketType, sockopt};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use super::message::{FromWorker, Start, ToWorker};
use super::socket::{self, SocketInput};
use super::wire_error::WireError;

/// A worker's link to its supervisor. It may be shared between threads: one that receives, and any
/// number that send. All calls block.
#[derive(Debug)]
pub struct Link {
    socket: OwnedFd,
    /// The receive buffer. Only one thread is meant to receive; the lock makes a second one wait.
    buffer: Mutex<Vec<u8>>,
}

/// The reason why a call of the link failed.
#[derive(Debug)]
pub enum LinkError {
    /// The supervisor is gone. A worker must not outlive it, so exit.
    Closed,
    /// The process was not started by a supervisor.
    NotAWorker,
    /// The supervisor died before this worker was set up to notice it, so exit.
    Orphaned,
    /// The first message was not [`ToWorker::Start`].
    NoStart,
    /// A message could not be encoded or decoded.
    Wire(WireError),
    /// A system call failed.
    Io(io::Error),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => write!(f, "the supervisor is gone"),
            Self::NotAWorker => write!(
                f,
                "this process was not started by a supervisor; start the daemon with `abide serve`"
            ),
            Self::Orphaned => write!(f, "the supervisor died while this worker started"),
            Self::NoStart => write!(f, "the supervisor did not say first what to start as"),
            Self::Wire(error) => write!(f, "a message of the supervisor's link: {error}"),
            Self::Io(error) => write!(f, "the supervisor's link: {error}"),
        }
    }
}

impl std::error::Error for LinkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Wire(error) => Some(error),
            Self::Io(error) => Some(error),
            Self::Closed | Self::NotAWorker | Self::Orphaned | Self::NoStart => None,
        }
    }
}

impl From<rustix::io::Errno> for LinkError {
    fn from(errno: rustix::io::Errno) -> Self {
        match errno {
            rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET => Self::Closed,
            errno => Self::Io(errno.into()),
        }
    }
}

/// Connects a worker to its supervisor: ties its life to the supervisor's, takes the link from
/// standard input (which becomes `/dev/null`) and waits for [`ToWorker::Start`]. Must be the first
/// call of a worker, on its main thread.
///
/// # Errors
/// [`LinkError::NotAWorker`] if standard input is not a link, [`LinkError::Closed`] and
/// [`LinkError::Orphaned`] if the supervisor is dead, [`LinkError::NoStart`] or
/// [`LinkError::Wire`] if it sends something else.
pub fn connect() -> Result<(Link, Start), LinkError> {
    let stdin = rustix::stdio::stdin();
    if !matches!(sockopt::socket_type(stdin), Ok(SocketType::SEQPACKET)) {
        return Err(LinkError::NotAWorker);
    }
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let socket = fcntl_dupfd_cloexec(stdin, 3)?;
    // Processes that this worker starts must neither hold the link open nor read from it.
    let null = std::fs::File::open("/dev/null").map_err(LinkError::Io)?;
    rustix::stdio::dup2_stdin(&null)?;
    let link = Link::new(socket);
    let ToWorker::Start(start) = link.recv()? else {
        return Err(LinkError::NoStart);
    };
    // If the supervisor died between the fork and `set_parent_process_death_signal`, the signal is
    // never sent: check the parent.
    let parent = getppid().map_or(0, |pid| pid.as_raw_pid().unsigned_abs());
    if parent != start.supervisor_pid {
        return Err(LinkError::Orphaned);
    }
    Ok((link, start))
}

impl Link {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            buffer: Mutex::new(Vec::new()),
        }
    }

    /// Waits for the supervisor's next message. Messages of kinds that this version does not know
    /// are skipped.
    ///
    /// # Errors
    /// [`LinkError::Closed`] once the supervisor is gone; the worker must then exit.
    /// [`LinkError::Wire`] for a malformed message, after which the link still works.
    pub fn recv(&self) -> Result<ToWorker, LinkError> {
        // Poisoning is ignored: if a thread panicked while it received, the buffer is not in a bad
        // state, since each call overwrites it.
        let mut buffer = self
            .buffer
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        loop {
            match socket::receive(&self.socket, &mut buffer, RecvFlags::empty())? {
                SocketInput::Closed => return Err(LinkError::Closed),
                SocketInput::Oversized => {
                    return Err(LinkError::Wire(WireError::Descriptor(
                        "a frame was cut, or no descriptor was free".to_owned(),
                    )));
                }
                SocketInput::Frame(frame) => match ToWorker::decode(frame) {
                    Err(WireError::UnknownKind(_)) => {}
                    decoded => return decoded.map_err(LinkError::Wire),
                },
            }
        }
    }

    /// Sends a message. Blocks while the supervisor does not keep up (backpressure). The message's
    /// descriptors are closed on this side once it is sent.
    ///
    /// # Errors
    /// [`LinkError::Wire`] if a part is too large, in which case nothing is sent;
    /// [`LinkError::Closed`] if the supervisor is gone.
    pub fn send(&self, message: FromWorker) -> Result<(), LinkError> {
        let frame = message.encode().map_err(LinkError::Wire)?;
        socket::send(&self.socket, &frame, SendFlags::empty())?;
        Ok(())
    }
}
