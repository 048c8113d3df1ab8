//! Polls the daemon continuously to find the longest pause that a client experiences.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use abide_tests::{Client, Daemon};
use tokio::task::JoinHandle;

/// Pause between two requests.
const EVERY: Duration = Duration::from_millis(5);

/// The observations of one client.
#[derive(Clone, Copy, Default)]
pub(crate) struct Seen {
    pub(crate) asked: u64,
    pub(crate) troubles: u64,
    pub(crate) longest: Duration,
}

/// Two polling clients: one keeps its connection, the other opens a connection for each request.
pub(crate) struct Polling {
    stop: Arc<AtomicBool>,
    tasks: [JoinHandle<Seen>; 2],
}

impl Polling {
    /// Starts polling this path.
    pub(crate) fn start(daemon: &Daemon, path: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = |keeps| {
            let (stop, path, port) = (stop.clone(), path.to_owned(), daemon.setup.port);
            tokio::spawn(poll(port, path, keeps, stop))
        };
        let tasks = [task(true), task(false)];
        Self { stop, tasks }
    }

    /// Stops polling and returns the observations: first on the kept connection, then on new
    /// connections.
    pub(crate) async fn stop(self) -> [Seen; 2] {
        self.stop.store(true, Ordering::Relaxed);
        let [keeps, opens] = self.tasks;
        let seen = "polling does not panic";
        [keeps.await.expect(seen), opens.await.expect(seen)]
    }
}

async fn poll(port: u16, path: String, keeps: bool, stop: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    let mut client = Client::new(port);
    while !stop.load(Ordering::Relaxed) {
        if !keeps {
            client = Client::new(port);
        }
        let began = Instant::now();
        let reply = client.get(&path).await;
        seen.longest = seen.longest.max(began.elapsed());
        seen.asked += 1;
        seen.troubles += u64::from(!reply.is_ok_and(|reply| reply.status == 200));
        tokio::time::sleep(EVERY).await;
    }
    seen
}
