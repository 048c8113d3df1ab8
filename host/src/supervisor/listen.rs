//! Binding listening sockets, and keeping them while workers come and go.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use super::machine::WorkerId;

/// The number of connections that wait in the kernel while no worker accepts. It is large, since
/// clients that connect during a restart wait there; the kernel caps it at `net.core.somaxconn`.
pub const LISTEN_BACKLOG: i32 = 4096;

/// The maximum number of listeners that are kept: together with the config, their descriptors must
/// fit into one message.
pub const MAX_LISTENERS: usize = 32;

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
    let fd = socket_with(
        family,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    bind(&fd, &addr)?;
    listen(&fd, LISTEN_BACKLOG)?;
    Ok(fd)
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
        if self.0.len() >= MAX_LISTENERS {
            return Err(format!("more than {MAX_LISTENERS} listeners"));
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
