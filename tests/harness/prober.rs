//! Requests one after the other while the daemon is disturbed, to find the longest wait of a client.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::Client;

/// What a probing client has observed.
#[derive(Debug)]
pub struct ProbeReport<T> {
    /// The number of requests.
    pub asked: u64,
    /// The longest time of a request.
    pub longest: Duration,
    /// The results of the requests that succeeded.
    pub answers: Vec<T>,
    /// Descriptions of the requests that failed.
    pub failed: Vec<String>,
}

/// A client that sends one request after the other until it is stopped.
pub struct Prober<T> {
    stop: Arc<AtomicBool>,
    task: JoinHandle<ProbeReport<T>>,
}

impl<T: Send + 'static> Prober<T> {
    /// Calls `request` with the number of the request, from 0, with this pause after each.
    pub fn start<F>(pause: Duration, request: impl Fn(u64) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<T, String>> + Send,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut report = ProbeReport {
                asked: 0,
                longest: Duration::ZERO,
                answers: Vec::new(),
                failed: Vec::new(),
            };
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                let result = request(report.asked).await;
                report.longest = report.longest.max(began.elapsed());
                report.asked += 1;
                match result {
                    Ok(answer) => report.answers.push(answer),
                    Err(error) => report.failed.push(error),
                }
                tokio::time::sleep(pause).await;
            }
            report
        });
        Self { stop, task }
    }

    /// Stops after the current request.
    pub async fn stop(self) -> ProbeReport<T> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("a prober does not panic")
    }
}

impl Prober<()> {
    /// Starts a prober that gets this path over one connection.
    pub fn on_one_connection(port: u16, path: &'static str, pause: Duration) -> Self {
        let client = Client::new(port);
        Self::start(pause, move |_| get(client.clone(), path))
    }

    /// Starts a prober that gets this path, over a new connection for each request.
    pub fn on_new_connections(port: u16, path: &'static str, pause: Duration) -> Self {
        Self::start(pause, move |_| get(Client::new(port), path))
    }
}

async fn get(client: Client, path: &str) -> Result<(), String> {
    match client.get(path).await {
        Ok(reply) if reply.status == 200 => Ok(()),
        Ok(reply) => Err(format!("{path}: {reply:?}")),
        Err(trouble) => Err(format!("{path}: {trouble:?}")),
    }
}
