//! Calls tools of MCP servers, over their standard input and output or over HTTP.
//!
//! A server is started, or connected to, when one of its tools is first needed. A server that was
//! started as a child process is ended together with all its descendants. What matters most here is
//! to report the outcome of a call honestly: a call that certainly did not happen is `Unavailable`;
//! a call that was sent and got no answer is `UnknownOutcome`, unless repeating it does no harm.
//!
//! ```text
//!   server (configured) -> instance (one run) -> connection (MCP) -> wire (pipes)    <- child
//!                                                                \-> backend (HTTP)  <- remote
//! ```
//!
//! | file | content |
//! |---|---|
//! | `settings.rs` | the configuration of a server |
//! | `server.rs`, `backoff.rs` | a configured server: when an instance is started, and when again |
//! | `child.rs`, `process.rs`, `descendants.rs`, `stderr.rs` | an instance as a child process |
//! | `other_user.rs` | how that becomes another user's |
//! | `sandbox.rs`, `surroundings.rs` | how that is kept from the daemon's files |
//! | `remote.rs` | an instance over HTTP |
//! | `instance.rs` | what both kinds of instance have in common |
//! | `listing.rs`, `catalog.rs` | the tools, as the server lists them and as guests see them |
//! | `connection.rs`, `throttle.rs` | the handshake, the list of tools, and calls |
//! | `delivery.rs`, `bound.rs` | the fate of a request, and the bound of its answer |
//! | `wire.rs`, `frames.rs` | the transport over pipes |
//! | `backend.rs`, `answer.rs`, `bodies.rs`, `events.rs`, `utf8.rs` | the transport over HTTP |
//! | `jsonrpc.rs`, `scan.rs`, `requests.rs` | reads the messages of a server, for both transports |
//! | `outcome.rs`, `media.rs` | the answer to a call as guests see it |
//! | `errors.rs`, `opening.rs`, `brief.rs` | why there is no result or no connection, in words |

mod answer;
mod backend;
mod backoff;
mod bodies;
mod bound;
mod brief;
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
mod other_user;
mod outcome;
#[cfg(test)]
mod outcome_tests;
mod process;
mod remote;
mod requests;
mod sandbox;
mod scan;
mod server;
mod settings;
mod stderr;
mod surroundings;
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

/// What a caller must know about a call before making it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether sending the call again does no harm.
    pub repeatable: bool,
    /// Whether the call changes nothing.
    pub read_only: bool,
    /// If set, a human must approve the call within this time.
    pub ask: Option<Duration>,
}

/// All tool servers, by name. Clones share them; a server is ended once no clone refers to it any
/// more.
#[derive(Clone)]
pub struct ToolServers {
    servers: Arc<BTreeMap<String, Arc<ServerHandle>>>,
    /// Servers that [`ToolServers::with`] replaced or dropped and that some turn may still use.
    left: Arc<Mutex<Vec<Weak<ServerHandle>>>>,
    ending: CancellationToken,
}

impl ToolServers {
    /// Creates the set from its settings. Starts no server.
    pub fn new(servers: BTreeMap<String, ToolServer>) -> Self {
        let none = Self {
            servers: Arc::default(),
            left: Arc::default(),
            ending: CancellationToken::new(),
        };
        none.with(servers)
    }

    /// Returns a set with these servers in place of the present ones. Servers whose settings are
    /// unchanged go on as they are; the others end once no turn that began with them is running.
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

    /// Returns the granted tools, by full name. Starts every server that a grant can match. For a
    /// server that is down, lists the tools that it had last, with descriptions that say that they
    /// are unavailable; if its tools are not known, one placeholder tool stands for all of them
    /// ([`ToolName::UNAVAILABLE`]).
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

    /// Returns the status of each server.
    pub fn status(&self) -> Vec<ToolServerStatus> {
        self.servers
            .values()
            .map(|server| server.status())
            .collect()
    }

