//! Tools of servers that speak MCP, over their standard input and output or over HTTP.
//!
//! A server is started, or connected to, when one of its tools is first wanted; one that was started
//! is ended with all that descends from it. What matters most here is the honesty of an outcome: a
//! call that has certainly not happened is `Unavailable`; one that was sent and has no answer is
//! `UnknownOutcome`, unless calling it again does no harm.
//!
//! ```text
//!   server (all its lives) -> instance (one) -> connection (MCP) -> wire (pipes)    <- child
//!                                                               \-> backend (HTTP)  <- remote
//! ```

mod answer;
mod backend;
mod backoff;
mod bodies;
mod bound;
mod catalog;
mod child;
mod connection;
mod delivery;
mod descendants;
mod errors;
mod events;
mod frames;
mod instance;
mod jsonrpc;
#[cfg(test)]
mod jsonrpc_tests;
mod listing;
mod media;
mod opening;
mod outcome;
#[cfg(test)]
mod outcome_tests;
mod process;
mod remote;
mod requests;
mod scan;
mod server;
mod settings;
mod stderr;
#[cfg(test)]
mod tests;
mod throttle;
mod utf8;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::domain::{Patterns, StepError, Tool, ToolCall, ToolName, ToolOutcome, ToolServerStatus};
use catalog::Offered;
use connection::{CallRequest, NoResult};
use errors::CallContext;
use outcome::Room;
use server::ServerHandle;

pub use settings::{Endpoint, Program, ToolServer, ToolServerAt};

/// What is to be known of a call before it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether it does no harm to send the call again.
    pub repeatable: bool,
    /// Whether it changes nothing.
    pub read_only: bool,
    /// A human has to approve, within that time.
    pub ask: Option<Duration>,
}

/// All tool servers, by name. Clones share them; a server that no clone has any more is ended.
#[derive(Clone)]
pub struct ToolServers {
    servers: Arc<BTreeMap<String, Arc<ServerHandle>>>,
    /// Servers that [`ToolServers::with`] has left behind: some turn may still use them.
    left: Arc<Mutex<Vec<Weak<ServerHandle>>>>,
    ending: CancellationToken,
}

impl ToolServers {
    /// Takes servers. Starts nothing.
    pub fn new(servers: BTreeMap<String, ToolServer>) -> Self {
        let none = Self {
            servers: Arc::default(),
            left: Arc::default(),
            ending: CancellationToken::new(),
        };
        none.with(servers)
    }

    /// These servers in place of the present ones. Those whose settings are the same go on as they
    /// are; the others end once no turn that began with them runs any more.
    pub fn with(&self, servers: BTreeMap<String, ToolServer>) -> Self {
        let servers: BTreeMap<String, Arc<ServerHandle>> = servers
            .into_iter()
            .map(|(name, settings)| {
                let same = self.servers.get(&name);
                let same = same.filter(|server| *server.settings == settings).cloned();
                let ending = self.ending.child_token();
                let server = same
                    .unwrap_or_else(|| Arc::new(ServerHandle::new(name.clone(), settings, ending)));
                (name, server)
            })
            .collect();
        let stays = |name: &String, server: &Arc<ServerHandle>| {
            servers
                .get(name)
                .is_some_and(|new| Arc::ptr_eq(new, server))
        };
        let gone = self
            .servers
            .iter()
            .filter(|(name, server)| !stays(name, server));
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.retain(|server| server.strong_count() > 0);
        left.extend(gone.map(|(_, server)| Arc::downgrade(server)));
        Self {
            servers: Arc::new(servers),
            left: self.left.clone(),
            ending: self.ending.clone(),
        }
    }

    /// The tools that are granted, by full name. Starts the servers that a grant can match. Those of
    /// one that is down are there as they were last, and their descriptions say so; where they are
    /// not known, one stands for all of them ([`ToolName::UNAVAILABLE`]).
    pub async fn list(&self, granted: &Patterns) -> Vec<Tool> {
        let servers = self.servers.iter();
        let wanted = servers.filter(|(name, _)| granted.allow_tool_server(name));
        let lists = wanted.map(|(name, server)| async move {
            match server.list().await {
                Ok(catalog) => catalog.all().map(|offered| offered.tool.clone()).collect(),
                Err(down) => {
                    let reason = &down.reason;
                    tracing::warn!(server = name, reason, "tools are listed as unavailable");
                    catalog::missing(name, server.last_tools().as_deref(), reason)
                }
            }
        });
        let lists: Vec<Vec<Tool>> = join_all(lists).await;
        let tools = lists.into_iter().flatten();
        tools
            .filter(|tool| granted.allow_tool(&tool.name))
            .collect()
    }

    /// How each server is.
    pub fn status(&self) -> Vec<ToolServerStatus> {
        self.servers
            .values()
            .map(|server| server.status())
            .collect()
    }

    /// Whether it does no harm to send this call again, and whether a human has to approve. Starts
    /// the server if need be, so that what can fail fails before anything has an effect; that is
    /// left to [`ToolServers::call`].
    ///
    /// # Errors
    /// `Invalid` where there is no such tool or the arguments are no JSON object, `Denied` where
    /// there is no such server, `Unavailable` where the server is down.
    pub async fn classify(&self, call: &ToolCall) -> Result<Look, StepError> {
        arguments(call)?;
        let (server, name) = self.server(call)?;
        let (_, offered) = server.tool(name).await?;
        let settings = &server.settings;
        let ask = settings.ask.allow(&offered.own);
        Ok(Look {
            repeatable: offered.repeatable,
            // An operator who says `once` does not believe the server.
            read_only: offered.tool.read_only && offered.repeatable,
            ask: ask.then_some(settings.ask_timeout),
        })
    }

