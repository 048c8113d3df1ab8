//! A server over all its lives: started when it is needed, one start at a time, and not again at
//! once where it fell.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ToolServer;
use super::backoff::Backoff;
use super::catalog::{Catalog, Offered};
use super::instance::{Ended, Instance};
use crate::domain::{StepError, ToolName};

/// Tools that an error names at most.
const NAMED_MAX: usize = 20;

/// One `[mcp.NAME]`.
pub(super) struct Server {
    pub(super) name: Arc<str>,
    pub(super) settings: Arc<ToolServer>,
    /// Held by the task that starts the server; who waits for the start waits for the lock.
    slot: Arc<Mutex<Slot>>,
    /// Ends what runs or starts now. Not in the slot, which a start holds.
    stop: std::sync::Mutex<CancellationToken>,
    /// Cancelled when it may not run any more: its own, and a child of that of all servers.
    ending: CancellationToken,
}

#[derive(Default)]
struct Slot {
    instance: Option<Arc<Instance>>,
    backoff: Backoff,
}

impl Server {
    pub(super) fn new(name: String, settings: ToolServer, ending: CancellationToken) -> Self {
        Self {
            name: name.into(),
            settings: Arc::new(settings),
            slot: Arc::default(),
            stop: std::sync::Mutex::default(),
            ending,
        }
    }

    /// The running instance, started where there is none.
    pub(super) async fn running(&self) -> Result<Arc<Instance>, StepError> {
        let mut slot = self.slot.clone().lock_owned().await;
        if self.ending.is_cancelled() {
            return Err(self.down("the daemon restarts or stops"));
        }
        if let Some(instance) = &slot.instance {
            let Some(Ended { reason, at, served }) = instance.ended() else {
                return Ok(instance.clone());
            };
            slot.instance = None;
            slot.backoff.fell(at, served, reason);
        }
        if let Some((rest, reason)) = slot.backoff.rest(Instant::now()) {
            // In whole milliseconds, and not one too few.
            let rest = Duration::from_millis(rest.as_millis() as u64 + 1);
            let rest = humantime::format_duration(rest);
            return Err(self.down(&format!("{reason}; it is tried again in {rest}")));
        }
        // In a task of its own: a start goes on where its caller is cut, or is undone in full.
        let (name, settings) = (self.name.clone(), self.settings.clone());
        let stop = self.ending.child_token();
        *self.stop() = stop.clone();
        let stopped = stop.clone();
        let start = tokio::spawn(async move {
            let started = Instance::start(&name, &settings, stop).await;
            let outcome = if started.is_ok() { "ok" } else { "error" };
            metrics::counter!(
                "abide_tool_server_starts_total",
                "server" => name.to_string(), "outcome" => outcome
            )
            .increment(1);
            match started {
                Ok(instance) => {
                    let instance = Arc::new(instance);
                    slot.instance = Some(instance.clone());
                    Ok(instance)
                }
                Err(reason) if stopped.is_cancelled() => Err(reason),
                Err(reason) => {
                    tracing::warn!(server = %name, reason, "tool server did not start");
                    let now = Instant::now();
                    slot.backoff.fell(now, Duration::ZERO, reason.clone());
                    Err(reason)
                }
            }
        });
        let started = start.await;
        let started = started.unwrap_or_else(|_| Err("its start was cut".to_owned()));
        started.map_err(|reason| self.down(&reason))
    }

    /// A tool by its full name, on a running server.
    pub(super) async fn tool(
        &self,
        name: ToolName<'_>,
    ) -> Result<(Arc<Instance>, Offered), StepError> {
        let instance = self.running().await?;
        let catalog = instance.catalog().await;
        let Some(offered) = catalog.get(&name.to_string()) else {
            return Err(self.unknown(name, &catalog));
        };
        Ok((instance, offered.clone()))
    }

    /// Ends the server and its descendants, and waits until they are gone. It is started again when
    /// it is wanted, unless `ending` has been cancelled.
    pub(super) async fn end(&self) {
        // A start under way gives up, and with it the slot.
        self.stop().cancel();
        let mut slot = self.slot.lock().await;
        if let Some(instance) = slot.instance.clone() {
            // Another one may have been started since.
            self.stop().cancel();
            instance.until_ended().await;
            slot.instance = None;
        }
    }

    fn stop(&self) -> std::sync::MutexGuard<'_, CancellationToken> {
        // A token is replaced in one step, whoever panics.
        self.stop
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
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
        StepError::Invalid(format!(
            "tool server `{}` has no tool `{name}`; {known}",
            self.name
        ))
    }

    fn down(&self, reason: &str) -> StepError {
        StepError::Unavailable(format!("tool server `{}` is down: {reason}", self.name))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nobody can call it any more, and a start that is under way is wanted by nobody.
        self.ending.cancel();
    }
}
