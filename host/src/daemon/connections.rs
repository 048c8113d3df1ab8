//! An open connection of a client, as the server has it and as the supervisor passes it on.

use crate::api::server::{IdleConnection, Server};
use crate::supervisor::Connection;

/// Returns what the supervisor passes on to the next worker.
pub(super) fn to_pass_on(idle: IdleConnection) -> Connection {
    let IdleConnection { fd, prefix, local } = idle;
    Connection {
        prefix,
        addr: local,
        fd,
    }
}

/// Serves a connection that another worker has passed on.
pub(super) fn adopt(server: &Server, connection: Connection) {
    let Connection { prefix, addr, fd } = connection;
    if let Err(error) = server.adopt(IdleConnection {
        fd,
        prefix,
        local: addr,
    }) {
        tracing::warn!(%error, "a connection that was passed on cannot be served");
    }
}
