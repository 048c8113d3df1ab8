//! A client with minimal overhead: one connection, one request at a time.

use anyhow::anyhow;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

/// The length of a message's text, typical of what people write.
const TEXT_BYTES: usize = 200;

/// A connection that is opened on first use and reopened after it was lost.
pub(crate) struct Lean {
    port: u16,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// A response to a request.
pub(crate) struct LeanResponse {
    pub(crate) status: u16,
    pub(crate) retry_after: bool,
    pub(crate) body: Bytes,
}

/// The part of the response to a message that states how its turn ended.
#[derive(Deserialize)]
struct TurnEnd<'a> {
    #[serde(borrow)]
    outcome: Option<&'a str>,
}

impl LeanResponse {
    /// Returns whether the turn completed.
    pub(crate) fn completed(&self) -> bool {
        let ended = serde_json::from_slice::<TurnEnd<'_>>(&self.body);
        self.status == 200 && ended.is_ok_and(|ended| ended.outcome == Some("completed"))
    }

    /// Returns an error with the response if the turn did not complete.
    pub(crate) fn expect_completed(self) -> anyhow::Result<()> {
        match self.completed() {
            true => Ok(()),
            false => Err(anyhow!("no turn ended well: {}", self.told())),
        }
    }

    /// Returns the response as text for an error message.
    pub(crate) fn told(&self) -> String {
        format!("{} {}", self.status, String::from_utf8_lossy(&self.body))
    }
}

impl Lean {
    /// Creates a client of the daemon on that port of the loopback interface.
    pub(crate) fn new(port: u16) -> Self {
        Self {
            port,
            connection: None,
        }
    }

    /// Sends a request once, without retries, and reads the whole response.
    pub(crate) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<LeanResponse> {
        let answer = self.try_ask(method, path, body).await;
        answer.inspect_err(|_| self.connection = None)
    }

    async fn try_ask(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<LeanResponse> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let socket = TcpStream::connect(("127.0.0.1", self.port)).await?;
                socket.set_nodelay(true)?;
                let (connection, work) = handshake(TokioIo::new(socket)).await?;
                // A connection error is reported to the request in progress; ignore it here.
                tokio::spawn(async move { drop(work.await) });
                connection
            }
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        connection.ready().await?;
        let response = connection.send_request(request).await?;
        let status = response.status().as_u16();
        let retry_after = response.headers().contains_key(header::RETRY_AFTER);
        let body = response.into_body().collect().await?.to_bytes();
        // Keep the connection only after a whole response: a failed or cancelled request drops it.
        self.connection = Some(connection);
        Ok(LeanResponse {
            status,
            retry_after,
            body,
        })
    }

    /// Creates a session of that plugin unless it exists.
    pub(crate) async fn open(&mut self, session: &str, plugin: &str) -> anyhow::Result<()> {
        let body = format!("{{\"plugin\":\"{plugin}\"}}");
        let path = format!("/v1/sessions/{session}");
        let answer = self.ask(Method::PUT, &path, body.into()).await?;
        match answer.status {
            200 | 201 => Ok(()),
            _ => Err(anyhow!("session {session}: {}", answer.told())),
        }
    }

    /// Sends a message without an idempotency key, and waits up to a minute for its turn to end.
    pub(crate) async fn say(&mut self, session: &str, body: Bytes) -> anyhow::Result<LeanResponse> {
        let path = format!("/v1/sessions/{session}/messages?wait=60s");
        self.ask(Method::POST, &path, body).await
    }
}

/// Returns the name of a session. Names are spread over the key space, as client-chosen names are:
/// a store that receives sorted keys has less work to do.
pub(crate) fn session(n: usize) -> String {
    // SplitMix64's finalizer, which is a bijection: no two numbers collide.
    let mut mixed = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    format!("{:016x}", mixed ^ (mixed >> 31))
}

/// Returns a message with ordinary text.
pub(crate) fn message() -> Bytes {
    format!("{{\"text\":\"{}\"}}", "word ".repeat(TEXT_BYTES / 5)).into()
}

/// Returns a message with a script for the `scripted` guest.
pub(crate) fn script(acts: &serde_json::Value) -> Bytes {
    let script = serde_json::json!({"id": "m", "acts": acts}).to_string();
    serde_json::json!({"text": script}).to_string().into()
}
