//! The guest's virtual clock, and waiting on it. It advances only by steps, by waits and by one
//! tick per read, so that a replayed turn sees the same times.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures::FutureExt as _;
use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::bindings::io::poll;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use crate::domain::UnixMillis;

/// How far each read advances the clock, so that a loop that polls for a time ends.
const TICK_NANOS: u64 = 1_000;

/// The guest's clock, in nanoseconds since the Unix epoch. The monotonic clock returns the same
/// value, so that it keeps growing from turn to turn. Used by one thread at a time; atomic only
/// because it is shared, so relaxed ordering suffices.
pub(in crate::engine) struct GuestClock {
    now: AtomicU64,
    /// The earliest deadline that the guest waits for.
    awaited: AtomicU64,
}

impl GuestClock {
    pub(in crate::engine) fn at(now: UnixMillis) -> Self {
        Self {
            now: AtomicU64::new(now.0.saturating_mul(1_000_000)),
            awaited: AtomicU64::new(u64::MAX),
        }
    }

    /// Returns the time in whole milliseconds, without advancing the clock.
    pub(in crate::engine) fn millis(&self) -> UnixMillis {
        UnixMillis(self.now.load(Relaxed) / 1_000_000)
    }

    /// Advances the clock, for example by the duration of a step.
    pub(in crate::engine) fn pass(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.set(self.now.load(Relaxed).saturating_add(nanos));
    }

    fn read(&self) -> u64 {
        self.pass(Duration::from_nanos(TICK_NANOS));
        self.now.load(Relaxed)
    }

    fn set(&self, nanos: u64) {
        self.now.store(nanos, Relaxed);
    }
}

/// A time that the guest can wait for.
struct Deadline {
    clock: Arc<GuestClock>,
    nanos: u64,
}

#[wasmtime_wasi::async_trait]
impl Pollable for Deadline {
    async fn ready(&mut self) {
        if self.nanos > self.clock.now.load(Relaxed) {
            self.clock.awaited.fetch_min(self.nanos, Relaxed);
            // `Timeline::poll` then advances the clock to the deadline and polls again.
            std::future::pending::<()>().await;
        }
    }
}

/// The view of a store's data for reading the clock and waiting on it.
pub(in crate::engine) struct Timeline<'a> {
    pub(super) table: &'a mut ResourceTable,
    pub(super) clock: &'a Arc<GuestClock>,
}

impl HasData for Timeline<'static> {
    type Data<'a> = Timeline<'a>;
}

impl Timeline<'_> {
    fn subscribe(&mut self, nanos: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let clock = self.clock.clone();
        let deadline = self.table.push(Deadline { clock, nanos })?;
        subscribe(self.table, deadline)
    }
}

impl wall_clock::Host for Timeline<'_> {
    fn now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        let now = Duration::from_nanos(self.clock.read());
        Ok(wall_clock::Datetime {
            seconds: now.as_secs(),
            nanoseconds: now.subsec_nanos(),
        })
    }

    fn resolution(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        Ok(wall_clock::Datetime {
            seconds: 0,
            nanoseconds: TICK_NANOS as u32,
        })
    }
}

impl monotonic_clock::Host for Timeline<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.clock.read())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(TICK_NANOS)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.subscribe(when)
    }

    fn subscribe_duration(&mut self, nanos: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let now = self.clock.now.load(Relaxed);
        self.subscribe(now.saturating_add(nanos))
    }
}

impl poll::Host for Timeline<'_> {
    async fn poll(&mut self, on: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        let again = on
            .iter()
            .map(|one| Resource::new_borrow(one.rep()))
            .collect();
        self.clock.awaited.store(u64::MAX, Relaxed);
        // The guest can wait only for the clock here: what is not ready now becomes ready at the
        // earliest deadline, or never.
        if let Some(ready) = poll::Host::poll(self.table, on).now_or_never() {
            return ready;
        }
        let earliest = self.clock.awaited.load(Relaxed);
        if earliest == u64::MAX {
            wasmtime::bail!("the guest waits for something that will never happen");
        }
        self.clock.set(earliest);
        poll::Host::poll(self.table, again).await
    }
}

impl poll::HostPollable for Timeline<'_> {
    async fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        self.clock.read();
        poll::HostPollable::ready(self.table, pollable).await
    }

    async fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        poll::Host::poll(self, vec![pollable]).await?;
        Ok(())
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        poll::HostPollable::drop(self.table, pollable)
    }
}
