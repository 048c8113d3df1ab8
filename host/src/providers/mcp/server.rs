//! A configured server across all its instances: started when needed, one start at a time, and
//! after a failure not again at once.

use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::backoff::RestartBackoff;
use super::catalog::{Catalog, Offered};
use super::instance::{EndedServer, Instance, start_limit};
use super::settings::{ToolServer, ToolServerAt};
use super::{child, remote, sandbox};
use crate::domain::{
    StepError, ToolName, ToolSandbox, ToolServerKind, ToolServerState, ToolServerStatus, UnixMillis,
};

/// The maximum number of tools that an error names.
const NAMED_MAX: usize = 20;
/// How long listing tools waits for a server whose last start failed. Other servers are waited for
/// as long as they may take.
const DOUBTFUL_PATIENCE: Duration = Duration::from_secs(2);

/// The server of one `[mcp.NAME]` section.
pub(super) struct ServerHandle {
    pub(super) name: Arc<str>,
    pub(super) settings: Arc<ToolServer>,
    sandbox: Option<ToolSandbox>,
    /// Locked by the task that starts the server: waiting for a start means waiting for this lock.
    falls: Arc<Mutex<RestartBackoff>>,
    /// The state for readers that must not wait. Changed only while `falls` is locked.
    state: Arc<StdMutex<ServerView>>,
    /// Stops the instance that runs or starts now. Not part of the state, which a start replaces.
    stop: StdMutex<CancellationToken>,
    /// Cancelled when the server must not run any more: its own token, and a child of that of all
    /// servers.
    ending: CancellationToken,
}

/// The last known state of a server.
#[derive(Default)]
struct ServerView {
    state: ServerState,
    /// The tools that the server had last.
    tools: Option<Arc<Catalog>>,
}

#[derive(Default)]
enum ServerState {
    #[default]
    Idle,
    Starting(ServerStart),
    Running(Arc<Instance>),
    Fallen(Fall),
}

/// A start in progress.
#[derive(Clone)]
struct ServerStart {
    at: UnixMillis,
    /// Until when callers wait for the start; it continues in the background after that.
    patience: Instant,
    /// Why the server failed before this start, if it did.
    before: Option<String>,
}

#[derive(Clone)]
struct Fall {
    reason: String,
    at: UnixMillis,
    /// When the next start is allowed.
    until: UnixMillis,
}

/// Why a server cannot be used now.
pub(super) struct Down {
    /// The reason, with the remedy.
    pub(super) reason: String,
    /// The remaining pause before the next start is allowed.
    rest: Option<Duration>,
}

impl Down {
    fn because(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            rest: None,
        }
    }
}

impl ServerHandle {
    pub(super) fn new(name: String, settings: ToolServer, ending: CancellationToken) -> Self {
        let sandbox = match &settings.at {
            ToolServerAt::Command(program) => sandbox::status(program),
            ToolServerAt::Url(_) => None,
        };
        Self {
            name: name.into(),
            sandbox,
            settings: Arc::new(settings),
            falls: Arc::default(),
            state: Arc::default(),
            stop: StdMutex::default(),
            ending,
        }
    }