    /// Returns whether the call may be repeated and whether a human has to approve it. Starts the
    /// server if needed, so that whatever can fail does so before anything has an effect: effects
    /// are left to [`ToolServers::call`].
    ///
    /// # Errors
    /// `Invalid` if there is no such tool or the arguments are not a JSON object, `Denied` if there
    /// is no such server, `Unavailable` if the server is down.
    pub async fn classify(&self, call: &ToolCall) -> Result<Look, StepError> {
        arguments(call)?;
        let (server, name) = self.server(call)?;
        let (_, offered) = server.tool(name).await?;
        let settings = &server.settings;
        let ask = settings.ask.allow(&offered.own);
        Ok(Look {
            repeatable: offered.repeatable,
            // An operator who configures `once` does not trust the server's hints.
            read_only: offered.tool.read_only && offered.repeatable,
            ask: ask.then_some(settings.ask_timeout),
        })
    }

    /// Calls a tool. `key` is the same each time this call is sent, so that the server can
    /// recognize a repetition; `repeatable` is the result of [`ToolServers::classify`]. The server
    /// may stay silent for its `call_timeout`; each progress notification restarts that time, but
    /// the whole call takes no longer than `limit`. Dropping the future cancels the call, as far as
    /// the server can be notified.
    ///
    /// # Errors
    /// As [`ToolServers::classify`], all of these before anything was sent; `Unavailable` also if
    /// the call was certainly not sent. Once it was sent: `TooLarge` if the tool ran and its answer
    /// exceeds `limit_bytes`, `Invalid` and `Failed` if the server answered with an error, and if
    /// no answer came, `UnknownOutcome`, or `Unavailable` and `Timeout` if the call is repeatable.
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
        let context = CallContext {
            name: &call.name,
            server: &server.name,
            settings: &server.settings,
            repeatable,
            limit_bytes,
            limit,
        };
        let since = Instant::now();
        let mut called = instance
            .call(request(&context, key, offered, &arguments))
            .await;
        if let Err((NoResult::Forgotten, _)) = called {
            // The call has not happened: send it once more, in a new session, with the tools listed
            // there.
            (instance, offered) = server.tool(name).await?;
            called = instance
                .call(request(&context, key, offered, &arguments))
                .await;
        }
        if let Err((NoResult::Refused(error), _)) = &called
            && matches!(server.settings.at, ToolServerAt::Url(_))
            && answer::is_lost_session(error)
        {
            // Reported like any answer, since it is unknown what the tool did before the session
            // was lost; ending the server makes the next call open a new session.
            server.end().await;
        }
        let result = match called {
            Ok(answer) => {
                let room = Room {
                    all: limit_bytes,
                    image: server.settings.image_bytes,
                };
                outcome::outcome(answer, room).map_err(|error| context.unusable(error))
            }
            Err((error, ended)) => Err(context.no_result(error, ended.as_deref())),
        };
        count(&server.name, &result, since.elapsed());
        result
    }

    /// Kills the servers that outlived earlier workers of this owner, since the results of what
    /// they still do would reach no one. Only for an owner that has not started any servers itself
    /// yet. Waits until they are gone.
    pub async fn end_leftovers(owner: &str) {
        let mark = process::mark_of(owner);
        let swept = tokio::task::spawn_blocking(move || descendants::kill_marked(&mark)).await;
        if let Ok(killed) = swept
            && killed > 0
        {
            tracing::warn!(killed, "tool servers had outlived their worker");
        }
    }

    /// Ends all servers as [`ToolServers::end`] does, but they are started again when needed.
    pub async fn rest(&self) {
        join_all(self.all().iter().map(|server| server.end())).await;
    }

    /// Ends all servers with all their descendants and waits until they are gone; no server is
    /// started after that. Takes some seconds at most.
    pub async fn end(&self) {
        // First, so that no start can slip in while the servers are being ended.
        self.ending.cancel();
        join_all(self.all().iter().map(|server| server.end())).await;
    }

    /// Returns the configured servers and the replaced ones that are still in use.
    fn all(&self) -> Vec<Arc<ServerHandle>> {
        // A poisoned lock is safe to use: each change of the list is a single call.
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
    context: &CallContext<'_>,
    key: &str,
    offered: Offered,
    arguments: &serde_json::Map<String, Value>,
) -> CallRequest {
    CallRequest {
        tool: offered.own,
        arguments: arguments.clone(),
        key: key.to_owned(),
        patience: context.settings.call_timeout,
        limit: context.limit,
        limit_bytes: context.limit_bytes,
    }
}

/// Parses a call's arguments. Models send an empty text for a tool that takes no arguments.
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
