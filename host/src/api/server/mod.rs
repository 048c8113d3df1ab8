//! Connections: how they are accepted, served, and passed on to the next worker.
//!
//! ```text
//!   listeners --accept--> one task per connection --- hand_over ---> IdleConnection --> adopt
//!                          hyper http/1 + router        between requests: at once
//!                                                       amid a request's body: at once, if it is small
//!                                                       busy: after its response
//!                                                       still busy after `linger`: closed politely
//! ```
//!
//! Closing an idle keep-alive connection races with the client's next request, and hyper drops
//! connections that have not sent a byte yet. So a hand-over closes none of them: hyper returns the
//! socket and the bytes that it has read, and the next worker continues from there.

mod connection;
mod peer;
mod silent;
mod socket;
#[cfg(test)]
mod tests;
mod track;
mod unavailable;
mod upload;
mod wire;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use connection::IdleConnection;
use connection::{Signals, serve, turn_away};
pub(super) use peer::PeerKind;
use silent::{Newcomer, Silent};
use socket::{Listener, Socket};
pub(super) use track::BodyError;

/// The default maximum of connections that a server holds.
pub const CONNECTIONS_MAX: usize = 8192;
/// The maximum number of clients that are rejected for lack of room at the same time; further ones
/// wait in the listen backlog.
const TURNED_AWAY_MAX: usize = 64;
/// How long a connection may be silent, without a complete request, before it makes room for another one.
const SILENT_LEAST: Duration = match cfg!(test) {
    true => Duration::from_millis(50),
    false => Duration::from_secs(2),
};
/// How long the end of a silent connection may take.
const ROOM_PATIENCE: Duration = Duration::from_secs(1);
/// The pause after an error of `accept`, such as no free descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A socket to accept connections from.
#[derive(Debug)]
pub struct BoundListener {
    /// The bound and listening socket: of TCP, or a local one.
    pub socket: OwnedFd,
    /// The address, as written in the configuration, or the local socket's name.
    pub label: String,
}

impl BoundListener {
    /// Returns a second handle to the same socket: connections that one does not accept wait for the
    /// other.
    ///
    /// # Errors
    /// If there is no free descriptor.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            socket: self.socket.try_clone()?,
            label: self.label.clone(),
        })
    }
}

/// A server that has its listeners and accepts nothing yet: who connects waits in the backlog.
/// Between [`PreparedServer::of`], which can fail, and [`PreparedServer::start`], which cannot, the
/// worker tells the supervisor that it serves, so that no client is answered before.
pub struct PreparedServer {
    shared: Arc<ServerShared>,
    listeners: Vec<(Listener, Arc<str>)>,
    passed_on: mpsc::UnboundedReceiver<IdleConnection>,
}

/// The server of one worker.
pub struct Server {
    shared: Arc<ServerShared>,
    acceptors: JoinSet<()>,
    stop_accepting: CancellationToken,
    passed_on: mpsc::UnboundedReceiver<IdleConnection>,
}

struct ServerShared {
    router: Router,
    signals: Signals,
    tasks: TaskTracker,
    /// One permit per connection; this also bounds the channel `pass_on`.
    room: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
    silent: Arc<Silent>,
    no_room: Arc<[u8]>,
    pass_on: mpsc::UnboundedSender<IdleConnection>,
}

impl PreparedServer {
    /// Prepares to serve `router` on the listeners, with at most `connections_max` connections at a
    /// time; further ones get a 503.
    ///
    /// # Errors
    /// If the runtime cannot take a listener.
    pub fn of(
        listeners: Vec<BoundListener>,
        router: Router,
        connections_max: usize,
    ) -> io::Result<Self> {
        let (pass_on, passed_on) = mpsc::unbounded_channel();
        let shared = Arc::new(ServerShared {
            router,
            signals: Signals::default(),
            tasks: TaskTracker::new(),
            room: Arc::new(Semaphore::new(connections_max)),
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY_MAX)),
            silent: Arc::default(),
            no_room: unavailable::no_room(connections_max).into(),
            pass_on,
        });
        let listeners = listeners
            .into_iter()
            .map(|BoundListener { socket, label }| Ok((Listener::of(socket)?, label.into())))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            shared,
            listeners,
            passed_on,
        })
    }

    /// Begins to accept connections.
    pub fn start(self) -> Server {
        let stop_accepting = CancellationToken::new();
        let mut acceptors = JoinSet::new();
        for (socket, label) in self.listeners {
            let accepting = accept(socket, label, self.shared.clone());
            let stop = stop_accepting.clone();
            acceptors.spawn(async move { stop.run_until_cancelled(accepting).await.unwrap_or(()) });
        }
        Server {
            shared: self.shared,
            acceptors,
            stop_accepting,
            passed_on: self.passed_on,
        }
    }
}