    /// Returns the running instance, and starts one if there is none. Waits for a slow start for up
    /// to `start_timeout`; the start itself goes on after that.
    pub(super) async fn running(&self) -> Result<Arc<Instance>, Down> {
        let lock = self.falls.clone().lock_owned();
        let mut falls = match self.starting() {
            // If the lock is held, another task is ending the server or has just begun to start it.
            None => match timeout(self.settings.start_timeout, lock).await {
                Ok(falls) => falls,
                Err(_) => return Err(self.ends_still()),
            },
            Some(start) => match timeout_at(start.patience, lock).await {
                Ok(falls) => falls,
                Err(_) => return Err(self.starts_still(&start)),
            },
        };
        if self.ending.is_cancelled() {
            return Err(Down::because("the daemon restarts or stops"));
        }
        if let Some(instance) = self.instance() {
            let Some(ended) = instance.ended() else {
                return Ok(instance);
            };
            let EndedServer {
                end, at, served, ..
            } = ended;
            let tools = Some(instance.known());
            if end.forgotten {
                self.see(ServerState::Idle, tools);
            } else {
                falls.fell(at, served, end.reason.clone());
                let fall = fall(&falls, end.reason, ended.at_ms);
                self.see(ServerState::Fallen(fall), tools);
            }
        }
        if let Some((rest, reason)) = falls.rest(Instant::now()) {
            return Err(Down {
                reason: reason.to_owned(),
                rest: Some(rest),
            });
        }
        let before = match &self.seen().state {
            ServerState::Fallen(fall) => Some(fall.reason.clone()),
            _ => None,
        };
        let start = ServerStart {
            at: UnixMillis::now(),
            patience: Instant::now() + self.settings.start_timeout,
            before,
        };
        self.see(ServerState::Starting(start.clone()), None);
        // In its own task, which owns the lock: if the caller is aborted, the start still runs to
        // its end or is undone completely.
        let (name, settings, state) =
            (self.name.clone(), self.settings.clone(), self.state.clone());
        let stop = self.ending.child_token();
        *self.stop() = stop.clone();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let started = start_instance(&name, &settings, stop).await;
            let outcome = if started.is_ok() { "ok" } else { "error" };
            metrics::counter!(
                "abide_tool_server_starts_total",
                "server" => name.to_string(), "outcome" => outcome
            )
            .increment(1);
            match started {
                Ok(instance) => {
                    let instance = Arc::new(instance);
                    see(&state, ServerState::Running(instance.clone()), None);
                    Ok(instance)
                }
                Err(reason) if stopped.is_cancelled() => {
                    see(&state, ServerState::Idle, None);
                    Err(Down::because(reason))
                }
                Err(reason) => {
                    tracing::warn!(server = %name, reason, "tool server did not start");
                    let now = Instant::now();
                    falls.fell(now, Duration::ZERO, reason.clone());
                    let fall = fall(&falls, reason.clone(), UnixMillis::now());
                    see(&state, ServerState::Fallen(fall), None);
                    let rest = falls.rest(now).map(|(rest, _)| rest);
                    Err(Down { reason, rest })
                }
            }
        });
        match timeout_at(start.patience, task).await {
            Ok(started) => started.unwrap_or_else(|_| Err(Down::because("its start was cut"))),
            Err(_) => Err(self.starts_still(&start)),
        }
    }

    fn starting(&self) -> Option<ServerStart> {
        match &self.seen().state {
            ServerState::Starting(start) => Some(start.clone()),
            _ => None,
        }
    }

    /// The error for a start that takes longer than callers wait.
    fn starts_still(&self, start: &ServerStart) -> Down {
        let (name, settings) = (&self.name, &self.settings);
        let for_ms = UnixMillis::now().since(start.at);
        let for_time = humantime::format_duration(Duration::from_secs(for_ms / 1000));
        let limit = humantime::format_duration(start_limit(settings));
        let before = start.before.as_ref();
        let before = before.map_or_else(String::new, |why| format!("; before that: {why}"));
        Down::because(format!(
            "it is starting, for {for_time} by now, and goes on in the background for up to \
             {limit}; try again later, or have turns wait longer with \
             `mcp.{name}.start_timeout`{before}"
        ))
    }

    /// The error for a server whose shutdown, or whose start that has only just begun, takes longer
    /// than callers wait.
    fn ends_still(&self) -> Down {
        let limit = humantime::format_duration(self.settings.start_timeout);
        Down::because(format!(
            "it is being ended, and was not gone within {limit}; try again later, or have turns \
             wait longer with `mcp.{}.start_timeout`",
            self.name
        ))
    }

    /// Returns the server's tools. Waits only briefly for a server whose last start failed.
    pub(super) async fn list(&self) -> Result<Arc<Catalog>, Down> {
        let doubt = match &self.seen().state {
            ServerState::Fallen(fall) => Some(fall.reason.clone()),
            ServerState::Starting(start) => start.before.clone(),
            ServerState::Idle | ServerState::Running(_) => None,
        };
        let instance = match doubt {
            None => self.running().await?,
            Some(reason) => timeout(DOUBTFUL_PATIENCE, self.running())
                .await
                .map_err(|_| Down::because(reason))??,
        };
        Ok(instance.catalog().await)
    }

    /// Returns the tools that the server had last, if known.
    pub(super) fn last_tools(&self) -> Option<Arc<Catalog>> {
        let seen = self.seen();
        match &seen.state {
            ServerState::Running(instance) => Some(instance.known()),
            _ => seen.tools.clone(),
        }
    }

    /// Returns a tool by its full name, and the running instance that offers it.
    pub(super) async fn tool(
        &self,
        name: ToolName<'_>,
    ) -> Result<(Arc<Instance>, Offered), StepError> {
        let instance = self.running().await.map_err(|down| self.error(&down))?;
        let full = name.to_string();
        let mut catalog = instance.catalog().await;
        if catalog.get(&full).is_none() {
            // The tool may be new, and the server may not have announced the change.
            instance.doubt();
            catalog = instance.catalog().await;
        }
        let Some(offered) = catalog.get(&full) else {
            return Err(self.unknown(name, &catalog));
        };
        Ok((instance, offered.clone()))
    }

    /// Ends the server and its descendants, and waits until they are gone. The server is started
    /// again when it is needed, unless `ending` has been cancelled.
    pub(super) async fn end(&self) {
        // Cancel before locking: a start in progress gives up, and releases the lock.
        self.stop().cancel();
        let _falls = self.falls.lock().await;
        if let Some(instance) = self.instance() {
            // Another instance may have been started between the cancellation and the lock.
            self.stop().cancel();
            instance.until_ended().await;
            self.see(ServerState::Idle, Some(instance.known()));
        }
    }

    /// Returns the server's status for an operator.
    pub(super) fn status(&self) -> ToolServerStatus {
        let kind = match &self.settings.at {
            ToolServerAt::Command(_) => ToolServerKind::Command,
            ToolServerAt::Url(_) => ToolServerKind::Url,
        };
        let seen = self.seen();
        let mut status = ToolServerStatus {
            name: self.name.to_string(),
            kind,
            state: ToolServerState::Idle,
            since: None,
            tools: seen.tools.as_ref().map(|tools| tools.len() as u64),
            reason: None,
            next_try_at: None,
            left_out: Vec::new(),
            can_read: Vec::new(),
            sandbox: self.sandbox.clone(),
        };
        let mut down = |since: UnixMillis, reason: &str, next: UnixMillis| {
            status.state = ToolServerState::Down;
            status.since = Some(since);
            status.reason = Some(reason.to_owned());
            status.next_try_at = Some(next);
        };
        match &seen.state {
            ServerState::Idle => {}
            ServerState::Fallen(fall) => down(fall.at, &fall.reason, fall.until),
            ServerState::Starting(start) => {
                status.state = ToolServerState::Starting;
                status.since = Some(start.at);
                status.reason = match Instant::now() < start.patience {
                    true => start.before.clone(),
                    false => Some(self.starts_still(start).reason),
                };
            }
            ServerState::Running(instance) => {
                match instance.ended().filter(|ended| !ended.end.forgotten) {
                    Some(ended) => down(ended.at_ms, &ended.end.reason, ended.at_ms),
                    None => {
                        status.state = ToolServerState::Up;
                        status.since = Some(instance.since);
                    }
                }
                status.tools = Some(instance.known().len() as u64);
            }
        }
        let known = match &seen.state {
            ServerState::Running(instance) => Some(instance.known()),
            _ => seen.tools.clone(),
        };
        status.left_out = known.map_or_else(Vec::new, |known| known.left_out().to_vec());
        status
    }

    fn instance(&self) -> Option<Arc<Instance>> {
        match &self.seen().state {
            ServerState::Running(instance) => Some(instance.clone()),
            _ => None,
        }
    }

    fn seen(&self) -> MutexGuard<'_, ServerView> {
        // A poisoned lock is safe to use: the view is replaced in one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn see(&self, state: ServerState, tools: Option<Arc<Catalog>>) {
        see(&self.state, state, tools);
    }

    fn stop(&self) -> MutexGuard<'_, CancellationToken> {
        // A poisoned lock is safe to use: the token is replaced in one step.
        self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unknown(&self, name: ToolName<'_>, catalog: &Catalog) -> StepError {
        let names: Vec<&str> = catalog.all().map(|offered| &*offered.tool.name).collect();
        let known = match names.as_slice() {
            [] => "it has none".to_owned(),
            [first @ .., _, _] if names.len() > NAMED_MAX => {
                format!("it has {}, …", first[..NAMED_MAX - 1].join(", "))
            }
            all => format!("it has {}", all.join(", ")),
        };
        let server = &self.name;
        StepError::Invalid(if name.stands_for_server() {
            format!(
                "`{name}` stood for tool server `{server}` while it was down, and it is up again: \
                 {known}; list the tools again"
            )
        } else {
            format!("tool server `{server}` has no tool `{name}`; {known}")
        })
    }

    /// The error for a guest that wanted to use the server.
    fn error(&self, down: &Down) -> StepError {
        let Down { reason, rest } = down;
        let again = rest.map_or_else(String::new, |rest| {
            // In whole milliseconds, rounded up.
            let rest = Duration::from_millis(rest.as_millis() as u64 + 1);
            let rest = humantime::format_duration(rest);
            format!("; it is tried again in {rest}")
        });
        StepError::Unavailable(format!(
            "tool server `{}` is down: {reason}{again}",
            self.name
        ))
    }
}

