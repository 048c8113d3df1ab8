//! The model's server: llama.cpp, as `make model` starts it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use abide_tests::{Signal, free_port, http_client, signal, until_within};

/// Timeout of the server's start: the first run installs it.
const START: Duration = Duration::from_secs(300);

/// A running model server, which is stopped when dropped.
pub(crate) struct ModelServer {
    child: Child,
    port: u16,
}

impl ModelServer {
    /// Starts the server with a chat template and waits until it answers.
    pub(crate) async fn start(scripts: &Path, folder: &Path, template: &Path) -> Self {
        let port = free_port();
        let child = Command::new(scripts.join("run.sh"))
            .arg(folder)
            .arg(port.to_string())
            .arg(template)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut this = Self {
            child: child.expect("the script can be run"),
            port,
        };
        let http = http_client(None);
        let url = format!("http://127.0.0.1:{port}/health");
        let child = &mut this.child;
        until_within(START, "the model's server", async || {
            let ended = child.try_wait().expect("the child is ours");
            assert!(
                ended.is_none(),
                "the model's server ended: run `make model` to see why"
            );
            let answer = http.get(&url).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        this
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        signal(self.child.id().cast_signed(), Signal::TERM);
        let _ = self.child.wait();
    }
}
