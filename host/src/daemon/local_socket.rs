//! The local socket, by which commands on this machine are known as the operator's where no token is
//! configured. Its name is drawn once per supervisor, which keeps the socket while workers come and go;
//! whoever may not do a thing as anybody is told the name.
//!
//! The name is an abstract one: no file of a data folder that is copied or put back, and to be reached from
//! all of the same network namespace, whatever folders are visible there. Who connects is judged by what
//! the kernel says of the process (`api/server/peer.rs`), not by the rights of a file.

use std::io;
use std::os::fd::OwnedFd;

use crate::api::server::BoundListener;
use crate::supervisor::{
    FromWorker, Link, MAX_LISTENERS, bind_local_listener, is_local_name, local_name,
};

/// Returns the local socket: the one that the supervisor has `kept`, or a new one, which is sent to the
/// supervisor at once; that may have `held` other sockets by now. None if there cannot be one.
pub(super) fn obtain(
    kept: &mut Vec<(String, OwnedFd)>,
    held: usize,
    link: &Link,
) -> Option<BoundListener> {
    if let Some(at) = kept.iter().position(|(name, _)| is_local_name(name)) {
        let (label, socket) = kept.swap_remove(at);
        return Some(BoundListener { socket, label });
    }
    let name = format!("abide-{:016x}", rand::random::<u64>());
    // A supervisor of an earlier version counts it among the others.
    let bound = match held < MAX_LISTENERS {
        true => bind(&name, link),
        false => Err(io::Error::other("there are too many other addresses")),
    };
    match bound {
        Ok(listener) => Some(listener),
        Err(error) => {
            tracing::warn!(
                %error,
                "there is no local socket: without a token, nobody can decide approvals; configure one \
                 (`token_env` or `token_file` under [daemon])"
            );
            None
        }
    }
}

fn bind(name: &str, link: &Link) -> io::Result<BoundListener> {
    let socket = bind_local_listener(name)?;
    let label = local_name(name);
    link.send(FromWorker::Listening {
        addr: label.clone(),
        fd: socket.try_clone()?,
    })
    .map_err(io::Error::other)?;
    Ok(BoundListener { socket, label })
}
