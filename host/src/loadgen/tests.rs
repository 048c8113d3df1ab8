//! Tests of the load against a server that misbehaves as scripted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const SESSIONS: usize = 4;
const TURNS: u64 = 5;
/// Longer than all turns take.
const LONG: Duration = Duration::from_secs(20);

/// The server's reaction to a request.
#[derive(Clone, Copy)]
enum Act {
    /// Counts a turn, and answers with its number.
    Turn,
    /// Answers with that number, from which it goes on counting.
    Number(u64),
    /// Answers with these bytes.
    Raw(&'static str),
    /// Counts a turn, and closes the connection.
    TurnThenClose,
    /// Closes the connection.
    Close,
    /// Counts a turn, and answers after a while.
    Slowly(Duration),
}

/// A request: the session, the message, and how often that message has arrived.
type Asked = (usize, u64, u32);

struct Server {
    act: Box<dyn Fn(Asked) -> Act + Send + Sync>,
    tries: Mutex<HashMap<(usize, u64), u32>>,
    turns: Mutex<HashMap<usize, u64>>,
}

impl Server {
    /// Starts a server that runs until the test ends, and returns its address.
    async fn start(act: impl Fn(Asked) -> Act + Send + Sync + 'static) -> String {
        let server = Arc::new(Self {
            act: Box::new(act),
            tries: Mutex::default(),
            turns: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.expect("a client");
                tokio::spawn(server.clone().serve(socket));
            }
        });
        address
    }

