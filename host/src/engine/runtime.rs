//! The engine, one per process: loads components and runs guests, each call on a fresh instance.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::{HasSelf, Linker};

use super::bindings::Plugin;
use super::compiler::{self, CompileLimits, Compiler};
use super::component::{Component, check_kind};
use super::error::{EngineError, LoadError};
use super::guest_memory::{GuestMemory, MemoryReservation};
use super::precompiled::{self, Precompiled};
use super::run_queue::{RunQueue, processors};
use super::shape::Shape;
use super::store_data::StoreData;
use super::{contract, pool, wasi};
use crate::atomic_file;
use crate::domain::{Digest, GuestMemoryStatus};

/// How long a guest computes before it yields to others.
pub(super) const SLICE: Duration = Duration::from_millis(10);

/// The options of an engine.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The directory of precompiled components, a cache that may be emptied at any time.
    pub cache_dir: PathBuf,
    /// The directory of components by digest. Open turns and snapshots depend on them.
    pub components_dir: PathBuf,
    /// The maximum number of guests that run concurrently; further ones wait. At least 1.
    pub turns_max: u32,
    /// The memory that all guests together may hold, in bytes.
    pub guest_memory_bytes: u64,
    /// Where components are compiled.
    pub compiler: Compiler,
    /// The limits of compiling one, in a process of its own. They can be changed.
    pub compile_limits: CompileLimits,
}

impl EngineOptions {
    /// Returns options with the default of 1,000 concurrent turns, without a memory budget, and for a program
    /// that compiles in its own process.
    pub fn new(cache_dir: impl Into<PathBuf>, components_dir: impl Into<PathBuf>) -> Self {
        Self {
            cache_dir: cache_dir.into(),
            components_dir: components_dir.into(),
            turns_max: 1000,
            guest_memory_bytes: u64::MAX,
            compiler: Compiler::InProcess,
            compile_limits: CompileLimits::default(),
        }
    }
}

/// Loads components and runs guests. Cheap to clone.
#[derive(Clone)]
pub struct Engine(pub(super) Arc<EngineCore>);

pub(super) struct EngineCore {
    pub(super) wasmtime: wasmtime::Engine,
    linker: Linker<StoreData>,
    shares: Arc<Semaphore>,
    pub(super) run_queue: Arc<RunQueue>,
    memory: GuestMemory,
    pub(super) options: EngineOptions,
    precompiled: Precompiled,
    compile_limits: Mutex<CompileLimits>,
    /// Held while a component is compiled: one at a time, or many sessions on an old one would compile it
    /// at once, each.
    compiling: Mutex<()>,
    /// The components in use, so that each is compiled and held in memory only once.
    loaded: Mutex<HashMap<Digest, Weak<Component>>>,
}

impl Engine {
    /// Creates the engine and its instance pool. Takes some milliseconds.
    pub fn new(options: EngineOptions) -> Result<Self, EngineError> {
        for path in [&options.cache_dir, &options.components_dir] {
            fs::create_dir_all(path).map_err(|error| EngineError::Folder {
                path: path.clone(),
                reason: error.to_string(),
            })?;
        }
        let start = |error: wasmtime::Error| EngineError::Start(format!("{error:#}"));
        let turns_max = options.turns_max.max(1);
        let wasmtime = wasmtime::Engine::new(&pool::config(turns_max)?).map_err(start)?;
        let mut linker = Linker::new(&wasmtime);
        wasi::link::link(&mut linker).map_err(start)?;
        Plugin::add_to_linker::<_, HasSelf<StoreData>>(&mut linker, |state| state)
            .map_err(start)?;
        tick(&wasmtime).map_err(|error| EngineError::Start(error.to_string()))?;
        Ok(Self(Arc::new(EngineCore {
            precompiled: Precompiled::new(options.cache_dir.clone(), &wasmtime),
            shares: Arc::new(Semaphore::new(turns_max as usize)),
            run_queue: Arc::new(RunQueue::new(processors())),
            memory: GuestMemory::new(options.guest_memory_bytes),
            compile_limits: Mutex::new(options.compile_limits),
            compiling: Mutex::default(),
            loaded: Mutex::default(),
            wasmtime,
            linker,
            options,
        })))
    }

