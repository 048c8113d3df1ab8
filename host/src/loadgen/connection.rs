//! One HTTP connection with one request in flight at a time. It reconnects when it breaks.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::wire::{BodyKind, ChunkedReader, Garbled, Head, read_head};

/// The size limit of an answer; a longer one counts as garbled.
const ANSWER_MAX_BYTES: usize = 64 << 20;
/// The initial capacity of the buffer for answers.
const BUFFER_BYTES: usize = 8 << 10;

/// Why a request got no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// No connection could be made, so nothing was sent.
    Refused(io::Error),
    /// The connection ended before the answer did.
    Reset(String),
    /// The answer took longer than the client's timeout.
    Slow,
    /// The answer is not valid HTTP.
    Garbled(String),
}

impl From<Garbled> for Trouble {
    fn from(Garbled(text): Garbled) -> Self {
        Self::Garbled(text)
    }
}

/// An answer, borrowed from the connection's buffers.
#[derive(Debug)]
pub(super) struct LoadResponse<'a> {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: &'a [u8],
}

/// The place of a body.
enum BodyPlace {
    /// A range of the receive buffer.
    Received(std::ops::Range<usize>),
    /// The buffer of decoded chunks.
    Chunks,
}

/// A connection that is open, or is opened by the next request.
pub(super) struct ClientConnection {
    address: SocketAddr,
    socket: Option<TcpStream>,
    received: Vec<u8>,
    chunks: ChunkedReader,
    patience: Duration,
    /// One timer for all requests, because setting one per request is expensive: when it fires, it
    /// checks whether the current request has timed out.
    watchdog: Pin<Box<Sleep>>,
}

impl ClientConnection {
    pub(super) async fn open(address: SocketAddr, patience: Duration) -> Result<Self, Trouble> {
        let mut connection = Self {
            address,
            socket: None,
            received: Vec::with_capacity(BUFFER_BYTES),
            chunks: ChunkedReader::default(),
            patience,
            watchdog: Box::pin(tokio::time::sleep(patience)),
        };
        connection.connect().await?;
        Ok(connection)
    }

    async fn connect(&mut self) -> Result<(), Trouble> {
        let socket = tokio::time::timeout(self.patience, TcpStream::connect(self.address))
            .await
            .map_err(|_| Trouble::Slow)?
            .map_err(Trouble::Refused)?;
        socket.set_nodelay(true).map_err(Trouble::Refused)?;
        self.socket = Some(socket);
        Ok(())
    }

    /// Sends a request and receives its answer; connects first if necessary.
    pub(super) async fn ask(&mut self, request: &[u8]) -> Result<LoadResponse<'_>, Trouble> {
        if self.socket.is_none() {
            self.connect().await?;
        }
        match self.exchange(request).await {
            Ok((head, place)) => {
                if head.closes {
                    self.socket = None;
                }
                let body = match place {
                    BodyPlace::Received(range) => &self.received[range],
                    BodyPlace::Chunks => &self.chunks.body,
                };
                Ok(LoadResponse {
                    status: head.status,
                    retry_after: head.retry_after,
                    body,
                })
            }
            Err(trouble) => {
                self.socket = None;
                Err(trouble)
            }
        }
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<(Head, BodyPlace), Trouble> {
        let began = Instant::now();
        self.received.clear();
        self.send(request, began).await?;
        let mut head = loop {
            match read_head(&self.received)? {
                // An interim response; the final one follows.
                Some(Head {
                    status: 100..200,
                    len,
                    ..
                }) => {
                    self.received.drain(..len);
                }
                Some(head) => break head,
                None => self.receive(began).await?,
            }
        };
        let from = head.len;
        let (end, place) = match head.body {
            BodyKind::Length(length) => {
                let end = from.saturating_add(length);
                while self.received.len() < end {
                    self.receive(began).await?;
                }
                (end, BodyPlace::Received(from..end))
            }
            BodyKind::Chunked => {
                self.chunks.begin();
                let length = loop {
                    if let Some(length) = self.chunks.read(&self.received[from..])? {
                        break length;
                    }
                    self.receive(began).await?;
                };
                (from + length, BodyPlace::Chunks)
            }
            BodyKind::UntilClose => {
                head.closes = true;
                while self.receive_or_end(began).await? {}
                let end = self.received.len();
                (end, BodyPlace::Received(from..end))
            }
        };
        if self.received.len() > end {
            return Err(Trouble::Garbled(
                "more than one answer to one request".into(),
            ));
        }
        Ok((head, place))
    }

