//! An HTTP server on the loopback that runs in this process.

use std::net::SocketAddr;

use axum::Router;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A running server. It stops when the value is dropped.
pub struct LocalServer {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl LocalServer {
    /// Starts a server on that port of the loopback; 0 stands for any free port.
    ///
    /// # Panics
    /// If the port is in use.
    pub async fn start(port: u16, router: Router) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await;
        let listener = listener.expect("the port is free");
        let address = listener.local_addr().expect("a bound socket has one");
        // As real servers do: otherwise the body of an answer waits for the acknowledgement of its
        // head.
        let listener = listener.tap_io(|connection| {
            let _ = connection.set_nodelay(true);
        });
        let server = tokio::spawn(async move {
            // Serves until it is aborted.
            let _ = axum::serve(listener, router).await;
        });
        Self { address, server }
    }

    /// Returns the URL of the server's root, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}