    /// Checks a component against the contract and compiles it, or loads its precompiled form. Blocks, while
    /// it is compiled for as long as the engine's limits allow.
    pub fn load(&self, bytes: &[u8]) -> Result<Arc<Component>, LoadError> {
        self.load_within(bytes, self.compile_limits())
    }

    /// Like [`Engine::load`], with these limits of compiling in place of the engine's own.
    pub fn load_within(
        &self,
        bytes: &[u8],
        limits: CompileLimits,
    ) -> Result<Arc<Component>, LoadError> {
        check_kind(bytes)?;
        let digest = Digest::of(bytes);
        match self.loaded(digest) {
            Some(component) => Ok(component),
            None => self.load_anew(digest, bytes, limits),
        }
    }

    fn load_anew(
        &self,
        digest: Digest,
        bytes: &[u8],
        limits: CompileLimits,
    ) -> Result<Arc<Component>, LoadError> {
        let EngineCore {
            wasmtime,
            linker,
            precompiled,
            options,
            ..
        } = &*self.0;
        let size = bytes.len() as u64;
        let turns_max = options.turns_max.max(1);
        let link = |compiled| Component::link(linker, &compiled, digest, size, turns_max);
        // What is cached was checked and compiled before; a version of this program that serves other
        // contracts finds that out from the compiled component.
        let component = match precompiled.load(wasmtime, digest) {
            Some(compiled) => link(compiled)?,
            None => {
                contract::check(&Shape::of_bytes(bytes)?)?;
                // Poisoning is harmless: it guards nothing.
                let _alone = self.0.compiling.lock();
                // Another thread may have compiled it meanwhile.
                match precompiled.load(wasmtime, digest) {
                    Some(compiled) => link(compiled)?,
                    None => {
                        let artifact = self.compile(digest, bytes, limits)?;
                        let compiled = precompiled::open(wasmtime, &artifact);
                        let component = link(compiled.map_err(compile_error)?)?;
                        precompiled.keep(digest, &artifact);
                        component
                    }
                }
            }
        };
        let component = Arc::new(component);
        let mut loaded = self.0.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.retain(|_, component| component.strong_count() > 0);
        loaded.insert(digest, Arc::downgrade(&component));
        Ok(component)
    }

    /// Returns the compiler's artifact of a component.
    fn compile(
        &self,
        digest: Digest,
        bytes: &[u8],
        limits: CompileLimits,
    ) -> Result<Vec<u8>, LoadError> {
        match &self.0.options.compiler {
            Compiler::InProcess => {
                let artifact = self.0.wasmtime.precompile_component(bytes);
                artifact.map_err(compile_error)
            }
            Compiler::OwnProcess(progress) => {
                // It can take seconds, while a start waits for it.
                tracing::info!(component = %digest, bytes = bytes.len(), "compiling a component");
                compiler::compile(bytes, limits, progress)
            }
        }
    }

