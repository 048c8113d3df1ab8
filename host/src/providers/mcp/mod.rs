//! Tools of servers that speak MCP over their standard input and output.
//!
//! A server is started when one of its tools is first wanted, and ended with all that descends from
//! it. What matters most here is the honesty of an outcome: a call that was certainly not written
//! is `Unavailable`; one that was written and has no answer is `UnknownOutcome`, unless calling it
//! again does no harm.

mod backoff;
mod catalog;
mod connection;
mod errors;
mod family;
mod instance;
mod lines;
mod outcome;
mod process;
mod server;
mod stderr;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::domain::{Patterns, StepError, Tool, ToolCall, ToolName, ToolOutcome};
use connection::Request;
use errors::Told;
use server::Server;

/// One `[mcp.NAME]` with a `command`. Patterns are on the server's own names of tools.
#[derive(Clone, PartialEq, Eq)]
pub struct ToolServer {
    /// The program; with a `/` in it, relative to `cwd`.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// What it finds in its environment, besides the little that it inherits. `Debug` shows no
    /// values.
    pub env: Vec<(String, String)>,
    /// The folder that it runs in.
    pub cwd: PathBuf,
    /// Whose it is, the same for every worker on a data folder and for nobody else: so that a
    /// worker finds what one that was killed has left behind.
    pub owner: String,
    /// How long it may take from its start to the list of its tools.
    pub start_timeout: Duration,
    /// How long a call may take.
    pub call_timeout: Duration,
    /// Tools that may be called again where it is unknown whether a call happened.
    pub repeatable: Patterns,
    /// Tools that may not, whatever the server says of them. Wins over `repeatable`.
    pub once: Patterns,
    /// Tools that are called only once a human has approved: [`ToolServers::look`] says so, and its
    /// caller sees to it.
    pub ask: Patterns,
    /// How long such an approval waits for its answer.
    pub ask_timeout: Duration,
}

/// What is to be known of a call before it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether it does no harm to send the call again.
    pub repeatable: bool,
    /// A human has to approve, within that time.
    pub ask: Option<Duration>,
}

impl fmt::Debug for ToolServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variables: Vec<&String> = self.env.iter().map(|(name, _)| name).collect();
        // Arguments may hold a key as well.
        f.debug_struct("ToolServer")
            .field("program", &self.program)
            .field("args", &self.args.len())
            .field("env", &variables)
            .field("cwd", &self.cwd)
            .finish_non_exhaustive()
    }
}

/// All tool servers, by name. Clones share them; a server that no clone has any more is ended.
#[derive(Clone)]
pub struct ToolServers {
    servers: Arc<BTreeMap<String, Arc<Server>>>,
    unsupported: Arc<BTreeSet<String>>,
    /// Servers that [`ToolServers::with`] has left behind: some turn may still use them.
    left: Arc<Mutex<Vec<Weak<Server>>>>,
    ending: CancellationToken,
}

impl ToolServers {
    /// Takes servers, and the names of those that this version cannot reach. Starts nothing.
    pub fn new(servers: BTreeMap<String, ToolServer>, unsupported: Vec<String>) -> Self {
        let none = Self {
            servers: Arc::default(),
            unsupported: Arc::default(),
            left: Arc::default(),
            ending: CancellationToken::new(),
        };
        none.with(servers, unsupported)
    }

    /// These servers in place of the present ones. Those whose settings are the same go on as they
    /// are; the others end once no turn that began with them runs any more.
    pub fn with(&self, servers: BTreeMap<String, ToolServer>, unsupported: Vec<String>) -> Self {
        let servers: BTreeMap<String, Arc<Server>> = servers
            .into_iter()
            .map(|(name, settings)| {
                let same = self.servers.get(&name);
                let same = same.filter(|server| *server.settings == settings).cloned();
                let ending = self.ending.child_token();
                let server =
                    same.unwrap_or_else(|| Arc::new(Server::new(name.clone(), settings, ending)));
                (name, server)
            })
            .collect();
        let stays = |name: &String, server: &Arc<Server>| {
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
            unsupported: Arc::new(unsupported.into_iter().collect()),
            left: self.left.clone(),
            ending: self.ending.clone(),
        }
    }

