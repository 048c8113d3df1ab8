//! Signals to a worker. They are the supervisor's affair: a service manager, or `pkill`, that sends one to
//! all processes of the daemon means the daemon, and the supervisor tells the worker what follows. A worker
//! that took one itself would end in the middle of its turns.

use tokio::signal::unix::{SignalKind, signal};

/// Leaves the signals that the supervisor acts on to it. A program that is started from here takes them as
/// usual.
pub(super) fn leave_to_the_supervisor() {
    for (name, kind) in [
        ("SIGTERM", SignalKind::terminate()),
        ("SIGINT", SignalKind::interrupt()),
        ("SIGHUP", SignalKind::hangup()),
    ] {
        // Once it is received here, it ends this process no more, whether somebody listens or not.
        match signal(kind) {
            Ok(mut received) => drop(tokio::spawn(async move {
                received.recv().await;
                tracing::info!(
                    "{name} was sent to the worker, which leaves it to the supervisor: send it to the \
                     process that was started, or to both"
                );
            })),
            Err(error) => tracing::warn!("{name} would end the worker at once: {error}"),
        }
    }
}
