//! Virtual WASI 0.2: all interfaces are linked, but none accesses the real system. Files, sockets,
//! arguments and environment are wasmtime-wasi's implementations with nothing granted. Clocks,
//! waiting, randomness and the standard streams are our own, because wasmtime-wasi's use real time,
//! real entropy and a real terminal.

mod clock;
mod random;
mod stdio;

use std::sync::Arc;

use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliCtx, WasiCliCtxView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemCtx, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings;
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsCtx, WasiSocketsCtxView};

pub(super) use clock::GuestClock;
use clock::Timeline;
use random::Entropy;
use stdio::Stdio;

use super::log::GuestLog;
use super::store_data::StoreData;

/// The maximum number of resources (streams, pollables, errors) that an instance may hold at a
/// time.
const RESOURCES_MAX: usize = 10_000;

/// The WASI state of one instance.
pub(super) struct World {
    table: ResourceTable,
    clock: Arc<GuestClock>,
    log: Arc<GuestLog>,
    entropy: Entropy,
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

    fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    fn timeline(&mut self) -> Timeline<'_> {
        Timeline {
            table: &mut self.table,
            clock: &self.clock,
        }
    }

    fn stdio(&mut self) -> Stdio<'_> {
        Stdio {
            table: &mut self.table,
            log: &self.log,
        }
    }

    fn cli(&mut self) -> WasiCliCtxView<'_> {
        WasiCliCtxView {
            ctx: &mut self.cli,
            table: &mut self.table,
        }
    }

    fn files(&mut self) -> WasiFilesystemCtxView<'_> {
        WasiFilesystemCtxView {
            ctx: &mut self.files,
            table: &mut self.table,
        }
    }

    fn sockets(&mut self) -> WasiSocketsCtxView<'_> {
        WasiSocketsCtxView {
            ctx: &mut self.sockets,
            table: &mut self.table,
        }
    }
}

/// Links every interface of `wasi:cli/imports`.
pub(super) fn link(l: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    use bindings::{cli, clocks, filesystem, io, random, sockets};

    type Table = HasSelf<ResourceTable>;
    type Time = Timeline<'static>;
    type Random = HasSelf<Entropy>;

    io::error::add_to_linker::<_, Table>(l, |s| s.world.table())?;
    io::streams::add_to_linker::<_, Table>(l, |s| s.world.table())?;
    io::poll::add_to_linker::<_, Time>(l, |s| s.world.timeline())?;
    clocks::wall_clock::add_to_linker::<_, Time>(l, |s| s.world.timeline())?;
    clocks::monotonic_clock::add_to_linker::<_, Time>(l, |s| s.world.timeline())?;

    random::random::add_to_linker::<_, Random>(l, |s| &mut s.world.entropy)?;
    random::insecure::add_to_linker::<_, Random>(l, |s| &mut s.world.entropy)?;
    random::insecure_seed::add_to_linker::<_, Random>(l, |s| &mut s.world.entropy)?;

    cli::stdout::add_to_linker::<_, Stdio<'static>>(l, |s| s.world.stdio())?;
    cli::stderr::add_to_linker::<_, Stdio<'static>>(l, |s| s.world.stdio())?;
    cli::stdin::add_to_linker::<_, WasiCli>(l, |s| s.world.cli())?;
    cli::exit::add_to_linker::<_, WasiCli>(l, |s| s.world.cli())?;
    cli::environment::add_to_linker::<_, WasiCli>(l, |s| s.world.cli())?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(l, |s| s.world.cli())?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(l, |s| s.world.cli())?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(l, |s| s.world.cli())?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(l, |s| s.world.cli())?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(l, |s| s.world.cli())?;

    filesystem::preopens::add_to_linker::<_, WasiFilesystem>(l, |s| s.world.files())?;
    filesystem::types::add_to_linker::<_, WasiFilesystem>(l, |s| s.world.files())?;

    // By default nothing is allowed: creating a socket and resolving a name are refused before
    // anything reaches the real network.
    let options = sockets::network::LinkOptions::default();
    sockets::network::add_to_linker::<_, WasiSockets>(l, &options, |s| s.world.sockets())?;
    sockets::instance_network::add_to_linker::<_, WasiSockets>(l, |s| s.world.sockets())?;
    sockets::ip_name_lookup::add_to_linker::<_, WasiSockets>(l, |s| s.world.sockets())?;
    sockets::tcp_create_socket::add_to_linker::<_, WasiSockets>(l, |s| s.world.sockets())?;
    sockets::tcp::add_to_linker::<_, WasiSockets>(l, |s| s.world.sockets())?;
    sockets::udp_create_socket::add_to_linker::<_, WasiSockets>(l, |s| s.world.sockets())?;
    sockets::udp::add_to_linker::<_, WasiSockets>(l, |s| s.world.sockets())?;
    Ok(())
}
