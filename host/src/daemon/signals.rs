//! Signals to a worker. They are the supervisor's affair: a service manager, or `pkill`, that sends one to
//! all processes of the daemon means the daemon, and the supervisor tells the worker what follows. A worker
//! that took one itself would end in the middle of its turns.

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// Leaves the signals that the supervisor acts on to it. A program that is started from here takes them as
/// usual.
pub(super) fn leave_to_the_supervisor() {
    // A write that meets the limit of a file's size fails then, and ends nobody.
    let too_large = SignalKind::from_raw(Signal::XFSZ.as_raw());
    if let Err(error) = signal(too_large) {
        tracing::warn!("SIGXFSZ would end the worker at once: {error}");
    }
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