/// Starts a server or connects to it, performs the handshake and lists its tools, all within its
/// start limit. The server ends when `stop` is cancelled.
async fn start_instance(
    server: &Arc<str>,
    settings: &Arc<ToolServer>,
    stop: CancellationToken,
) -> Result<Instance, String> {
    match &settings.at {
        ToolServerAt::Command(program) => child::start(server, settings, program, stop).await,
        ToolServerAt::Url(endpoint) => remote::start(server, settings, endpoint, stop).await,
    }
}

fn fall(falls: &RestartBackoff, reason: String, at: UnixMillis) -> Fall {
    let rest = falls.rest(Instant::now());
    let rest = rest.map_or(Duration::ZERO, |(rest, _)| rest);
    Fall {
        reason,
        at,
        until: UnixMillis::now().later(rest),
    }
}

/// Replaces the state, and the tools if newer ones are given.
fn see(seen: &StdMutex<ServerView>, state: ServerState, tools: Option<Arc<Catalog>>) {
    let before = {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if tools.is_some() {
            seen.tools = tools;
        }
        std::mem::replace(&mut seen.state, state)
    };
    // Dropped outside the lock: this may drop the last reference to an instance, which ends it.
    drop(before);
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        // No one can call the server any more, so a start in progress is useless as well.
        self.ending.cancel();
    }
}
