//! Guest calls: instantiate, restore, turn, snapshot, drop. No instance outlives its call.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

use wasmtime::Store;

use super::bindings::Plugin;
use super::bindings::abide::session::types;
use super::convert;
use super::failure::{Blame, GuestFailure};
use super::guest_memory::{MemoryReservation, UNKNOWN_PEAK_BYTES};
use super::job::{GuestJob, Product};
use super::runtime::{Admission, Engine};
use super::scheduled::{OutOfTime, Scheduled};
use super::step_gate::StepSender;
use super::store_data::StoreData;
use crate::domain::{FailureCode, Limits, Message, Notice, Snapshot, TurnFailure};

impl Engine {
    /// Creates a new session's first state: calls `open`, then `snapshot`.
    pub async fn open(&self, job: &GuestJob) -> Result<Product, GuestFailure> {
        self.within(job, move |memory| async move {
            let mut guest = Guest::start(self, job, memory).await?;
            guest.open().await?;
            guest.snapshot().await
        })
        .await
    }

    /// Runs one turn: calls `restore`, then `turn` on the notice (if any) and the input, then
    /// `snapshot`. Steps are sent to `steps`. Dropping the future aborts the turn without a trace.
    /// If it outgrows the guests' memory, it is up to the caller to run it again, for only the
    /// caller knows which steps were taken.
    pub async fn turn(
        &self,
        job: &GuestJob,
        snapshot: &Snapshot,
        notice: Option<&Notice>,
        input: Vec<Message>,
        steps: StepSender,
    ) -> Result<Product, GuestFailure> {
        let memory = self.reserve(UNKNOWN_PEAK_BYTES).await;
        let admission = self.admit(&job.component, memory).await;
        self.admitted_turn(admission, job, snapshot, notice, input, steps)
            .await
    }

    /// Like [`Engine::turn`], with memory and a share of the pool that the caller already holds.
    pub async fn admitted_turn(
        &self,
        admission: Admission,
        job: &GuestJob,
        snapshot: &Snapshot,
        notice: Option<&Notice>,
        input: Vec<Message>,
        steps: StepSender,
    ) -> Result<Product, GuestFailure> {
        // What fails before is the fault of neither message nor turn.
        let restored = AtomicBool::new(false);
        let has_restored = &restored;
        let ended = self.on(admission, job, move |memory| async move {
            let mut guest = Guest::start(self, job, memory).await?;
            guest.restore(snapshot).await?;
            has_restored.store(true, Ordering::Relaxed);
            let notice = notice.map(|notice| convert::notice_message(notice, job.now));
            let input: Vec<_> = notice
                .into_iter()
                .chain(input.into_iter().map(Into::into))
                .collect();
            guest.turn(&input, steps).await?;
            guest.snapshot().await
        });
        match ended.await {
            Err(failure) if !restored.load(Ordering::Relaxed) => Err(unrestored(failure)),
            ended => ended,
        }
    }

    /// Verifies that the guest can be restored from a snapshot.
    pub async fn restore(&self, job: &GuestJob, snapshot: &Snapshot) -> Result<(), GuestFailure> {
        let restored = self.within(job, move |memory| async move {
            let mut guest = Guest::start(self, job, memory).await?;
            guest.restore(snapshot).await
        });
        restored.await.map_err(unrestored)
    }

    /// Restores a snapshot and takes a new one: a guest that saves its whole state returns the same
    /// bytes.
    pub async fn retake(
        &self,
        job: &GuestJob,
        snapshot: &Snapshot,
    ) -> Result<Product, GuestFailure> {
        self.within(job, move |memory| async move {
            let mut guest = Guest::start(self, job, memory).await?;
            guest.restore(snapshot).await?;
            guest.snapshot().await
        })
        .await
    }

    /// Checks a plugin: opens a throw-away session, restores its snapshot on a fresh instance and
    /// takes a new snapshot. Both must have the same bytes.
    pub async fn check(&self, job: &GuestJob) -> Result<Product, CheckFailure> {
        let product = self.open(job).await.map_err(CheckFailure::Open)?;
        let snapshot = Snapshot {
            plugin: job.context.plugin.clone(),
            component: job.component.digest(),
            schema: product.schema,
            data: product.data.clone(),
        };
        let again = self.retake(job, &snapshot).await;
        let again = again.map_err(CheckFailure::Restore)?;
        match unfaithful((product.schema, &product.data), (again.schema, &again.data)) {
            None => Ok(product),
            Some(forgets) => Err(forgets),
        }
    }