    /// Calls a tool. `key` is the same however often this call is sent, so that the server can see
    /// that it knows it; `repeatable` is what [`ToolServers::look`] said of it. The server may be
    /// silent as long as its `call_timeout`; progress that it tells of begins that anew, and the whole
    /// takes no longer than `limit`. Dropping the future cancels the call, as far as the server can
    /// be told.
    ///
    /// # Errors
    /// As [`ToolServers::look`], all of them before anything was sent; `Unavailable` also
    /// where the call was certainly not sent. Once it was sent: `TooLarge` where the tool ran and
    /// its answer has more than `limit_bytes`, `Invalid` and `Failed` where the server answered
    /// with an error, and where no answer came `UnknownOutcome`, or `Unavailable` and `Timeout` if
    /// it is repeatable.
    pub async fn call(
        &self,
        call: &ToolCall,
        key: &str,
        repeatable: bool,
        limit_bytes: u64,
        limit: Duration,
    ) -> Result<ToolOutcome, StepError> {
        let arguments = arguments(call)?;
        let (server, name) = self.server(call)?;
        let (mut instance, mut offered) = server.tool(name).await?;
        let told = CallContext {
            name: &call.name,
            server: &server.name,
            settings: &server.settings,
            repeatable,
            limit_bytes,
            limit,
        };
        let since = Instant::now();
        let mut called = instance
            .call(request(&told, key, offered, &arguments))
            .await;
        if let Err((NoResult::Forgotten, _)) = called {
            // It has not happened: once more, in a new session, with the tools as they are there.
            (instance, offered) = server.tool(name).await?;
            called = instance
                .call(request(&told, key, offered, &arguments))
                .await;
        }
        if let Err((NoResult::Refused(error), _)) = &called
            && matches!(server.settings.at, ToolServerAt::Url(_))
            && answer::is_lost_session(error)
        {
            // Told as any answer, for nobody knows what it did first; the next call opens another.
            server.end().await;
        }
        let result = match called {
            Ok(answer) => {
                let room = Room {
                    all: limit_bytes,
                    image: server.settings.image_bytes,
                };
                outcome::outcome(answer, room).map_err(|error| told.unusable(error))
            }
            Err((error, ended)) => Err(told.no_result(error, ended.as_deref())),
        };
        count(&server.name, &result, since.elapsed());
        result
    }

    /// Kills the servers of an owner's earlier workers that outlived them: what they still do, nobody
    /// would hear of. For an owner that has started none itself yet. Waits until they are gone.
    pub async fn end_leftovers(owner: &str) {
        let mark = process::mark_of(owner);
        let swept = tokio::task::spawn_blocking(move || descendants::kill_marked(&mark)).await;
        if let Ok(killed) = swept
            && killed > 0
        {
            tracing::warn!(killed, "tool servers had outlived their worker");
        }
    }

    /// Ends all servers as [`ToolServers::end`] does; they are started again when they are wanted.
    pub async fn rest(&self) {
        join_all(self.all().iter().map(|server| server.end())).await;
    }

    /// Ends all servers with all that descends from them, and waits until they are gone; nothing
    /// is started any more. Takes some seconds at most.
    pub async fn end(&self) {
        self.ending.cancel();
        join_all(self.all().iter().map(|server| server.end())).await;
    }

    /// Those that are configured, and those of before which are still in use.
    fn all(&self) -> Vec<Arc<ServerHandle>> {
        // The list is whole whatever panicked: each change of it is one call.
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let left = left.iter().filter_map(Weak::upgrade);
        self.servers.values().cloned().chain(left).collect()
    }

    fn server<'a>(&self, call: &'a ToolCall) -> Result<(&ServerHandle, ToolName<'a>), StepError> {
        let full = &call.name;
        let name = ToolName::parse(full).ok_or_else(|| {
            StepError::Invalid(format!(
                "there is no tool `{full}`: tools are named SERVER__TOOL"
            ))
        })?;
        let server = name.server;
        let found = self.servers.get(server).ok_or_else(|| {
            StepError::Denied(format!(
                "there is no tool server `{server}`; add `[mcp.{server}]` to the configuration"
            ))
        })?;
        Ok((found, name))
    }
}

fn request(
    told: &CallContext<'_>,
    key: &str,
    offered: Offered,
    arguments: &serde_json::Map<String, Value>,
) -> CallRequest {
    CallRequest {
        tool: offered.own,
        arguments: arguments.clone(),
        key: key.to_owned(),
        patience: told.settings.call_timeout,
        limit: told.limit,
        limit_bytes: told.limit_bytes,
    }
}

/// A call's arguments. Models send nothing at all where a tool takes none.
fn arguments(call: &ToolCall) -> Result<serde_json::Map<String, Value>, StepError> {
    let text = call.arguments.trim();
    let invalid = |why: &dyn fmt::Display| {
        let name = &call.name;
        StepError::Invalid(format!(
            "the arguments of `{name}` must be one JSON object: {why}"
        ))
    };
    match text {
        "" => Ok(serde_json::Map::new()),
        text => match serde_json::from_str(text) {
            Ok(Value::Object(arguments)) => Ok(arguments),
            Ok(_) => Err(invalid(&"this is another kind of value")),
            Err(error) => Err(invalid(&error)),
        },
    }
}

fn count(server: &str, result: &Result<ToolOutcome, StepError>, took: Duration) {
    let outcome = match result {
        Ok(outcome) if outcome.is_error => "tool_error",
        Ok(_) => "ok",
        Err(StepError::UnknownOutcome(_)) => "unknown",
        Err(_) => "error",
    };
    let server = server.to_owned();
    metrics::counter!(
        "abide_tool_calls_total", "server" => server.clone(), "outcome" => outcome
    )
    .increment(1);
    metrics::histogram!("abide_tool_call_seconds", "server" => server).record(took);
}