    async fn serve(self: Arc<Self>, mut socket: TcpStream) {
        let mut buffer = [0; 4096];
        loop {
            // Requests are small and arrive in one read.
            let length = socket.read(&mut buffer).await.unwrap_or(0);
            if length == 0 {
                return;
            }
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let mut path = text.split(['/', ' ']).skip(2);
            let session = path
                .next()
                .and_then(|it| it.parse().ok())
                .expect("a session");
            let message = path
                .next()
                .and_then(|it| it.parse().ok())
                .expect("a message");
            let answer = match (self.act)((session, message, self.nth(session, message))) {
                Act::Turn => self.turn(session, None),
                Act::Number(turn) => self.turn(session, Some(turn)),
                Act::Raw(answer) => answer.to_owned(),
                Act::Close => return,
                Act::TurnThenClose => {
                    self.turn(session, None);
                    return;
                }
                Act::Slowly(pause) => {
                    tokio::time::sleep(pause).await;
                    self.turn(session, None)
                }
            };
            if socket.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn nth(&self, session: usize, message: u64) -> u32 {
        let mut tries = self.tries.lock().expect("no panic");
        let tries = tries.entry((session, message)).or_default();
        *tries += 1;
        *tries
    }

    fn turn(&self, session: usize, number: Option<u64>) -> String {
        let mut turns = self.turns.lock().expect("no panic");
        let turns = turns.entry(session).or_default();
        *turns = number.unwrap_or(*turns + 1);
        let body = turns.to_string();
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

/// The service of the test server.
struct Plain {
    keyed: bool,
}

impl Service for Plain {
    fn request(&self, turn: &TurnRequest<'_>, to: &mut Vec<u8>) {
        let path = format_args!("/{}/{}", turn.session, turn.message);
        write_post(to, "test", path, format_args!(""), &[turn.text]);
    }

    fn read(&self, _turn: &TurnRequest<'_>, _status: u16, body: &[u8]) -> Result<Reply, Wrong> {
        let number = str::from_utf8(body).ok().and_then(|text| text.parse().ok());
        number
            .map(Reply::Done)
            .ok_or_else(|| Wrong("no number".to_owned()))
    }

    fn is_keyed(&self) -> bool {
        self.keyed
    }
}

fn load(address: String) -> Load {
    Load {
        sessions: SESSIONS,
        connections: 2,
        duration: LONG,
        turns: Some(TURNS),
        text_bytes: 20,
        ..Load::new(address)
    }
}

async fn report(keyed: bool, act: impl Fn(Asked) -> Act + Send + Sync + 'static) -> Report {
    let load = load(Server::start(act).await);
    let sessions = LoadSessions::fresh(SESSIONS);
    let report = run(
        Arc::new(Plain { keyed }),
        &load,
        sessions,
        &LoadProbe::new(),
    )
    .await;
    report.expect("it listens")
}

/// Returns the counts of a run without faults.
fn all() -> LoadCounts {
    let turns = SESSIONS as u64 * TURNS;
    LoadCounts {
        acknowledged: turns,
        completed: turns,
        ..LoadCounts::default()
    }
}

#[tokio::test]
async fn every_session_has_its_turns() {
    let report = report(false, |_| Act::Turn).await;
    assert_eq!(report.counts, all());
    assert_eq!(report.latencies.len(), all().completed);
    assert!(report.examples.is_empty() && report.elapsed < LONG);
    for session in &report.sessions.0 {
        assert_eq!((session.messages, session.acknowledged), (TURNS, TURNS));
        assert!(session.unknown.is_empty());
    }
}

#[tokio::test]
async fn turns_that_are_gone_or_too_many_are_counted() {
    let report = report(true, |asked| match asked {
        (0, 3, _) => Act::Number(1),
        (1, 3, _) => Act::Number(5),
        (2, 3, _) => Act::Raw("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n?"),
        _ => Act::Turn,
    })
    .await;
    let counts = report.counts;
    assert_eq!((counts.lost, counts.doubled, counts.wrong), (2, 2, 1));
    let faults: Vec<FaultKind> = report.examples.iter().map(|it| it.fault).collect();
    for fault in [FaultKind::Lost, FaultKind::Doubled, FaultKind::Wrong] {
        assert!(faults.contains(&fault), "{:?}", report.examples);
    }
    assert_eq!(report.sessions.0[2].unknown, [3]);
}

#[tokio::test]
async fn with_a_key_what_was_cut_off_is_sent_again() {
    let report = report(true, |asked| match asked {
        (0, 2, 1) | (3, 5, 1..=3) => Act::Close,
        _ => Act::Turn,
    })
    .await;
    assert_eq!(report.counts, LoadCounts { reset: 4, ..all() });
    assert!(
        report
            .sessions
            .0
            .iter()
            .all(|session| session.unknown.is_empty())
    );
}

#[tokio::test]
async fn without_a_key_nobody_knows() {
    let report = report(false, |asked| match asked {
        (0, 2, _) => Act::Close,
        (1, 2, _) => Act::TurnThenClose,
        _ => Act::Turn,
    })
    .await;
    let expected = LoadCounts {
        reset: 2,
        acknowledged: all().acknowledged - 2,
        completed: all().completed - 2,
        ..LoadCounts::default()
    };
    assert_eq!(report.counts, expected);
    for session in &report.sessions.0[..2] {
        assert_eq!(session.unknown, [2]);
    }
}

#[tokio::test]
async fn who_is_told_to_come_back_comes_back() {
    let report = report(true, |asked| match asked {
        (0, 2, 1..=2) => Act::Raw("HTTP/1.1 429 Many\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n"),
        (1, 1, 1) => Act::Raw(
            "HTTP/1.1 503 Later\r\nretry-after: 0\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        ),
        (2, 1, 1) => Act::Raw("HTTP/1.1 500 Broken\r\ncontent-length: 3\r\n\r\nwhy"),
        _ => Act::Turn,
    })
    .await;
    let expected = LoadCounts {
        throttled: 3,
        errors: 1,
        ..all()
    };
    assert_eq!(report.counts, expected);
    assert_eq!(report.examples[0].text, "session 2: 500 why");
}

#[tokio::test]
async fn a_server_that_is_gone_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let load = Load {
        give_up: Duration::from_millis(50),
        turns: Some(1),
        ..load(address)
    };
    let gone = async {
        let mut sockets = Vec::new();
        for _ in 0..load.connections {
            sockets.push(listener.accept().await.expect("a client"));
        }
        drop(listener);
    };
    let watch = LoadProbe::new();
    let run = run(
        Arc::new(Plain { keyed: true }),
        &load,
        LoadSessions::fresh(SESSIONS),
        &watch,
    );
    let (report, ()) = tokio::join!(run, gone);
    let counts = report.expect("it listened").counts;
    assert_eq!(
        (counts.acknowledged, counts.unanswered),
        (0, SESSIONS as u64)
    );
    assert!(counts.refused > 0, "{counts:?}");

    let again = super::run(
        Arc::new(Plain { keyed: true }),
        &load,
        LoadSessions::fresh(SESSIONS),
        &watch,
    );
    let failed = again.await.expect_err("nobody listens").to_string();
    assert!(failed.contains("connection 1 of 2"), "{failed}");
}

#[tokio::test]
async fn a_pause_belongs_to_what_was_done() {
    const PAUSE: Duration = Duration::from_millis(100);
    let address = Server::start(|asked| match asked {
        (_, 2, _) => Act::Slowly(PAUSE),
        _ => Act::Turn,
    });
    let load = load(address.await);
    let watch = LoadProbe::new();
    let disturb = async {
        while watch.counts().completed < SESSIONS as u64 {
            tokio::task::yield_now().await;
        }
        watch.disturb("something");
    };
    let run = run(
        Arc::new(Plain { keyed: true }),
        &load,
        LoadSessions::fresh(SESSIONS),
        &watch,
    );
    let (report, ()) = tokio::join!(run, disturb);
    let report = report.expect("it listens");
    let [disturbance] = &report.disturbances[..] else {
        panic!("{:?}", report.disturbances);
    };
    assert_eq!(disturbance.what, "something");
    assert!(disturbance.pause >= PAUSE && disturbance.silence > Duration::ZERO);
    assert!(report.longest_pause() >= disturbance.pause);
}
