//! Clients that never pause: each sends the next message as soon as the last one's turn has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::lean::{self, Lean};

/// After a request that got no answer, before the next. A connection that is refused is refused
/// at once, and the clients share the machine with the daemon.
const BREATH: Duration = Duration::from_millis(1);

/// One request of one of them.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) session: usize,
    pub(crate) sent: Instant,
    pub(crate) ended: Instant,
    pub(crate) got: Got,
}

/// What a request got.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Got {
    /// Its turn's output.
    Turn,
    /// The word that it is accepted, for the worker leaves.
    Accepted,
    /// A connection that was lost, or a status that is neither.
    Trouble,
}

impl Asked {
    pub(crate) fn took(&self) -> Duration {
        self.ended - self.sent
    }
}

/// All of them.
pub(crate) struct Crowd {
    stop: Arc<AtomicBool>,
    turns: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<Asked>>>,
}

impl Crowd {
    /// So many connections, over the first so many sessions, each of which has one owner.
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

    /// Turns that have been answered so far.
    pub(crate) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Lets them end what they wait for; all that they asked.
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
