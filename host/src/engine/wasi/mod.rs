//! Virtual WASI 0.2: all interfaces are linked, but none accesses the real system. Files, sockets,
//! arguments and environment are wasmtime-wasi's implementations with nothing granted. Clocks,
//! waiting, randomness and the standard streams are our own, because wasmtime-wasi's use real time,
//! real entropy and a real terminal.

mod clock;
pub(super) mod link;
mod random;
mod stdio;

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::cli::{WasiCliCtx, WasiCliCtxView};
use wasmtime_wasi::filesystem::{WasiFilesystemCtx, WasiFilesystemCtxView};
use wasmtime_wasi::sockets::{WasiSocketsCtx, WasiSocketsCtxView};

pub(super) use clock::GuestClock;
use clock::Timeline;
use random::Entropy;
use stdio::Stdio;

use super::log::GuestLog;

/// The maximum number of resources (streams, pollables, errors) that an instance may hold at a
/// time.
const RESOURCES_MAX: usize = 10_000;

/// The WASI state of one instance.
pub(super) struct World {
    table: ResourceTable,
    clock: Arc<GuestClock>,
    log: Arc<GuestLog>,
    pub(super) entropy: Entropy,
    cli: WasiCliCtx,
    files: WasiFilesystemCtx,
    sockets: WasiSocketsCtx,
}

impl World {
    pub(super) fn new(clock: Arc<GuestClock>, log: Arc<GuestLog>, seed: u64) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self {
            table,
            clock,
            log,
            entropy: Entropy::new(seed),
            cli: WasiCliCtx::default(),
            files: WasiFilesystemCtx::default(),
            sockets: WasiSocketsCtx::default(),
        }
    }

    pub(super) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    pub(super) fn timeline(&mut self) -> Timeline<'_> {
        Timeline {
            table: &mut self.table,
            clock: &self.clock,
        }
    }

    pub(super) fn stdio(&mut self) -> Stdio<'_> {
        Stdio {
            table: &mut self.table,
            log: &self.log,
        }
    }

    pub(super) fn cli(&mut self) -> WasiCliCtxView<'_> {
        WasiCliCtxView {
            ctx: &mut self.cli,
            table: &mut self.table,
        }
    }

    pub(super) fn files(&mut self) -> WasiFilesystemCtxView<'_> {
        WasiFilesystemCtxView {
            ctx: &mut self.files,
            table: &mut self.table,
        }
    }

    pub(super) fn sockets(&mut self) -> WasiSocketsCtxView<'_> {
        WasiSocketsCtxView {
            ctx: &mut self.sockets,
            table: &mut self.table,
        }
    }
}