    async fn send(&mut self, request: &[u8], began: Instant) -> Result<(), Trouble> {
        let socket = self.socket.as_mut().expect("it was connected");
        let mut sent = 0;
        while sent < request.len() {
            let watched = watch(&mut self.watchdog, began + self.patience);
            tokio::select! {
                biased;
                written = socket.write(&request[sent..]) => sent += written.map_err(broken)?,
                () = watched => return Err(Trouble::Slow),
            }
        }
        Ok(())
    }

    /// Receives more bytes of an incomplete answer; the end of the connection is an error.
    async fn receive(&mut self, began: Instant) -> Result<(), Trouble> {
        if self.receive_or_end(began).await? {
            Ok(())
        } else {
            Err(Trouble::Reset(match self.received.len() {
                0 => "the connection was closed in place of an answer".to_owned(),
                some => format!("the connection was closed {some} bytes into an answer"),
            }))
        }
    }

    /// Receives more bytes. Returns `false` at the end of the connection.
    async fn receive_or_end(&mut self, began: Instant) -> Result<bool, Trouble> {
        if self.received.len() > ANSWER_MAX_BYTES {
            return Err(Trouble::Garbled(format!(
                "an answer of over {ANSWER_MAX_BYTES} bytes"
            )));
        }
        let socket = self.socket.as_mut().expect("it was connected");
        let watched = watch(&mut self.watchdog, began + self.patience);
        tokio::select! {
            biased;
            read = socket.read_buf(&mut self.received) => Ok(read.map_err(broken)? > 0),
            () = watched => Err(Trouble::Slow),
        }
    }
}

fn broken(error: io::Error) -> Trouble {
    Trouble::Reset(error.to_string())
}

/// Waits until `until`. The timer was set for an earlier request, so it may fire too early and is
/// then reset.
async fn watch(watchdog: &mut Pin<Box<Sleep>>, until: Instant) {
    loop {
        watchdog.as_mut().await;
        if Instant::now() >= until {
            return;
        }
        watchdog.as_mut().reset(until);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(200);
    const SILENCE: &str = "silence";

    /// Starts a server that, for each connection, reads a request and writes the next part of that
    /// connection's script, until the parts are used up. Returns its address.
    async fn serve(answers: Vec<&'static str>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            for answer in answers {
                let (mut socket, _) = listener.accept().await.expect("a client");
                let mut buffer = [0; 1024];
                for part in answer.split('|') {
                    let _ = socket.read(&mut buffer).await.expect("a request");
                    if part == SILENCE {
                        std::future::pending::<()>().await;
                    }
                    socket.write_all(part.as_bytes()).await.expect("a reader");
                }
            }
        });
        address
    }

    async fn ask(connection: &mut ClientConnection) -> Result<(u16, String), Trouble> {
        let reply = connection.ask(b"POST / HTTP/1.1\r\n\r\n").await?;
        let body = String::from_utf8_lossy(reply.body).into_owned();
        Ok((reply.status, body))
    }

    #[tokio::test]
    async fn connections_are_kept_and_made_again() {
        let address = serve(vec![
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab\
             |HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nc\r\n0\r\n\r\n\
             |HTTP/1.1 200 OK\r\n\r\nto the end",
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\nd",
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort",
            "",
            "nonsense",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\ntoo much",
        ])
        .await;
        let mut connection = ClientConnection::open(address, PATIENCE)
            .await
            .expect("it listens");
        for (status, body) in [(200, "ab"), (202, "c"), (200, "to the end"), (200, "d")] {
            let answer = ask(&mut connection).await.expect("an answer");
            assert_eq!(answer, (status, body.to_owned()));
        }
        let reply = ask(&mut connection).await;
        assert!(
            matches!(&reply, Err(Trouble::Reset(why)) if why.contains("into an answer")),
            "{reply:?}"
        );
        let reply = ask(&mut connection).await;
        assert!(matches!(&reply, Err(Trouble::Reset(_))), "{reply:?}");
        let reply = ask(&mut connection).await;
        assert!(matches!(&reply, Err(Trouble::Garbled(_))), "{reply:?}");
        let reply = ask(&mut connection).await;
        assert!(matches!(&reply, Err(Trouble::Garbled(_))), "{reply:?}");
    }

    #[tokio::test]
    async fn silence_is_told_from_nobody() {
        let address = serve(vec!["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n|silence"]).await;
        let mut connection = ClientConnection::open(address, PATIENCE)
            .await
            .expect("it listens");
        ask(&mut connection).await.expect("an answer");
        let outcome = ask(&mut connection).await;
        assert!(matches!(outcome, Err(Trouble::Slow)), "{outcome:?}");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let gone = listener.local_addr().expect("bound");
        drop(listener);
        let outcome = ClientConnection::open(gone, PATIENCE).await.err();
        let Some(Trouble::Refused(error)) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
