//! Standard output and standard error, which are written to the guest's log. (Standard input is
//! wasmtime-wasi's own and empty.)

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::cli::{stderr, stdout};
use wasmtime_wasi::p2::{DynOutputStream, OutputStream, Pollable, StreamResult};

use crate::engine::log::{GuestLog, StdStream};

/// The maximum size of one write, in bytes.
const WRITE_MAX_BYTES: usize = 64 << 10;

/// The view of a store's data for opening the streams.
pub(in crate::engine) struct Stdio<'a> {
    pub(super) table: &'a mut ResourceTable,
    pub(super) log: &'a Arc<GuestLog>,
}

impl HasData for Stdio<'static> {
    type Data<'a> = Stdio<'a>;
}

impl Stdio<'_> {
    fn open(&mut self, stream: StdStream) -> wasmtime::Result<Resource<DynOutputStream>> {
        let log = self.log.clone();
        let stream: DynOutputStream = Box::new(LoggedStream { log, stream });
        Ok(self.table.push(stream)?)
    }
}

impl stdout::Host for Stdio<'_> {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.open(StdStream::Out)
    }
}

impl stderr::Host for Stdio<'_> {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.open(StdStream::Err)
    }
}

/// A stream that writes to the log and is always ready.
struct LoggedStream {
    log: Arc<GuestLog>,
    stream: StdStream,
}

#[wasmtime_wasi::async_trait]
impl Pollable for LoggedStream {
    async fn ready(&mut self) {}
}

#[wasmtime_wasi::async_trait]
impl OutputStream for LoggedStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.log.stream(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_MAX_BYTES)
    }
}
