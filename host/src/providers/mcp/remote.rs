//! A connection over HTTP to a server that Abide does not run, from its handshake to its end.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::common::client_side_sse::ExponentialBackoff;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::ToolServer;
use super::backend::{Backend, BackendParts, Over};
use super::bound::AnswerBound;
use super::brief::brief;
use super::connection::{ConnectionTask, McpConnection};
use super::instance::{CLOSE_PATIENCE, Instance, OpenedServer, ServerExit, late, start_limit};
use super::opening::{self, OpenFailure};
use super::settings::Endpoint;
use crate::providers::http_body::{causes, is_loopback};

/// The timeout for establishing a TCP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an idle connection is reused. Servers close theirs after some seconds (most after 5),
/// and a call that is sent in that very moment would have an unknown outcome.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);
/// The number of requests that may wait for a response head at the same time.
const POSTS_MAX: usize = 256;
/// The longest pause before a stream that breaks off repeatedly is requested again.
const STREAM_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Connects, performs the handshake and lists the tools, all within the server's start limit. The
/// connection ends when `stop` is cancelled.
pub(super) async fn start(
    server: &Arc<str>,
    settings: &Arc<ToolServer>,
    endpoint: &Endpoint,
    stop: CancellationToken,
) -> Result<Instance, String> {
    let bound = AnswerBound::new();
    // Requests in flight must not outlive a handshake that fails.
    let opening = stop.child_token();
    let given_up = opening.clone().drop_guard();
    let backend = Backend::new(BackendParts {
        server: server.clone(),
        url: url(server, endpoint)?,
        shown: endpoint.shown().to_owned(),
        http: client(endpoint)?,
        headers: headers(server, endpoint)?,
        bound: bound.clone(),
        stop: opening,
    });
    let transport = StreamableHttpClientTransport::with_client(backend.clone(), config(endpoint));
    let opening = async {
        let opened = McpConnection::over(transport, bound).await;
        let (connection, serving) = opened.map_err(|error| OpenFailure::of_opening(&error))?;
        OpenedServer::list(server, settings, connection, serving).await
    };
    let opened = async {
        match opening.await {
            Ok(opened) => Ok(opened),
            Err(_) if backend.speaks_old_http().await => {
                Err(opening::speaks_old_http(server, endpoint.shown()))
            }
            Err(OpenFailure::Because(reason)) => Err(reason),
            Err(OpenFailure::Broken(reason)) => Err(backend.trouble().unwrap_or(reason)),
        }
    };
    let opened = tokio::select! {
        opened = opened => opened,
        () = sleep(start_limit(settings)) => Err(late(server, settings)),
        () = stop.cancelled() => Err("it was not needed any more".to_owned()),
    };
    let opened = opened.map_err(|reason| brief(&settings.redact(&reason)))?;
    given_up.disarm();
    tracing::info!(
        %server,
        url = endpoint.shown(),
        tools = opened.tools(),
        "tool server connected"
    );
    let over = backend.over();
    let stopped = stop.clone();
    let redacted = settings.clone();
    Ok(Instance::new(
        server,
        settings,
        opened,
        stop,
        |serving| async move {
            let Over { reason, forgotten } = watch(serving, over, stopped).await;
            let reason = brief(&redacted.redact(&reason));
            ServerExit { reason, forgotten }
        },
    ))
}

/// Waits until a connection ends or becomes useless for new calls, and returns why. Calls in flight
/// may go on as long as the instance is referenced.
async fn watch(
    serving: ConnectionTask,
    mut over: watch::Receiver<Option<Over>>,
    stop: CancellationToken,
) -> Over {
    let connection = serving.cancellation_token();
    let stopping = stop.clone();
    let (open, closed) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let _open = open;
        let closed = serving.waiting();
        tokio::pin!(closed);
        tokio::select! {
            _ = &mut closed => {}
            () = stopping.cancelled() => {
                connection.cancel();
                let _ = timeout(CLOSE_PATIENCE, &mut closed).await;
            }
        }
    });
    let ended = |reason: &str| Over {
        reason: reason.to_owned(),
        forgotten: false,
    };
    tokio::select! {
        over = over.wait_for(Option::is_some) => {
            let over = over.ok().and_then(|over| over.clone());
            over.unwrap_or_else(|| ended("the connection ended"))
        }
        _ = closed => ended(match stop.is_cancelled() {
            true => "it was ended, since the daemon restarts or stops",
            false => "the connection ended",
        }),
    }
}

fn config(endpoint: &Endpoint) -> StreamableHttpClientTransportConfig {
    let mut retry = ExponentialBackoff::default();
    retry.max_delay = Some(STREAM_PAUSE_MAX);
    let mut config = StreamableHttpClientTransportConfig::with_uri(endpoint.shown())
        .max_concurrent_requests(POSTS_MAX)
        // A new session must be a new instance, so that its tools are listed again.
        .reinit_on_expired_session(false);
    config.retry_config = Arc::new(retry);
    config
}

fn url(server: &str, endpoint: &Endpoint) -> Result<reqwest::Url, String> {
    reqwest::Url::parse(&endpoint.url)
        .map_err(|error| format!("`mcp.{server}.url` is not a URL ({error})"))
}

fn client(endpoint: &Endpoint) -> Result<reqwest::Client, String> {
    // An error means that a provider is already installed, which is just as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .user_agent(concat!("abide/", env!("CARGO_PKG_VERSION")))
        .referer(false)
        // A redirect would send the token to another server.
        .redirect(reqwest::redirect::Policy::none());
    if reqwest::Url::parse(&endpoint.url).is_ok_and(|url| is_loopback(&url)) {
        client = client.no_proxy();
    }
    let client = client.build();
    client.map_err(|error| format!("no HTTP client can be made: {}", causes(&error)))
}

/// Returns the headers that each request carries, marked as sensitive.
fn headers(server: &str, endpoint: &Endpoint) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let sensitive = |value: &str, keys: &str| {
        let mut value = HeaderValue::try_from(value)
            .map_err(|_| format!("it holds characters that a header cannot; check {keys}"))?;
        value.set_sensitive(true);
        Ok::<_, String>(value)
    };
    if let Some(token) = &endpoint.token {
        let keys = format!("`mcp.{server}.token_env` or `mcp.{server}.token_file`");
        let token = sensitive(&format!("Bearer {token}"), &keys);
        let token = token.map_err(|why| format!("of its bearer token, {why}"))?;
        headers.insert(header::AUTHORIZATION, token);
    }
    for (name, value) in &endpoint.headers {
        let key = format!("`mcp.{server}.headers`");
        let failed = |why: String| format!("of its header `{name}`, {why}");
        let value = sensitive(value, &key).map_err(failed)?;
        let name = HeaderName::try_from(name)
            .map_err(|_| failed(format!("the name is none; check {key}")))?;
        headers.insert(name, value);
    }
    Ok(headers)
}
