//! HTTP over bare sockets: no library hides from a client what happens to its connection.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// Timeout of a request. Longer than every pause that is allowed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a request got no response.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lost {
    /// The connection was refused.
    Refused,
    /// The connection was reset.
    Reset,
    /// The connection ended before the response was complete.
    Eof,
    /// No response within [`PATIENCE`].
    Slow,
    /// The response is not valid HTTP, or another error.
    Other(String),
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            io::ErrorKind::UnexpectedEof => Self::Eof,
            _ => Self::Other(error.to_string()),
        }
    }
}

pub(crate) struct Raw {
    socket: BufReader<TcpStream>,
    /// The daemon has announced (`connection: close`) that the connection ends after the last
    /// response.
    pub(crate) closes: bool,
}

impl Raw {
    pub(crate) async fn connect(port: u16) -> Result<Self, Lost> {
        let socket = TcpStream::connect(("127.0.0.1", port)).await?;
        socket.set_nodelay(true)?;
        Ok(Self {
            socket: BufReader::new(socket),
            closes: false,
        })
    }

    /// Sends a request and returns the response's status and body.
    pub(crate) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<(u16, Vec<u8>), Lost> {
        let asked = tokio::time::timeout(PATIENCE, self.exchange(method, path, body));
        asked.await.unwrap_or(Err(Lost::Slow))
    }

    async fn exchange(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<(u16, Vec<u8>), Lost> {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        self.socket.get_mut().write_all(request.as_bytes()).await?;
        let status = self.line().await?;
        let number = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let number = number.ok_or_else(|| Lost::Other(status.clone()))?;
        let mut length = None;
        loop {
            let line = self.line().await?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            self.closes |= line == "connection: close";
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok();
            }
        }
        let length = length.ok_or_else(|| Lost::Other(format!("{status}: of no length")))?;
        let mut body = vec![0; length];
        self.socket.read_exact(&mut body).await?;
        Ok((number, body))
    }

    async fn line(&mut self) -> Result<String, Lost> {
        let mut line = String::new();
        match self.socket.read_line(&mut line).await? {
            0 => Err(Lost::Eof),
            _ => Ok(line.trim_end().to_owned()),
        }
    }
}