    fn compile_limits(&self) -> CompileLimits {
        // Poisoning is harmless: a plain value.
        let held = self.0.compile_limits.lock();
        *held.unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the limits of compiling, for components that are compiled from now on.
    pub fn set_compile_limits(&self, limits: CompileLimits) {
        // Poisoning is harmless: a plain value.
        let held = self.0.compile_limits.lock();
        *held.unwrap_or_else(PoisonError::into_inner) = limits;
    }

    fn loaded(&self, digest: Digest) -> Option<Arc<Component>> {
        // Poisoning is harmless: each change of the map is one call.
        let loaded = self.0.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.get(&digest)?.upgrade()
    }

    /// Stores a component's bytes under their digest, synced to disk. Blocks.
    pub fn keep(&self, bytes: &[u8]) -> Result<Digest, LoadError> {
        let digest = Digest::of(bytes);
        let path = self.kept_path(digest);
        let failed = |error: std::io::Error| LoadError::File {
            path: path.clone(),
            reason: error.to_string(),
        };
        let kept = atomic_file::read(&path).map_err(failed)?;
        if kept.as_deref() != Some(bytes) {
            let name = format!("{digest}.wasm");
            atomic_file::write_whole(&self.0.options.components_dir, &name, &[bytes])
                .map_err(failed)?;
        } else {
            // As good as new: it is not about to be removed. If that fails, it is as old as it is.
            let _ = File::options()
                .write(true)
                .open(&path)
                .and_then(|file| file.set_modified(SystemTime::now()));
            // The process that wrote the file may have been killed before its name was durable.
            atomic_file::sync_folder(&self.0.options.components_dir).map_err(failed)?;
        }
        Ok(digest)
    }

    /// Loads the component that [`Engine::keep`] stored under this digest, if there is one. Blocks.
    pub fn kept(&self, digest: Digest) -> Result<Option<Arc<Component>>, LoadError> {
        if let Some(component) = self.loaded(digest) {
            return Ok(Some(component));
        }
        let Some(bytes) = self.kept_bytes(digest)? else {
            return Ok(None);
        };
        check_kind(&bytes)?;
        self.load_anew(digest, &bytes, self.compile_limits())
            .map(Some)
    }

    /// Whether a component is stored under this digest. Asks the disk, and does not read the file.
    pub fn is_kept(&self, digest: Digest) -> bool {
        self.kept_path(digest).exists()
    }

    /// Reads the component that [`Engine::keep`] stored under this digest, if there is one. Blocks.
    pub fn kept_bytes(&self, digest: Digest) -> Result<Option<Vec<u8>>, LoadError> {
        let path = self.kept_path(digest);
        let read = atomic_file::read(&path).map_err(|error| LoadError::File {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let Some(bytes) = read else {
            return Ok(None);
        };
        match Digest::of(&bytes) {
            found if found == digest => Ok(Some(bytes)),
            found => Err(LoadError::Damaged { path, found }),
        }
    }

    fn kept_path(&self, digest: Digest) -> PathBuf {
        let name = format!("{digest}.wasm");
        self.0.options.components_dir.join(name)
    }

    /// Returns whether at least half of the pool is free, so that no turn should have to wait.
    pub fn is_roomy(&self) -> bool {
        let shares = self.0.options.turns_max.max(1) as usize;
        2 * self.0.shares.available_permits() >= shares
    }

    /// Reserves memory for an instance; waits until there is room. Cancel safe.
    pub async fn reserve(&self, bytes: u64) -> MemoryReservation {
        self.0.memory.reserve(bytes).await
    }

    /// Changes the memory that all guests together may hold, for those that run, too.
    pub fn set_guest_memory(&self, bytes: u64) {
        self.0.memory.set_budget(bytes);
    }

    /// Returns how much of the guests' memory is reserved.
    pub fn guest_memory(&self) -> GuestMemoryStatus {
        self.0.memory.status()
    }

    /// Returns how many guests wait for a processor.
    pub fn waiting_to_compute(&self) -> usize {
        self.0.run_queue.waiting()
    }

    /// Waits for an instance's share of the pool. Cancel safe. Memory comes first: who waits for it
    /// must not hold a share, which others need who have theirs.
    pub async fn admit(&self, component: &Component, memory: MemoryReservation) -> Admission {
        let shares = self.0.shares.clone();
        let shares = shares.acquire_many_owned(component.shares).await;
        Admission {
            memory,
            share: shares
                .expect("the semaphore is never closed, and no component takes more than it holds"),
        }
    }
}

/// An instance's memory and its share of the pool, released when it is dropped.
pub struct Admission {
    pub(super) memory: MemoryReservation,
    pub(super) share: OwnedSemaphorePermit,
}

fn compile_error(error: wasmtime::Error) -> LoadError {
    LoadError::Compile {
        reason: format!("{error:#}"),
    }
}

/// Starts the thread that advances the epoch every [`SLICE`], so that computing guests yield; it
/// ends with the engine.
fn tick(engine: &wasmtime::Engine) -> std::io::Result<()> {
    let engine = engine.weak();
    std::thread::Builder::new()
        .name("guest-slices".into())
        .spawn(move || {
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(SLICE);
            }
        })?;
    Ok(())
}
