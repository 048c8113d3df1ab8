//! Decisions of approvals, as the daemon's user makes them.

use std::path::PathBuf;

use serde_json::Value;

use crate::client::{Client, REQUEST_TIMEOUT, Trouble, client_builder};
use crate::reply::Reply;

impl Client {
    /// Decides an approval. Where the daemon asks nobody for a token, that is for its local socket, which
    /// the refusal names.
    ///
    /// # Errors
    /// If there was no complete response.
    pub async fn decide(&self, id: &str, decision: &Value) -> Result<Reply, Trouble> {
        let path = format!("/v1/approvals/{id}");
        let reply = self.post(&path, decision).await?;
        let socket = reply.body["socket"].as_str();
        match socket.and_then(|name| name.strip_prefix('@')) {
            Some(name) if reply.status == 403 => {
                self.by_local_socket(name).post(&path, decision).await
            }
            _ => Ok(reply),
        }
    }

    /// Returns a client that comes by the local socket with that abstract name.
    #[must_use]
    pub fn by_local_socket(&self, name: &str) -> Self {
        let socket = PathBuf::from(format!("\0{name}"));
        let http = client_builder(Some(REQUEST_TIMEOUT)).unix_socket(socket);
        self.over(http.build().expect("the client's settings are constant"))
    }
}
