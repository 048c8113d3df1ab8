//! A closed-loop load: each client sends its next message as soon as the previous one's turn has
//! ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::lean::{self, Lean};

/// The pause after a request that failed. A refused connection fails immediately, and the clients
/// share the machine with the daemon, so retrying at once would starve it.
const BREATH: Duration = Duration::from_millis(1);

/// One request of one client.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) session: usize,
    pub(crate) sent: Instant,
    pub(crate) ended: Instant,
    pub(crate) got: Got,
}

/// The outcome of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Got {
    /// The turn completed and its output came back.
    Turn,
    /// The message was accepted (202) but its turn had not ended, because the worker is shutting
    /// down.
    Accepted,
    /// The connection was lost, or the status is neither of those.
    Trouble,
}

impl Asked {
    pub(crate) fn took(&self) -> Duration {
        self.ended - self.sent
    }
}

/// The running clients.
pub(crate) struct Crowd {
    stop: Arc<AtomicBool>,
    turns: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<Asked>>>,
}

impl Crowd {
    /// Starts `connections` clients over the first `sessions` sessions. Each session belongs to
    /// exactly one client.
    pub(crate) fn start(port: u16, connections: usize, sessions: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let turns = Arc::new(AtomicU64::new(0));
        let clients = (0..connections.min(sessions)).map(|first| {
            let (stop, turns) = (stop.clone(), turns.clone());
            let own = (first..sessions).step_by(connections).cycle();
            tokio::spawn(drive(port, own, stop, turns))
        });
        Self {
            clients: clients.collect(),
            stop,
            turns,
        }
    }

    /// Returns how many turns have completed so far.
    pub(crate) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Stops the clients once their current requests have ended, and returns every request made.
    pub(crate) async fn stop(self) -> Vec<Asked> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for client in self.clients {
            all.extend(client.await.expect("a client does not panic"));
        }
        all
    }
}

async fn drive(
    port: u16,
    own: impl Iterator<Item = usize>,
    stop: Arc<AtomicBool>,
    turns: Arc<AtomicU64>,
) -> Vec<Asked> {
    let mut client = Lean::new(port);
    let message = lean::message();
    let mut asked = Vec::new();
    for session in own {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let sent = Instant::now();
        let answer = client.say(&lean::session(session), message.clone()).await;
        let ended = Instant::now();
        let got = match answer {
            Ok(answer) if answer.completed() => Got::Turn,
            Ok(answer) if answer.status == 202 => Got::Accepted,
            Ok(_) | Err(_) => Got::Trouble,
        };
        match got {
            Got::Turn => drop(turns.fetch_add(1, Ordering::Relaxed)),
            Got::Accepted => {}
            Got::Trouble => tokio::time::sleep(BREATH).await,
        }
        asked.push(Asked {
            session,
            sent,
            ended,
            got,
        });
    }
    asked
}
