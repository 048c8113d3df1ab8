//! Clients that never stop asking, to see the longest pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use abide_tests::{Client, Daemon};
use tokio::task::JoinHandle;

/// How long they rest between two requests.
const EVERY: Duration = Duration::from_millis(5);

/// What a client has seen.
#[derive(Clone, Copy, Default)]
pub(crate) struct Seen {
    pub(crate) asked: u64,
    pub(crate) troubles: u64,
    pub(crate) longest: Duration,
}

/// Two of them: one on a connection that it keeps, one that opens a connection for each request.
pub(crate) struct Polling {
    stop: Arc<AtomicBool>,
    tasks: [JoinHandle<Seen>; 2],
}

impl Polling {
    /// Begins to ask for this path.
    pub(crate) fn start(daemon: &Daemon, path: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = |keeps| {
            let (stop, path, port) = (stop.clone(), path.to_owned(), daemon.setup.port);
            tokio::spawn(poll(port, path, keeps, stop))
        };
        let tasks = [task(true), task(false)];
        Self { stop, tasks }
    }

    /// Stops; what the one and the other have seen.
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