    /// Waits for memory and for a share of the pool, and runs a call on it. A call that outgrows the
    /// guests' memory is run again: it takes no steps, so nobody notices.
    async fn within<T, F>(
        &self,
        job: &GuestJob,
        call: impl Fn(MemoryReservation) -> F,
    ) -> Result<T, GuestFailure>
    where
        F: Future<Output = Result<T, GuestFailure>>,
    {
        let mut bytes = UNKNOWN_PEAK_BYTES;
        loop {
            // Waiting does not count towards the turn timeout.
            let memory = self.reserve(bytes).await;
            let admission = self.admit(&job.component, memory).await;
            match self.on(admission, job, &call).await {
                Err(GuestFailure::Outgrown { reserve_bytes }) => bytes = reserve_bytes,
                ended => return ended,
            }
        }
    }

    /// Runs a call on this share of the pool, in time slices, within the turn timeout and the limit of
    /// compute.
    async fn on<T, F>(
        &self,
        admission: Admission,
        job: &GuestJob,
        call: impl FnOnce(MemoryReservation) -> F,
    ) -> Result<T, GuestFailure>
    where
        F: Future<Output = Result<T, GuestFailure>>,
    {
        let Admission { memory, share } = admission;
        let Limits {
            turn_timeout,
            compute,
            ..
        } = job.limits;
        let ended = {
            let call = pin!(call(memory));
            let call = Scheduled::new(self.0.run_queue.clone(), compute, call);
            tokio::time::timeout(turn_timeout, call).await
        };
        // Only now, when the call is gone.
        drop(share);
        match ended {
            Ok(Ok(ended)) => ended,
            Ok(Err(OutOfTime)) => Err(GuestFailure::Failed(job.blame().compute())),
            Err(_) => Err(GuestFailure::Failed(job.blame().timeout())),
        }
    }
}

/// The reason why a component is not a valid plugin.
#[derive(Debug, thiserror::Error)]
pub enum CheckFailure {
    /// `open` fails.
    #[error("the session does not open: {0}")]
    Open(GuestFailure),
    /// The guest cannot be restored from its own snapshot.
    #[error("the guest's own snapshot cannot be restored: {0}")]
    Restore(GuestFailure),
    /// A restored guest has a different snapshot.
    #[error(
        "the guest forgets: its snapshot (schema {schema}, {bytes} bytes), restored and taken \
         again, is another (schema {again_schema}, {again_bytes} bytes; the same up to byte \
         {same_bytes}); put all of its state into it, in a fixed order"
    )]
    Unfaithful {
        /// The schema of the first snapshot.
        schema: u32,
        /// The schema of the second snapshot.
        again_schema: u32,
        /// The size of the first snapshot.
        bytes: usize,
        /// The size of the second snapshot.
        again_bytes: usize,
        /// The length of the common prefix of both.
        same_bytes: usize,
    },
}

/// Compares a snapshot, its schema and its data, with the one of a guest that was restored from it.
pub fn unfaithful(first: (u32, &[u8]), again: (u32, &[u8])) -> Option<CheckFailure> {
    let pairs = first.1.iter().zip(again.1);
    (first != again).then(|| CheckFailure::Unfaithful {
        schema: first.0,
        again_schema: again.0,
        bytes: first.1.len(),
        again_bytes: again.1.len(),
        same_bytes: pairs.take_while(|(a, b)| a == b).count(),
    })
}

impl GuestJob {
    fn blame(&self) -> Blame<'_> {
        Blame {
            plugin: &self.context.plugin,
            limits: &self.limits,
        }
    }

    fn context(&self) -> types::Context {
        types::Context {
            session: self.context.session.as_str().to_owned(),
            plugin: self.context.plugin.clone(),
            args: self.context.args.clone(),
        }
    }
}

/// A live instance.
struct Guest<'a> {
    job: &'a GuestJob,
    store: Store<StoreData>,
    plugin: Plugin,
}

