//! The host state of one instance: its WASI world, its budget, its buffered outputs and its steps.

use std::sync::Arc;

use super::bindings::abide::session::{log, output, timer, types};
use super::budget::Budget;
use super::buffer::{Buffer, Refused};
use super::log::GuestLog;
use super::step_gate::StepGate;
use super::wasi::{GuestClock, World};
use crate::domain::UnixMillis;

/// The data of an instance's wasmtime store.
pub(super) struct StoreData {
    pub(super) world: World,
    pub(super) budget: Budget,
    pub(super) buffer: Buffer,
    pub(super) log: Arc<GuestLog>,
    pub(super) clock: Arc<GuestClock>,
    pub(super) steps: StepGate,
}

impl types::Host for StoreData {}

impl output::Host for StoreData {
    fn text(&mut self, text: String) -> Result<(), output::OutputError> {
        self.buffer.text(text).map_err(Into::into)
    }

    fn event(&mut self, name: String, data: String) -> Result<(), output::OutputError> {
        self.buffer.event(name, data).map_err(Into::into)
    }
}

impl From<Refused> for output::OutputError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Invalid(text) => Self::Invalid(text),
            Refused::Limit(text) => Self::TooLarge(text),
        }
    }
}

impl timer::Host for StoreData {
    fn set(&mut self, name: String, after_ms: u64, text: String) -> Result<(), timer::TimerError> {
        let due = UnixMillis(self.clock.millis().0.saturating_add(after_ms));
        self.buffer.set_timer(name, due, text).map_err(Into::into)
    }

    fn cancel(&mut self, name: String) {
        self.buffer.cancel_timer(name);
    }
}

impl From<Refused> for timer::TimerError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Invalid(text) => Self::Invalid(text),
            Refused::Limit(text) => Self::TooMany(text),
        }
    }
}

impl log::Host for StoreData {
    fn write(&mut self, level: log::Level, text: String) {
        self.log.write(level.into(), text);
    }
}