impl Server {
    /// Serves a connection that the previous worker passed on.
    ///
    /// # Errors
    /// If the descriptor is no socket.
    pub fn adopt(&self, idle: IdleConnection) -> io::Result<()> {
        let socket = socket::of_fd(idle.fd)?;
        // A connection that existed before is kept, even if there is no room now.
        let permit = self.shared.room.clone().try_acquire_owned().ok();
        let prefix = Bytes::from(idle.prefix);
        let (local, peer) = socket::passed_on(&socket, &idle.local);
        let local = local.into();
        // It has spoken to the worker before, perhaps.
        self.shared
            .serve(socket, prefix, local, Some(peer), permit, None);
        Ok(())
    }

    /// Returns the number of open connections.
    pub fn connections(&self) -> usize {
        self.shared.tasks.len()
    }

    /// Stops serving for good, like [`Server::hand_over`], and drops the connections.
    pub async fn stop(self, linger: Duration) {
        self.shared.signals.is_last.cancel();
        drop(self.hand_over(linger).await);
    }

    /// Stops serving: accepts no more connections, and returns every connection as soon as it is
    /// between two requests, or amid a request whose body the next server can go on with. A
    /// connection that is still busy after `linger` is closed after its response; one that is still
    /// busy after twice that time is aborted. End the event streams and the waiting requests before, or
    /// they count as busy.
    pub async fn hand_over(mut self, linger: Duration) -> Vec<IdleConnection> {
        self.stop_accepting.cancel();
        // The acceptors end before the tracker is closed, or a late connection would be missed.
        while self.acceptors.join_next().await.is_some() {}
        let shared = &self.shared;
        shared.tasks.close();
        shared.signals.leave.cancel();
        if tokio::time::timeout(linger, shared.tasks.wait())
            .await
            .is_err()
        {
            shared.signals.close.cancel();
            if tokio::time::timeout(linger, shared.tasks.wait())
                .await
                .is_err()
            {
                let connections = shared.tasks.len();
                shared.signals.cut.cancel();
                tracing::warn!(connections, "connections were cut amid their responses");
            }
        }
        std::iter::from_fn(|| self.passed_on.try_recv().ok()).collect()
    }
}

impl ServerShared {
    fn serve(
        self: &Arc<Self>,
        socket: Socket,
        prefix: Bytes,
        local: Arc<str>,
        peer: Option<PeerKind>,
        permit: Option<OwnedSemaphorePermit>,
        newcomer: Option<Newcomer>,
    ) {
        socket::send_at_once(&socket);
        let cut = &self.signals.cut;
        let end = newcomer.as_ref().map_or_else(|| cut.clone(), Newcomer::end);
        let served = serve(
            socket,
            prefix,
            local,
            peer,
            self.router.clone(),
            self.signals.clone(),
            newcomer,
        );
        let pass_on = self.pass_on.clone();
        self.tasks.spawn(async move {
            let _permit = permit;
            if let Some(Some(idle)) = end.run_until_cancelled(served).await {
                // An error means that the server was dropped; the connection is then dropped as
                // well.
                let _ = pass_on.send(idle);
            }
        });
    }
}

async fn accept(listener: Listener, label: Arc<str>, shared: Arc<ServerShared>) {
    loop {
        let socket = match listener.accept().await {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, listener = %label, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match room(&shared).await {
            Some(permit) => {
                let newcomer = Some(shared.silent.enter(&shared.signals.cut));
                let label = label.clone();
                shared.serve(socket, Bytes::new(), label, None, Some(permit), newcomer);
            }
            None => {
                let Ok(permit) = shared.turned_away.clone().acquire_owned().await else {
                    return;
                };
                let away = turn_away(socket, shared.no_room.clone());
                shared.tasks.spawn(async move {
                    let _permit = permit;
                    away.await;
                });
            }
        }
    }
}

/// Returns room for a connection, if need be that of one that has been silent.
async fn room(shared: &ServerShared) -> Option<OwnedSemaphorePermit> {
    let room = shared.room.clone();
    if let Ok(permit) = room.clone().try_acquire_owned() {
        return Some(permit);
    }
    if !shared.silent.end_oldest(SILENT_LEAST) {
        return None;
    }
    let permit = tokio::time::timeout(ROOM_PATIENCE, room.acquire_owned()).await;
    permit.ok()?.ok()
}
