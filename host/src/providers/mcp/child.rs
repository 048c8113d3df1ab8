//! A tool server that runs as a child process, from its start to the end of its last descendant.

use std::sync::Arc;

use futures::FutureExt as _;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::ToolServer;
use super::brief::brief;
use super::connection::{ConnectionTask, McpConnection};
use super::instance::{CLOSE_PATIENCE, Instance, OpenedServer, ServerExit, late, start_limit};
use super::opening::OpenFailure;
use super::process::{Pipes, Process};
use super::settings::Program;
use super::stderr::{self, LastWords};

/// Starts a server, performs the handshake and lists its tools, all within its start limit. The
/// server ends when `stop` is cancelled.
pub(super) async fn start(
    server: &Arc<str>,
    settings: &Arc<ToolServer>,
    program: &Program,
    stop: CancellationToken,
) -> Result<Instance, String> {
    let (process, pipes) = Process::spawn(server, program, start_limit(settings)).await?;
    let Pipes {
        input,
        output,
        errors,
    } = pipes;
    let last = LastWords::default();
    tokio::spawn(stderr::drain(
        errors,
        server.clone(),
        settings.clone(),
        last.clone(),
    ));
    let opening = async {
        let opened = McpConnection::open(output, input).await;
        let (connection, serving) = opened.map_err(|error| OpenFailure::of_opening(&error))?;
        OpenedServer::list(server, settings, connection, serving).await
    };
    tokio::pin!(opening);
    let opened = tokio::select! {
        opened = &mut opening => opened,
        () = process.exited() => {
            // What it wrote before it exited may still be in the pipe.
            let outcome = timeout(CLOSE_PATIENCE, &mut opening).await;
            match outcome.unwrap_or_else(|_| Err(OpenFailure::Broken("it ended".to_owned()))) {
                // The handshake succeeded, but the process has exited all the same.
                Ok(_) => Err(OpenFailure::Broken("it ended".to_owned())),
                failed => failed,
            }
        }
        () = sleep(start_limit(settings)) => Err(OpenFailure::Because(late(server, settings))),
        () = stop.cancelled() => Err(OpenFailure::Because("it was not needed any more".to_owned())),
    };
    let opened = match opened {
        Ok(opened) => opened,
        Err(failure) => {
            let reason = match failure {
                OpenFailure::Because(reason) => {
                    process.end().await;
                    brief(&settings.redact(&reason))
                }
                OpenFailure::Broken(reason) => {
                    // If the process exited by itself, its status says more than the broken
                    // connection.
                    let gone = timeout(CLOSE_PATIENCE, process.exited()).await.is_ok();
                    let status = process.end().await;
                    let reason = if gone { status } else { reason };
                    let reason = brief(&settings.redact(&reason));
                    format!("{reason} before it was ready; check `mcp.{server}.command`")
                }
            };
            return Err(last.after(&reason).await);
        }
    };
    tracing::info!(
        %server,
        pid = process.id(),
        tools = opened.tools(),
        "tool server started"
    );
    let stopped = stop.clone();
    let kept = |serving| async move {
        let reason = supervise(process, serving, stopped).await;
        ServerExit {
            reason: last.after(&reason).await,
            forgotten: false,
        }
    };
    Ok(Instance::new(server, settings, opened, stop, kept))
}

/// Waits until a server ends or is stopped, and returns how it ended.
async fn supervise(process: Process, serving: ConnectionTask, stop: CancellationToken) -> String {
    let connection = serving.cancellation_token();
    let closed = serving.waiting().fuse();
    tokio::pin!(closed);
    tokio::select! {
        () = process.exited() => {
            // Its last answers may still be in the pipe, which reaches its end only once no
            // descendant holds it. So kill the descendants first, then let the connection read the
            // rest.
            let status = process.end().await;
            let _ = timeout(CLOSE_PATIENCE, &mut closed).await;
            connection.cancel();
            status
        }
        _ = &mut closed => {
            let status = process.end().await;
            format!("it closed its output; {status}")
        }
        () = stop.cancelled() => {
            connection.cancel();
            // Cancelling closes the server's input, unless a write is blocked: then killing the
            // process closes it.
            let _ = timeout(CLOSE_PATIENCE, &mut closed).await;
            process.end().await;
            "it was ended, since the daemon restarts or stops".to_owned()
        }
    }
}
