//! Tells the supervisor what a worker serves: after a crash it starts a worker on this.

use crate::config::Config;
use crate::supervisor::{FromWorker, Link, Serving};

use super::launch_spec::LaunchSpec;
use super::logging;
use super::plan::Rejection;

/// Sends the configuration and the listeners that a worker serves with.
pub(super) fn announce(
    link: &Link,
    config: &Config,
    spec: LaunchSpec,
    listeners: Vec<String>,
) -> Result<(), Rejection> {
    let budget = config.daemon.stop_budget();
    let serving = Serving {
        stop_budget_ms: budget.as_millis().try_into().unwrap_or(u64::MAX),
        config: spec.to_memfd()?,
        listeners,
    };
    link.send(FromWorker::LogFormat(logging::line_format(
        config.daemon.log_format,
    )))
    .and_then(|()| link.send(FromWorker::Serving(serving)))
    .map_err(|error| Rejection::Supervisor(error.to_string()))
}
