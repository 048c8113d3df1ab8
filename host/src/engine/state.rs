//! What stands behind one instance: its world, its budget, what it has said, what it may ask.

use std::sync::Arc;

use super::bindings::abide::session::{log, output, timer, types};
use super::budget::Budget;
use super::buffer::{Buffer, Refused};
use super::grants::Grants;
use super::job::Job;
use super::log::Log;
use super::steps::Steps;
use super::wasi::{Clock, World};
use crate::domain::UnixMillis;

/// The data of a store.
pub(super) struct State {
    pub(super) world: World,
    pub(super) budget: Budget,
    pub(super) buffer: Buffer,
    pub(super) log: Arc<Log>,
    pub(super) clock: Arc<Clock>,
    pub(super) steps: Steps,
}

impl State {
    pub(super) fn new(job: &Job) -> Self {
        let log = Arc::new(Log::new(job.limits.log_lines));
        let clock = Arc::new(Clock::at(job.now));
        let grants = Grants {
            plugin: job.context.plugin.clone(),
            granted: job.grants.clone(),
        };
        Self {
            world: World::new(clock.clone(), log.clone(), job.seed),
            budget: Budget::new(job.limits.memory_bytes),
            buffer: Buffer::new(&job.context.plugin, &job.limits, &job.timers),
            log,
            clock,
            steps: Steps::new(grants, job.limits.steps),
        }
    }
}

impl types::Host for State {}

impl output::Host for State {
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

impl timer::Host for State {
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

impl log::Host for State {
    fn write(&mut self, level: log::Level, text: String) {
        self.log.write(level.into(), text);
    }
}
