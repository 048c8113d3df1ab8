//! The daemon with the `chat` guest.

use std::fs;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use abide_tests::{Daemon, Plugin, Setup};
use tokio::task::JoinSet;

use super::attend::last_lines;
use crate::chat::name;

/// Number of sessions that are created concurrently.
const AT_ONCE: usize = 64;

/// A running daemon with the `chat` guest.
pub(crate) struct Abide {
    pub(crate) daemon: Daemon,
}

impl Abide {
    /// Starts a daemon on `port`, with its store in this directory.
    pub(crate) async fn start(port: u16, folder: &Path) -> Result<Self, String> {
        let data = folder.join("data");
        fs::create_dir_all(&data).map_err(|error| format!("{}: {error}", data.display()))?;
        // The daemon's other files are deleted when it is dropped; the store remains.
        let own = tempfile::tempdir_in(folder).map_err(|error| error.to_string())?;
        let setup = Setup {
            port,
            data_dir: data.to_string_lossy().into_owned(),
            plugins: vec![Plugin::new("chat")],
            ..Setup::default()
        };
        let daemon = Daemon::start_in(own, setup).await;
        Ok(Self { daemon })
    }

    /// Returns an error with the exit status and the end of the log if the daemon has exited.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        let Some(status) = self.daemon.exited() else {
            return Ok(());
        };
        Err(format!(
            "the daemon ended with {status}; the end of its log:\n{}",
            last_lines(&self.daemon.log())
        ))
    }

    /// Creates `sessions` sessions, unless they exist.
    pub(crate) fn create(
        &self,
        sessions: usize,
    ) -> impl Future<Output = Result<(), String>> + use<> {
        let client = self.daemon.client();
        let next = Arc::new(AtomicUsize::new(0));
        async move {
            let mut tasks = JoinSet::new();
            for _ in 0..AT_ONCE {
                let (next, client) = (next.clone(), client.clone());
                tasks.spawn(async move {
                    loop {
                        let session = next.fetch_add(1, Ordering::Relaxed);
                        if session >= sessions {
                            return;
                        }
                        client.open(&name(session), "chat").await;
                    }
                });
            }
            while let Some(ended) = tasks.join_next().await {
                ended.map_err(|error| format!("sessions cannot be created: {error}"))?;
            }
            Ok(())
        }
    }
}
