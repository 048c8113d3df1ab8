//! Sockets: of clients on the network, and of those on this machine that come by the local socket.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::net::{AddressFamily, sockopt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

use super::peer::PeerKind;

/// A client's socket.
pub(super) type Socket = Either<TcpStream, UnixStream>;

/// A socket that accepts clients.
pub(super) enum Listener {
    Tcp(TcpListener),
    Local(UnixListener),
}

impl Listener {
    /// Takes a socket that is bound and listens.
    pub(super) fn of(fd: OwnedFd) -> io::Result<Self> {
        if is_local(&fd)? {
            let socket = std::os::unix::net::UnixListener::from(fd);
            socket.set_nonblocking(true)?;
            return Ok(Self::Local(UnixListener::from_std(socket)?));
        }
        let socket = std::net::TcpListener::from(fd);
        socket.set_nonblocking(true)?;
        Ok(Self::Tcp(TcpListener::from_std(socket)?))
    }

    pub(super) async fn accept(&self) -> io::Result<Socket> {
        Ok(match self {
            Self::Tcp(listener) => Either::Left(listener.accept().await?.0),
            Self::Local(listener) => Either::Right(listener.accept().await?.0),
        })
    }
}

/// Takes a client's socket.
pub(super) fn of_fd(fd: OwnedFd) -> io::Result<Socket> {
    if is_local(&fd)? {
        let socket = std::os::unix::net::UnixStream::from(fd);
        socket.set_nonblocking(true)?;
        return Ok(Either::Right(UnixStream::from_std(socket)?));
    }
    let socket = std::net::TcpStream::from(fd);
    socket.set_nonblocking(true)?;
    Ok(Either::Left(TcpStream::from_std(socket)?))
}

/// Gives a client's socket back.
pub(super) fn into_fd(socket: Socket) -> io::Result<OwnedFd> {
    Ok(match socket {
        Either::Left(tcp) => tcp.into_std()?.into(),
        Either::Right(local) => local.into_std()?.into(),
    })
}

/// Makes a client's socket send small responses at once, without the acknowledgement of earlier ones.
pub(super) fn send_at_once(socket: &Socket) {
    if let Either::Left(tcp) = socket
        && let Err(error) = tcp.set_nodelay(true)
    {
        tracing::debug!(%error, "TCP_NODELAY was refused");
    }
}

/// Returns who is at the other end of a connection that was just accepted.
pub(super) async fn peer(socket: &Socket) -> PeerKind {
    match socket {
        Either::Left(_) => PeerKind::Network,
        Either::Right(local) => PeerKind::at(local).await,
    }
}

/// Returns who is at the other end of a connection that was passed on with this label, and the label that
/// it has here.
pub(super) fn passed_on<'l>(socket: &Socket, label: &'l str) -> (&'l str, PeerKind) {
    match socket {
        Either::Left(_) => (label, PeerKind::Network),
        Either::Right(_) => PeerKind::split(label, PeerKind::Stranger),
    }
}

fn is_local(fd: &OwnedFd) -> io::Result<bool> {
    Ok(sockopt::socket_domain(fd.as_fd())? == AddressFamily::UNIX)
}
