use std::net::{SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::*;

const LINGER: Duration = Duration::from_millis(250);
const HANDOVERS: u64 = 50;

fn listen() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = socket.local_addr().expect("is bound");
    (socket, address)
}

/// Starts a server on the same socket, as the next worker does.
fn start(socket: &TcpListener, router: Router) -> Server {
    let socket = socket.try_clone().expect("duplicates").into();
    let label = "test".to_owned();
    let listeners = vec![BoundListener { socket, label }];
    PreparedServer::of(listeners, router, 100)
        .expect("takes the listener")
        .start()
}

async fn hand_over(old: Server, socket: &TcpListener, router: Router) -> (Server, usize) {
    let idle = old.hand_over(LINGER).await;
    let count = idle.len();
    let new = start(socket, router);
    for connection in idle {
        assert_eq!(connection.local, "test");
        new.adopt(connection).expect("adopts");
    }
    (new, count)
}

fn echo() -> Router {
    Router::new()
        .route("/", get(async || "hello"))
        .route("/echo", post(async |body: String| body))
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("connects")
}

/// Reads one response with a content-length; returns its head and body.
async fn response(socket: &mut (impl AsyncRead + Unpin)) -> (String, String) {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .and_then(|length| length.parse::<usize>().ok())
                .expect("a length");
            if body.len() >= length {
                return (head, body.to_owned());
            }
        }
        let read = socket.read_buf(&mut bytes).await.expect("reads");
        assert_ne!(read, 0, "closed after {text:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_fifty_hand_overs() {
    let (socket, address) = listen();
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let mut server = start(&socket, echo());
    let mut clients = JoinSet::new();
    for n in 0..8_u64 {
        let (stop, answered) = (stop.clone(), answered.clone());
        clients.spawn(async move {
            let mut kept = None;
            let mut round = 0;
            while !stop.load(Ordering::SeqCst) {
                round += 1;
                // Half of the clients keep their connection, the others open one for each request.
                let mut socket = match kept.take() {
                    Some(socket) => socket,
                    None => connect(address).await,
                };
                let body = format!("{n}:{round}:{}", "x".repeat((round % 7 * 1000) as usize));
                let request = format!(
                    "POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                socket.write_all(request.as_bytes()).await.expect("writes");
                assert_eq!(response(&mut socket).await.1, body);
                answered.fetch_add(1, Ordering::SeqCst);
                kept = (n % 2 == 0).then_some(socket);
            }
        });
    }
    let mut passed_on = 0;
    for _ in 0..HANDOVERS {
        // Each generation must serve requests before it is replaced.
        let before = answered.load(Ordering::SeqCst);
        while answered.load(Ordering::SeqCst) < before + 20 {
            assert!(clients.try_join_next().is_none(), "a client has failed");
            tokio::task::yield_now().await;
        }
        let count;
        (server, count) = hand_over(server, &socket, echo()).await;
        passed_on += count;
    }
    stop.store(true, Ordering::SeqCst);
    while let Some(ended) = clients.join_next().await {
        ended.expect("no client saw an error");
    }
    assert!(passed_on as u64 > HANDOVERS, "{passed_on} were passed on");
    drop(server.hand_over(LINGER).await);
}

#[tokio::test]
async fn half_a_request_is_passed_on() {
    let (socket, address) = listen();
    let old = start(&socket, echo());
    let mut used = connect(address).await;
    used.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .expect("writes");
    assert_eq!(response(&mut used).await.1, "hello");
    let mut fresh = connect(address).await;
    let mut silent = connect(address).await;
    let half = b"POST /echo HTTP/1.1\r\nhost: a\r\ncont";
    used.write_all(half).await.expect("writes");
    fresh.write_all(half).await.expect("writes");
    // All three are accepted before the old server ends; one may not have been read from yet.
    while old.connections() < 3 {
        tokio::task::yield_now().await;
    }
    let (new, count) = hand_over(old, &socket, echo()).await;
    assert_eq!(count, 3);
    for socket in [&mut used, &mut fresh] {
        socket
            .write_all(b"ent-length: 3\r\n\r\nabc")
            .await
            .expect("writes");
        assert_eq!(response(socket).await.1, "abc");
    }
    silent
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .expect("writes");
    assert_eq!(response(&mut silent).await.1, "hello");
    assert_eq!(new.hand_over(LINGER).await.len(), 3);
}

#[tokio::test]
async fn an_upload_is_finished_by_the_next_server() {
    let (socket, address) = listen();
    let old = start(&socket, echo());
    let body = "0123456789".repeat(1000);
    let head = format!(
        "POST /echo HTTP/1.1\r\nhost: a\r\nX-Twice: 1\r\nx-twice: 2\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut uploads = Vec::new();
    for sent in [0, 1, 5_000, 9_999] {
        let mut client = connect(address).await;
        let begun = [head.as_bytes(), &body.as_bytes()[..sent]].concat();
        client.write_all(&begun).await.expect("writes");
        uploads.push((client, sent));
    }
    // Behind another request, with the beginning of its body in the same packet.
    let mut behind = connect(address).await;
    let begun = ["GET / HTTP/1.1\r\nhost: a\r\n\r\n", &head, &body[..70]].concat();
    behind.write_all(begun.as_bytes()).await.expect("writes");
    assert_eq!(response(&mut behind).await.1, "hello");
    uploads.push((behind, 70));
    while old.connections() < uploads.len() {
        tokio::task::yield_now().await;
    }
    let (new, count) = hand_over(old, &socket, echo()).await;
    assert_eq!(count, uploads.len());
    for (client, sent) in &mut uploads {
        let rest = &body.as_bytes()[*sent..];
        client.write_all(rest).await.expect("writes");
        assert_eq!(response(client).await.1, body, "{sent}");
    }
    // And once more: all that it had was passed on.
    assert_eq!(new.hand_over(LINGER).await.len(), uploads.len());
}

#[tokio::test]
async fn an_upload_that_cannot_be_passed_on_ends_with_an_error() {
    let (socket, address) = listen();
    let begun = Arc::new(Notify::new());
    // Reads; tells once so much is there as the path says.
    let read = async |State(begun): State<Arc<Notify>>, Path(at): Path<usize>, mut body: Body| {
        let mut there = 0;
        loop {
            match body.frame().await.expect("it never ends") {
                Ok(frame) => there += frame.data_ref().map_or(0, Bytes::len),
                Err(error) => return error.to_string(),
            }
            if there >= at {
                begun.notify_one();
            }
        }
    };
    let router = Router::new().route("/{at}", post(read));
    let old = start(&socket, router.with_state(begun.clone()));
    let large = 2 * upload::HEAD_MAX_BYTES;
    let mut clients = Vec::new();
    for (at, rest) in [
        (2, "transfer-encoding: chunked\r\n\r\n5\r\nab".to_owned()),
        (
            large,
            format!("content-length: 1000000\r\n\r\n{}", "x".repeat(large)),
        ),
    ] {
        let mut client = connect(address).await;
        let begin = format!("POST /{at} HTTP/1.1\r\nhost: a\r\n{rest}");
        client.write_all(begin.as_bytes()).await.expect("writes");
        begun.notified().await;
        clients.push(client);
    }
    let going = tokio::spawn(old.hand_over(LINGER));
    for client in &mut clients {
        let (head, body) = response(client).await;
        assert!(head.contains("connection: close"), "{head}");
        assert!(body.contains("the daemon restarted"), "{body}");
    }
    drop(clients);
    assert!(going.await.expect("hands over").is_empty());
}

#[tokio::test]
async fn an_upload_that_has_stalled_is_answered_and_not_waited_for() {
    let (socket, address) = listen();
    let old = start(&socket, echo());
    let mut client = connect(address).await;
    let begin = b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab";
    client.write_all(begin).await.expect("writes");
    while old.connections() < 1 {
        tokio::task::yield_now().await;
    }
    // In steps, in which the server has its turn.
    for _ in 0..20 {
        tokio::time::sleep(upload::STALLED).await;
    }
    let handed_over = old.hand_over(Duration::from_secs(60));
    let idle = tokio::time::timeout(Duration::from_secs(30), handed_over).await;
    assert!(idle.expect("nobody waits for the client").is_empty());
    let (head, body) = response(&mut client).await;
    assert!(
        head.starts_with("http/1.1 503") && head.contains("retry-after: 1"),
        "{head}"
    );
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(body["type"], "urn:abide:problem:restarting");
}

/// A route that answers once `go` is notified.
fn held(begun: Arc<Notify>, go: Arc<Notify>) -> Router {
    Router::new()
        .route(
            "/held",
            get(
                async |State((begun, go)): State<(Arc<Notify>, Arc<Notify>)>| {
                    begun.notify_one();
                    go.notified().await;
                    "done"
                },
            ),
        )
        .with_state((begun, go))
}

#[tokio::test]
async fn a_busy_connection_is_passed_on_after_its_response() {
    let (socket, address) = listen();
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let old = start(&socket, held(begun.clone(), go.clone()));
    let mut client = connect(address).await;
    let first = b"GET /held HTTP/1.1\r\nhost: a\r\n\r\n";
    client.write_all(first).await.expect("writes");
    begun.notified().await;
    let going = tokio::spawn(old.hand_over(Duration::from_secs(60)));
    // What the client sends while the old server answers is left for the new one.
    let second = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    client.write_all(second).await.expect("writes");
    go.notify_one();
    let (head, body) = response(&mut client).await;
    assert_eq!(body, "done");
    assert!(!head.contains("connection: close"), "{head}");
    let idle = going.await.expect("hands over");
    assert_eq!(idle.len(), 1);
    let new = start(&socket, echo());
    for connection in idle {
        new.adopt(connection).expect("adopts");
    }
    assert_eq!(response(&mut client).await.1, "hello");
}

#[tokio::test]
async fn one_that_stays_busy_is_told_to_close() {
    let (socket, address) = listen();
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let old = start(&socket, held(begun.clone(), go.clone()));
    let mut client = connect(address).await;
    client
        .write_all(b"GET /held HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .expect("writes");
    begun.notified().await;
    let closing = old.shared.signals.close.clone();
    let going = tokio::spawn(old.hand_over(LINGER));
    closing.cancelled().await;
    go.notify_one();
    let (head, body) = response(&mut client).await;
    assert_eq!(body, "done");
    assert!(head.contains("connection: close"), "{head}");
    assert_eq!(client.read(&mut [0; 1]).await.expect("is not reset"), 0);
    drop(client);
    assert!(going.await.expect("hands over").is_empty());
}

#[tokio::test]
async fn an_unread_body_is_never_taken_for_a_request() {
    let (socket, address) = listen();
    let old = start(&socket, Router::new().route("/", post(async || "unread")));
    let mut client = connect(address).await;
    let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\nGET /";
    client.write_all(head).await.expect("writes");
    assert_eq!(response(&mut client).await.1, "unread");
    assert!(old.hand_over(LINGER).await.is_empty());
}

#[tokio::test]
async fn who_finds_no_room_is_told() {
    let (socket, address) = listen();
    let listener = BoundListener {
        socket: socket.into(),
        label: "test".to_owned(),
    };
    let server = PreparedServer::of(vec![listener], echo(), 1)
        .expect("takes the listener")
        .start();
    let mut first = connect(address).await;
    let hello = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    first.write_all(hello).await.expect("writes");
    assert_eq!(response(&mut first).await.1, "hello");
    let mut second = connect(address).await;
    second.write_all(hello).await.expect("writes");
    let (head, body) = response(&mut second).await;
    assert!(head.starts_with("http/1.1 503"), "{head}");
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(body["status"], 503);
    drop(server);
}

#[tokio::test]
async fn who_says_nothing_makes_room() {
    let (socket, address) = listen();
    let listener = BoundListener {
        socket: socket.into(),
        label: "test".to_owned(),
    };
    let server = PreparedServer::of(vec![listener], echo(), 3)
        .expect("takes the listener")
        .start();
    let hello = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut spoken = connect(address).await;
    spoken.write_all(hello).await.expect("writes");
    assert_eq!(response(&mut spoken).await.1, "hello");
    let mut silent = connect(address).await;
    let mut half = connect(address).await;
    half.write_all(&hello[..10]).await.expect("writes");
    for ended in [&mut silent, &mut half] {
        // Told 503 until the others have been silent for long enough.
        let mut next = loop {
            let mut next = connect(address).await;
            next.write_all(hello).await.expect("writes");
            if response(&mut next).await.1 == "hello" {
                break next;
            }
        };
        let mut rest = Vec::new();
        // Closed, or reset.
        let _ = ended.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
        next.write_all(hello).await.expect("writes");
        assert_eq!(response(&mut next).await.1, "hello");
        std::mem::forget(next);
    }
    spoken.write_all(hello).await.expect("writes");
    assert_eq!(response(&mut spoken).await.1, "hello");
    drop(server);
}

#[tokio::test]
async fn who_comes_before_the_start_is_served_after_it() {
    let (socket, address) = listen();
    let label = "test".to_owned();
    let listeners = vec![BoundListener {
        socket: socket.into(),
        label,
    }];
    let prepared = PreparedServer::of(listeners, echo(), 100).expect("takes the listener");
    let mut client = connect(address).await;
    let hello = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    client.write_all(hello).await.expect("writes");
    let server = prepared.start();
    assert_eq!(response(&mut client).await.1, "hello");
    drop(server);
}

/// A route that tells who is at the other end.
fn peers() -> Router {
    let tell = async |request: axum::extract::Request| {
        format!("{:?}", request.extensions().get::<PeerKind>())
    };
    Router::new().route("/", get(tell))
}

#[tokio::test]
async fn a_local_connection_is_known_and_passed_on_like_others() {
    let name = format!("abide-test-{}", rand::random::<u64>());
    let name = net::SocketAddr::from_abstract_name(name).expect("a name");
    let socket = net::UnixListener::bind_addr(&name).expect("binds");
    let start = || {
        let socket = socket.try_clone().expect("duplicates").into();
        let label = "local".to_owned();
        PreparedServer::of(vec![BoundListener { socket, label }], peers(), 100)
            .expect("takes the listener")
            .start()
    };
    let old = start();
    let client = net::UnixStream::connect_addr(&name).expect("connects");
    client.set_nonblocking(true).expect("ours");
    let mut client = tokio::net::UnixStream::from_std(client).expect("ours");
    let hello = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
    // The client is the process that serves.
    let expected = format!("{:?}", Some(PeerKind::Stranger));
    client.write_all(hello).await.expect("writes");
    assert_eq!(response(&mut client).await.1, expected);
    let idle = old.hand_over(LINGER).await;
    assert_eq!(idle.len(), 1);
    let new = start();
    for connection in idle {
        assert_eq!(connection.local, "local");
        new.adopt(connection).expect("adopts");
    }
    client.write_all(hello).await.expect("writes");
    assert_eq!(response(&mut client).await.1, expected);
    drop(new);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_not_waited_for() {
    let (socket, address) = listen();
    let large = Router::new().route("/", get(async || vec![b'x'; 64 << 20]));
    let old = start(&socket, large);
    let mut stalled = connect(address).await;
    let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    stalled.write_all(request).await.expect("writes");
    let mut head = [0; 12];
    stalled.read_exact(&mut head).await.expect("reads");
    assert_eq!(&head, b"HTTP/1.1 200");
    // The kernel takes its part of the response within that. In steps, in which the server has its turn.
    for _ in 0..20 {
        tokio::time::sleep(upload::STALLED).await;
    }
    let handed_over = old.hand_over(Duration::from_secs(60));
    let idle = tokio::time::timeout(Duration::from_secs(30), handed_over).await;
    assert!(idle.expect("nobody waits for the client").is_empty());
}
