//! The input and the result of a guest call.

use std::sync::Arc;

use super::budget::Budget;
use super::buffer::Buffer;
use super::component::Component;
use super::grants::Grants;
use super::guest_memory::MemoryReservation;
use super::log::{GuestLog, LogLine};
use super::step_gate::StepGate;
use super::store_data::StoreData;
use super::wasi::{GuestClock, World};
use crate::domain::{Capabilities, Limits, Output, SessionId, TimerOp, UnixMillis};

/// Everything that a guest call depends on besides its snapshot and input. The same job on the same
/// snapshot and input, with the same answers to its steps, has the same product.
#[derive(Clone)]
pub struct GuestJob {
    pub component: Arc<Component>,
    /// The identity that the guest receives.
    pub context: Context,
    /// The guest's resource limits.
    pub limits: Limits,
    /// The capabilities that the guest may call.
    pub grants: Capabilities,
    /// The names of the session's timers that are set, which count towards `limits.timers`.
    pub timers: Vec<String>,
    /// The guest's clock at the start.
    pub now: UnixMillis,
    /// The seed of the guest's randomness.
    pub seed: u64,
}

/// The identity of a session, as its guest receives it.
#[derive(Clone, Debug)]
pub struct Context {
    pub session: SessionId,
    /// The plugin's name in the configuration.
    pub plugin: String,
    /// The client's arguments as one JSON value.
    pub args: String,
}

/// The result of a guest call. Nothing of it has taken effect yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    /// The guest's outputs, in order.
    pub outputs: Vec<Output>,
    /// The changes to the session's timers, at most one per name.
    pub timers: Vec<TimerOp>,
    /// The guest's log lines.
    pub logs: Vec<LogLine>,
    /// The number of lines beyond `limits.log_lines`, which were dropped.
    pub logs_dropped: u64,
    /// The version of the snapshot's encoding.
    pub schema: u32,
    /// The snapshot, at most `limits.snapshot` bytes.
    pub data: Vec<u8>,
}

impl GuestJob {
    /// Returns the host state of a fresh instance for this job.
    pub(super) fn store_data(&self, memory: MemoryReservation) -> StoreData {
        let log = Arc::new(GuestLog::new(self.limits.log_lines));
        let clock = Arc::new(GuestClock::at(self.now));
        let grants = Grants {
            plugin: self.context.plugin.clone(),
            granted: self.grants.clone(),
        };
        StoreData {
            world: World::new(clock.clone(), log.clone(), self.seed),
            budget: Budget::new(self.limits.memory_bytes, memory),
            buffer: Buffer::new(&self.context.plugin, &self.limits, &self.timers),
            log,
            clock,
            steps: StepGate::new(grants, self.limits.steps),
        }
    }
}