impl<'a> Guest<'a> {
    async fn start(
        engine: &Engine,
        job: &'a GuestJob,
        memory: MemoryReservation,
    ) -> Result<Self, GuestFailure> {
        let mut store = Store::new(&engine.0.wasmtime, job.store_data(memory));
        store.limiter(|state| &mut state.budget);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        match job.component.pre.instantiate_async(&mut store).await {
            Ok(plugin) => Ok(Self { job, store, plugin }),
            Err(error) => Err(explain(job, &store, &error)),
        }
    }

    async fn open(&mut self) -> Result<(), GuestFailure> {
        let context = self.job.context();
        self.store.data_mut().buffer.accept(true);
        let exports = self.plugin.abide_session_guest();
        let opened = exports.call_open(&mut self.store, &context).await;
        self.store.data_mut().buffer.accept(false);
        self.check_result(opened)
    }

    async fn restore(&mut self, snapshot: &Snapshot) -> Result<(), GuestFailure> {
        let context = self.job.context();
        let state = types::State {
            schema: snapshot.schema,
            data: snapshot.data.clone(),
        };
        let exports = self.plugin.abide_session_guest();
        let restored = exports
            .call_restore(&mut self.store, &context, &state)
            .await;
        let (text, newer_schema) = match restored {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(types::RestoreError::NewerSchema(schema))) => (
                format!(
                    "the snapshot has schema {schema}, which this version of the plugin is too \
                     old to read; go back to the version that wrote it, or to a newer one"
                ),
                Some(schema),
            ),
            Ok(Err(types::RestoreError::Invalid(text))) => {
                let reason = self.job.blame().guest(text).text;
                (format!("the guest refuses its snapshot: {reason}"), None)
            }
            Err(error) => return Err(self.explain(&error)),
        };
        Err(GuestFailure::Restore { text, newer_schema })
    }

    async fn turn(
        &mut self,
        input: &[types::Message],
        steps: StepSender,
    ) -> Result<(), GuestFailure> {
        let state = self.store.data_mut();
        state.buffer.accept(true);
        state.steps.connect(Some(steps));
        let exports = self.plugin.abide_session_guest();
        let ended = exports.call_turn(&mut self.store, input).await;
        let state = self.store.data_mut();
        state.buffer.accept(false);
        state.steps.connect(None);
        self.check_result(ended)
    }

    async fn snapshot(mut self) -> Result<Product, GuestFailure> {
        let exports = self.plugin.abide_session_guest();
        let taken = exports.call_snapshot(&mut self.store).await;
        let types::State { schema, data } = taken.map_err(|error| self.explain(&error))?;
        let (bytes, max) = (data.len(), self.job.limits.snapshot_bytes);
        if bytes as u64 > max {
            let what =
                format!("the guest's snapshot has {bytes} bytes, `limits.snapshot` allows {max}");
            let failure = self.job.blame().limit("snapshot", &what);
            return Err(GuestFailure::Failed(failure));
        }
        let state = self.store.data_mut();
        let (outputs, timers) = state.buffer.take();
        let (logs, logs_dropped) = state.log.take();
        Ok(Product {
            outputs,
            timers,
            logs,
            logs_dropped,
            schema,
            data,
        })
    }

    /// Converts the result of an export that may fail.
    fn check_result(
        &self,
        result: wasmtime::Result<Result<(), String>>,
    ) -> Result<(), GuestFailure> {
        match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(text)) => Err(GuestFailure::Failed(self.job.blame().guest(text))),
            Err(error) => Err(self.explain(&error)),
        }
    }

    fn explain(&self, error: &wasmtime::Error) -> GuestFailure {
        explain(self.job, &self.store, error)
    }
}

/// Returns the failure of a guest that failed before it was restored. What would happen again is a verdict
/// on its component; that time was up may be the machine's doing.
fn unrestored(failure: GuestFailure) -> GuestFailure {
    match failure {
        GuestFailure::Failed(failure) if failure.code == FailureCode::Timeout => {
            GuestFailure::Failed(failure)
        }
        GuestFailure::Failed(TurnFailure { text, .. }) => GuestFailure::Restore {
            text: format!("the guest cannot be restored from its snapshot: {text}"),
            newer_schema: None,
        },
        failure @ (GuestFailure::Restore { .. }
        | GuestFailure::Outgrown { .. }
        | GuestFailure::Host(_)) => failure,
    }
}

fn explain(job: &GuestJob, store: &Store<StoreData>, error: &wasmtime::Error) -> GuestFailure {
    job.blame().explain(error, store.data())
}
