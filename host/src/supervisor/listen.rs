//! Binding listening sockets, and keeping them while workers come and go.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with, sockopt,
};

use super::machine::WorkerId;

/// The number of connections that wait in the kernel while no worker accepts. It is large, since
/// clients that connect during a restart wait there; the kernel caps it at `net.core.somaxconn`.
pub const LISTEN_BACKLOG: i32 = 4096;

/// The maximum number of listeners that are kept, besides a local one: together with the config, their
/// descriptors must fit into one message.
pub const MAX_LISTENERS: usize = 32;

/// The usual sign of an abstract name.
const LOCAL_SIGN: char = '@';

/// Binds a listening TCP socket, non-blocking and close-on-exec. It does not share its port
/// (no `SO_REUSEPORT`), so that a port in use is reported.
///
/// # Errors
/// Those of `socket`, `bind` and `listen`, unchanged; the caller knows the origin of the address.
pub fn bind_listener(addr: SocketAddr) -> io::Result<OwnedFd> {
    let family = match addr {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let fd = stream_socket(family)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    bind(&fd, &addr)?;
    listen(&fd, LISTEN_BACKLOG)?;
    Ok(fd)
}

/// Binds a listening local socket to an abstract name, non-blocking and close-on-exec. The name is no
/// file's: it is gone with the last process that holds the socket.
///
/// # Errors
/// Those of `socket`, `bind` and `listen`, unchanged.
pub fn bind_local_listener(name: &str) -> io::Result<OwnedFd> {
    let fd = stream_socket(AddressFamily::UNIX)?;
    bind(&fd, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
    listen(&fd, LISTEN_BACKLOG)?;
    Ok(fd)
}

/// Returns what a local listener with this abstract name is called among the others, which are called by
/// their addresses.
pub fn local_name(name: &str) -> String {
    format!("{LOCAL_SIGN}{name}")
}

/// Whether a listener of this name is a local one.
pub fn is_local_name(name: &str) -> bool {
    name.starts_with(LOCAL_SIGN)
}

fn stream_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(family, SocketType::STREAM, flags, None)?)
}

/// The listeners that outlive the workers that use them.
#[derive(Debug, Default)]
pub(super) struct Listeners(Vec<HeldListener>);

#[derive(Debug)]
struct HeldListener {
    addr: String,
    fd: OwnedFd,
    from: WorkerId,
    /// Whether a `Serving` message has named it. Until then it is closed when its worker dies.
    in_use: bool,
}

impl Listeners {
    /// Keeps a listener, unless one with the same address is kept already. Returns a reason, which
    /// completes a sentence about the worker, if there are too many.
    pub(super) fn announce(
        &mut self,
        from: WorkerId,
        addr: String,
        fd: OwnedFd,
    ) -> Result<(), String> {
        if self.0.iter().any(|kept| kept.addr == addr) {
            return Ok(());
        }
        let is_local = is_local_name(&addr);
        let most = if is_local { 1 } else { MAX_LISTENERS };
        let alike = self
            .0
            .iter()
            .filter(|kept| is_local_name(&kept.addr) == is_local);
        if alike.count() >= most {
            return Err(format!(
                "more than {MAX_LISTENERS} listeners, or two local ones"
            ));
        }
        self.0.push(HeldListener {
            addr,
            fd,
            from,
            in_use: false,
        });
        Ok(())
    }

    /// Closes the listeners that the serving worker does not use, except those that its standby has
    /// announced.
    pub(super) fn settle(&mut self, serving: WorkerId, used: &[String]) {
        self.0.retain_mut(|kept| {
            if used.contains(&kept.addr) {
                kept.in_use = true;
                return true;
            }
            !kept.in_use && kept.from != serving
        });
    }

    /// Closes the listeners that a dead worker had announced and no serving worker has used.
    pub(super) fn gone(&mut self, worker: WorkerId) {
        self.0.retain(|kept| kept.in_use || kept.from != worker);
    }

    /// Duplicates the descriptors of all listeners, for a new worker.
    pub(super) fn handles(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        self.0
            .iter()
            .map(|kept| Ok((kept.addr.clone(), kept.fd.try_clone()?)))
            .collect()
    }
}
