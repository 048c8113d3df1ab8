//! Subscribers that do not read what is sent to them.

use std::fs;
use std::time::Duration;

use abide_tests::{Daemon, Setup, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

const READERS: usize = 100;
/// What one of them may take of the daemon's memory, with what holds its connection.
const READER_BYTES: usize = 512 << 10;
/// The session has more than a reader may take, and than its socket takes.
const MESSAGES: usize = 30;
const MESSAGE_BYTES: usize = 60_000;

/// Follows a session from its beginning, and reads nothing but the first bytes of the answer.
async fn stalled(daemon: &Daemon) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("descriptors are not exhausted");
    socket.set_recv_buffer_size(4096).expect("it is ours");
    let address = ([127, 0, 0, 1], daemon.setup.port).into();
    let mut stream = socket.connect(address).await.expect("the daemon listens");
    let request = b"GET /v1/sessions/long/events HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request).await.expect("it is read");
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.expect("it is answered");
    assert_eq!(&head, b"HTTP/1.1 200");
    stream
}

/// Returns the resident memory of a process in bytes.
fn resident(pid: i32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kib.expect("a number") << 10
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_holds_little_and_holds_up_nobody() {
    let mut daemon = Daemon::start(Setup::default()).await;
    let client = daemon.client();
    for session in ["long", "other"] {
        client.open(session, "echo").await;
    }
    for n in 0..MESSAGES {
        client
            .chat("long", &format!("{n} {}", "x".repeat(MESSAGE_BYTES)))
            .await;
    }
    let worker = daemon.worker_pid().await;
    let before = resident(worker);
    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(stalled(&daemon).await);
    }
    let mut most = 0;
    for n in 0..20 {
        client.chat("other", &format!("{n}")).await;
        most = most.max(resident(worker));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let grown = most.saturating_sub(before);
    assert!(
        grown < READERS * READER_BYTES,
        "{READERS} readers take {grown} bytes"
    );
    // They do not hold up a restart.
    daemon.restart_by_edit().await;
    assert!(!daemon.log().contains("cut amid their responses"));
    assert_eq!(
        until("an answer", async || {
            client.ask("other", "after", None).await.ok()
        })
        .await
        .outcome
        .as_deref(),
        Some("completed")
    );
    drop(readers);
}
