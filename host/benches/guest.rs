//! Benchmarks the guest's part of a turn: instantiate and restore, then also the turn and the
//! snapshot; in the engine, and in bare wasmtime with the same component and settings.

use abide::domain::Snapshot;
use abide::engine::{Engine, GuestJob, StepCall};
use criterion::Criterion;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use self::bindings::abide::session::{output, types};
use self::bindings::{Plugin, PluginPre};
use crate::wasm::{Bench, guest, message, snapshot};

/// Turns after which the session holds as many messages as it keeps.
const TURNS: usize = 20;
/// Length of a message.
const TEXT_BYTES: usize = 200;

mod bindings {
    #![allow(clippy::all)]
    wasmtime::component::bindgen!({
        path: "../wit/v0.1.0",
        world: "plugin",
        exports: { default: async },
    });
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("threads can be started");
    let mut group = criterion.benchmark_group("guest");
    let bench = Bench::new();
    let job = bench.job("chat");
    let state = runtime.block_on(filled(&bench.engine, &job));
    group.bench_function("instantiate and restore/engine", |bencher| {
        bencher.iter(|| {
            let restored = runtime.block_on(bench.engine.restore(&job, &state));
            restored.expect("the guest takes its snapshot");
        });
    });
    group.bench_function("and turn and snapshot/engine", |bencher| {
        bencher.iter(|| runtime.block_on(turn(&bench.engine, &job, &state)));
    });
    drop(bench);

    let bare = Bare::new();
    group.bench_function("instantiate and restore/bare wasmtime", |bencher| {
        bencher.iter(|| runtime.block_on(bare.restored(&state)).1);
    });
    group.bench_function("and turn and snapshot/bare wasmtime", |bencher| {
        bencher.iter(|| runtime.block_on(bare.turn(&state)));
    });
    group.finish();
}

/// Returns the state of a session after [`TURNS`] turns.
async fn filled(engine: &Engine, job: &GuestJob) -> Snapshot {
    let opened = engine.open(job).await.expect("the guest opens");
    let mut state = snapshot(job, &opened);
    for _ in 0..TURNS {
        state = turn(engine, job, &state).await;
    }
    state
}

async fn turn(engine: &Engine, job: &GuestJob, before: &Snapshot) -> Snapshot {
    let (steps, _none) = mpsc::channel::<Box<StepCall>>(1);
    let input = vec![message(&"x".repeat(TEXT_BYTES))];
    let turn = engine.turn(job, before, None, input, steps).await;
    snapshot(job, &turn.expect("the guest answers"))
}

/// The store data of a bare instance.
struct Own {
    wasi: WasiCtx,
    table: ResourceTable,
    /// The texts that the guest has emitted.
    said: Vec<String>,
}

impl WasiView for Own {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

/// Bare wasmtime, without the engine.
struct Bare {
    engine: wasmtime::Engine,
    plugin: PluginPre<Own>,
}

impl Bare {
    fn new() -> Self {
        const WORKS: &str = "wasmtime does with a component of ours what it does in the engine";
        let engine = wasmtime::Engine::new(&config()).expect(WORKS);
        let component = Component::from_binary(&engine, &guest("chat")).expect(WORKS);
        let mut linker = Linker::<Own>::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).expect(WORKS);
        let mut output = linker.instance("abide:session/output@0.1.0").expect(WORKS);
        let text = output.func_wrap("text", |mut store, (text,): (String,)| {
            let state: &mut Own = store.data_mut();
            state.said.push(text);
            Ok((Ok::<(), output::OutputError>(()),))
        });
        text.expect(WORKS);
        linker
            .define_unknown_imports_as_traps(&component)
            .expect(WORKS);
        let pre = linker.instantiate_pre(&component).expect(WORKS);
        let plugin = PluginPre::new(pre).expect(WORKS);
        Self { engine, plugin }
    }

    async fn restored(&self, state: &Snapshot) -> (Store<Own>, Plugin) {
        let own = Own {
            wasi: WasiCtx::default(),
            table: ResourceTable::new(),
            said: Vec::new(),
        };
        let mut store = Store::new(&self.engine, own);
        store.set_epoch_deadline(1);
        let plugin = self.plugin.instantiate_async(&mut store).await;
        let plugin = plugin.expect("the pool has room for one");
        let context = types::Context {
            session: "s".to_owned(),
            plugin: "chat".to_owned(),
            args: "null".to_owned(),
        };
        let state = types::State {
            schema: state.schema,
            data: state.data.clone(),
        };
        let guest = plugin.abide_session_guest();
        let restored = guest.call_restore(&mut store, &context, &state).await;
        restored
            .expect("nothing traps")
            .expect("the guest takes its snapshot");
        (store, plugin)
    }

    async fn turn(&self, state: &Snapshot) -> types::State {
        let (mut store, plugin) = self.restored(state).await;
        let guest = plugin.abide_session_guest();
        let input = [types::Message {
            id: "m1".to_owned(),
            role: types::Role::User,
            name: None,
            text: "x".repeat(TEXT_BYTES),
            at_ms: 1,
            due_at_ms: None,
            recovery: None,
        }];
        let ended = guest.call_turn(&mut store, &input).await;
        ended.expect("nothing traps").expect("the guest answers");
        guest
            .call_snapshot(&mut store)
            .await
            .expect("nothing traps")
    }
}

/// Returns the engine's configuration (`engine::pool`), for the same number of concurrent turns.
fn config() -> Config {
    const TURNS_MAX: u32 = 1000;
    const MEMORY_BYTES: usize = 4 << 30;
    const STACK_BYTES: usize = 1 << 20;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(TURNS_MAX)
        .total_core_instances(u32::MAX)
        .max_core_instances_per_component(u32::MAX)
        .max_core_instance_size(16 << 20)
        .max_component_instance_size(16 << 20)
        .total_stacks(TURNS_MAX)
        .total_memories(TURNS_MAX)
        .max_memories_per_component(u32::MAX)
        .max_memory_size(MEMORY_BYTES)
        .linear_memory_keep_resident(256 << 10)
        .total_tables(TURNS_MAX * 3)
        .max_tables_per_component(u32::MAX)
        .max_tables_per_module(3)
        .table_elements(200_000)
        .table_keep_resident(256 << 10)
        .pagemap_scan(wasmtime::Enabled::Auto);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .memory_reservation(MEMORY_BYTES as u64)
        .max_wasm_stack(STACK_BYTES)
        .async_stack_size(STACK_BYTES + (1 << 20))
        .epoch_interruption(true)
        .native_unwind_info(false)
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .concurrency_support(false)
        .wasm_component_model(true);
    config
}
