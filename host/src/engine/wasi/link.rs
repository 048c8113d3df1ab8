//! Links the virtual WASI: which part of the host state each interface reaches.

use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::cli::WasiCli;
use wasmtime_wasi::filesystem::WasiFilesystem;
use wasmtime_wasi::p2::bindings;
use wasmtime_wasi::sockets::WasiSockets;

use super::clock::Timeline;
use super::random::Entropy;
use super::stdio::Stdio;
use crate::engine::store_data::StoreData;

/// Links every interface of `wasi:cli/imports`.
pub(in crate::engine) fn link(l: &mut Linker<StoreData>) -> wasmtime::Result<()> {
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
