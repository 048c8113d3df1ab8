//! An open connection of a client, as the server has it and as the supervisor passes it on.

use crate::api::server::IdleConnection;
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

/// Returns what a server adopts.
pub(super) fn to_adopt(connection: Connection) -> IdleConnection {
    let Connection { prefix, addr, fd } = connection;
    IdleConnection {
        fd,
        prefix,
        local: addr,
    }
}
