//! The end of a worker, after its turns have ended or were aborted: the worker hands its clients
//! and the store over to the successor, or stops, and exits.

use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::api::ControlRequest;
use crate::api::server::IdleConnection;
use crate::domain::{Cause, DrainReport, Generation, RestartRecord, RestartStatus, UnixMillis};
use crate::session::Drained;
use crate::supervisor::FromWorker;

use super::connections::to_pass_on;
use super::drain::Drain;
use super::generation::record;
use super::machine::Departure;
use super::state::{Daemon, PlannedRestart, VERSION};

/// How long connections may linger at the handover: to finish their response, or to send the first
/// bytes of a request.
pub(super) const LINGER: Duration = Duration::from_millis(250);

/// How long session drivers may take to exit when the worker shuts down.
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);

impl Daemon {
    pub(super) async fn leave(
        mut self,
        departure: Departure<Box<PlannedRestart>>,
        requests: &mut mpsc::Receiver<ControlRequest>,
    ) -> ExitCode {
        let Drained { report, took } = self.drain.take().map(Drain::result).unwrap_or_default();
        let DrainReport {
            idle,
            waited_for,
            cut,
            held,
            ..
        } = report;
        tracing::info!(idle, waited_for, cut, held, ?took, "drained");
        // Neither their clients nor their reading of the store may hold up the successor.
        if let Some(backup) = &self.backup {
            backup.abandon();
        }
        self.plans.abort_all();
        let (mut record, stopping) = match departure {
            Departure::HandOver(planned) => (planned.record, false),
            Departure::Stop(generation) => (self.stop_record(generation), true),
        };
        record.drain = report;
        record.phases.drain_ms = took.as_millis() as u64;
        record.handover_at = Some(UnixMillis::now());
        if stopping {
            record.status = RestartStatus::Stopped;
            record.handover_at = None;
        }
        self.lifecycle.end_streams(record.generation);
        let connections = self.end_serving(stopping, requests).await;
        self.pass_on(connections);
        self.lifecycle.shut_down(LEAVE_PATIENCE).await;
        if self.record.status == RestartStatus::Probation {
            // The worker served until its planned end, so its own restart succeeded.
            self.record.status = RestartStatus::Completed;
            self.records.persist(&self.record).await;
        }
        record.drain.held = self.registry.held();
        self.records.persist(&record).await;
        let store = self.store.clone();
        let closed = tokio::task::spawn_blocking(move || store.close()).await;
        if let Err(error) = closed {
            tracing::error!(%error, "the store's closing failed");
        }
        // Sent last, after the store has closed: the successor opens the store on this message.
        let last_word = if stopping {
            FromWorker::Stopped
        } else {
            FromWorker::Released
        };
        match self.link.send(last_word) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!(%error, "the supervisor is gone");
                ExitCode::FAILURE
            }
        }
    }

    /// Returns the record of the stop as it was persisted when the stop began, or a new one if the
    /// store has none.
    fn stop_record(&self, generation: Generation) -> RestartRecord {
        let stored = self.store.restart(generation).ok().flatten();
        stored.unwrap_or_else(|| {
            let now = UnixMillis::now();
            record(generation, Cause::Operator, "stop", VERSION, now)
        })
    }

    fn pass_on(&self, connections: Vec<IdleConnection>) {
        for idle in connections {
            let passed_on = FromWorker::Connection(to_pass_on(idle));
            if let Err(error) = self.link.send(passed_on) {
                tracing::warn!(%error, "a client's connection could not be passed on");
            }
        }
    }

    /// Lets every connection finish its response, and returns the idle connections if another worker goes on
    /// with them. Control
    /// requests are still answered meanwhile: otherwise their clients would be cut off, after
    /// holding up the handover of all other connections.
    async fn end_serving(
        &mut self,
        stopping: bool,
        requests: &mut mpsc::Receiver<ControlRequest>,
    ) -> Vec<IdleConnection> {
        let Some(server) = self.server.take() else {
            return Vec::new();
        };
        let handing_over = async {
            match stopping {
                false => server.hand_over(LINGER).await,
                true => {
                    server.stop(LINGER).await;
                    Vec::new()
                }
            }
        };
        tokio::pin!(handing_over);
        loop {
            tokio::select! {
                connections = &mut handing_over => return connections,
                Some(request) = requests.recv() => self.answer(request).await,
            }
        }
    }
}