    /// The tools that are granted and can be called, by full name. Starts the servers that a grant
    /// can match; those that are down are left out.
    ///
    /// # Errors
    /// `Unavailable` where there are such servers and all of them are down.
    pub async fn list(&self, granted: &Patterns) -> Result<Vec<Tool>, StepError> {
        let wanted = |name: &str| granted.allow_tool_server(name);
        let unsupported = self.unsupported.iter().filter(|name| wanted(name));
        let mut down: Vec<StepError> = unsupported.map(|name| not_supported(name)).collect();
        let servers = self.servers.iter().filter(|(name, _)| wanted(name));
        let catalogs = servers.map(|(_, server)| async move {
            let instance = server.running().await?;
            Ok(instance.catalog().await)
        });
        let mut tools = Vec::new();
        let mut answered = false;
        for catalog in join_all(catalogs).await {
            match catalog {
                Ok(catalog) => {
                    answered = true;
                    let callable = catalog
                        .all()
                        .map(|offered| &offered.tool)
                        .filter(|tool| granted.allow_tool(&tool.name));
                    tools.extend(callable.cloned());
                }
                Err(error) => down.push(error),
            }
        }
        for error in &down {
            tracing::warn!(%error, "tools are left out of a list");
        }
        match down.into_iter().next() {
            Some(first) if !answered => Err(first),
            _ => Ok(tools),
        }
    }

    /// Whether it does no harm to send this call again, and whether a human has to approve. Starts
    /// the server if need be, so that what can fail fails before anything has an effect; that is
    /// left to [`ToolServers::call`].
    ///
    /// # Errors
    /// `Invalid` where there is no such tool or the arguments are no JSON object, `Denied` where
    /// there is no such server, `Unavailable` where the server is down.
    pub async fn look(&self, call: &ToolCall) -> Result<Look, StepError> {
        arguments(call)?;
        let (server, name) = self.server(call)?;
        let (_, offered) = server.tool(name).await?;
        let settings = &server.settings;
        let ask = settings.ask.allow(&offered.own);
        Ok(Look {
            repeatable: offered.repeatable,
            ask: ask.then_some(settings.ask_timeout),
        })
    }

    /// Calls a tool. `key` is the same however often this call is sent, so that the server can see
    /// that it knows it; `repeatable` is what [`ToolServers::look`] said of it. The answer may
    /// take as long as the server's `call_timeout`, but not longer than `limit`. Dropping the future
    /// cancels the call, as far as the server can be told.
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
        let (instance, offered) = server.tool(name).await?;
        let told = Told {
            name: &call.name,
            server: &server.name,
            settings: &server.settings,
            repeatable,
            limit_bytes,
            timeout: server.settings.call_timeout.min(limit),
        };
        let since = Instant::now();
        let request = Request {
            tool: offered.own,
            arguments,
            key: key.to_owned(),
            timeout: told.timeout,
            limit_bytes,
        };
        let result = match instance.call(request).await {
            Ok(answer) => {
                outcome::outcome(answer, limit_bytes).map_err(|error| told.unusable(error))
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
        let swept = tokio::task::spawn_blocking(move || family::kill_marked(&mark)).await;
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
    fn all(&self) -> Vec<Arc<Server>> {
        // The list is whole whatever panicked: each change of it is one call.
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let left = left.iter().filter_map(Weak::upgrade);
        self.servers.values().cloned().chain(left).collect()
    }

    fn server<'a>(&self, call: &'a ToolCall) -> Result<(&Server, ToolName<'a>), StepError> {
        let full = &call.name;
        let name = ToolName::parse(full).ok_or_else(|| {
            StepError::Invalid(format!(
                "there is no tool `{full}`: tools are named SERVER__TOOL"
            ))
        })?;
        let server = name.server;
        if self.unsupported.contains(server) {
            return Err(not_supported(server));
        }
        let found = self.servers.get(server).ok_or_else(|| {
            StepError::Denied(format!(
                "there is no tool server `{server}`; add `[mcp.{server}]` to the configuration"
            ))
        })?;
        Ok((found, name))
    }
}

fn not_supported(server: &str) -> StepError {
    StepError::Unavailable(format!(
        "tool server `{server}` has a `url`, and this version reaches only those with a `command`"
    ))
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
