//! The listening sockets: how one is bound, and which ones are kept.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use super::machine::WorkerId;

/// How many connections wait in the kernel while no worker accepts. Clients that come during a
/// restart wait there, so it is large; the kernel cuts it to `net.core.somaxconn`.
pub const LISTEN_BACKLOG: i32 = 4096;

/// The most listeners that are kept: with the config, they must fit into one message.
pub const MAX_LISTENERS: usize = 32;

/// Binds a listening TCP socket, non-blocking and closed on exec. No other process can share its
/// port: a port in use must be seen.
///
/// # Errors
/// Those of `socket`, `bind` and `listen`, as they are; the caller knows where the address is from.
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

/// The listeners that are kept over the workers' lives.
#[derive(Debug, Default)]
pub(super) struct Listeners(Vec<HeldListener>);

#[derive(Debug)]
struct HeldListener {
    addr: String,
    fd: OwnedFd,
    from: WorkerId,
    /// Whether a `Serving` has named it. Until then it lives and dies with its worker.
    in_use: bool,
}

impl Listeners {
    /// Keeps one, unless there is one of that address. The reason given if there are too many
    /// ends a sentence on the worker.
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

    /// Closes those that the serving worker does not use. What its standby has announced stays.
    pub(super) fn settle(&mut self, serving: WorkerId, used: &[String]) {
        self.0.retain_mut(|kept| {
            if used.contains(&kept.addr) {
                kept.in_use = true;
                return true;
            }
            !kept.in_use && kept.from != serving
        });
    }

    /// Closes those that a dead worker had announced and nobody has used.
    pub(super) fn gone(&mut self, worker: WorkerId) {
        self.0.retain(|kept| kept.in_use || kept.from != worker);
    }

    /// Handles to all of them, for a new worker.
    pub(super) fn handles(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        self.0
            .iter()
            .map(|kept| Ok((kept.addr.clone(), kept.fd.try_clone()?)))
            .collect()
    }
}
