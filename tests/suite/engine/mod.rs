//! The engine with real guests: they cannot affect each other, and are deterministic.

mod load;
mod run;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use abide::domain::{
    Capabilities, Limits, Message, MessageId, Output, Role, SessionId, Snapshot, UnixMillis,
};
use abide::engine::{
    Component, Context, Engine, EngineOptions, GuestFailure, GuestJob, Product, StepAnswer,
    StepCall,
};
use tempfile::TempDir;
use tokio::sync::mpsc;

/// Returns a guest's component: from the folder `ABIDE_GUESTS`, or what cargo has built.
fn guest(name: &str) -> Vec<u8> {
    let built = || {
        let exe = env::current_exe().expect("a process knows its executable");
        let target = exe.ancestors().nth(3).map(Path::to_path_buf);
        target
            .expect("a test runs from target/PROFILE/deps")
            .join("wasm32-wasip2/guest")
    };
    let folder = env::var_os("ABIDE_GUESTS").map_or_else(built, PathBuf::from);
    let path = folder.join(format!("{name}.wasm"));
    fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; build the guests, or name their folder in ABIDE_GUESTS",
            path.display()
        )
    })
}

/// An engine in a folder of its own.
struct EngineBench {
    folder: TempDir,
    engine: Engine,
}

impl EngineBench {
    fn new(turns_max: u32) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let engine = engine(folder.path(), turns_max);
        Self { folder, engine }
    }

    fn job(&self, name: &str) -> GuestJob {
        job(self
            .engine
            .load(&guest(name))
            .expect("a guest of ours loads"))
    }
}

fn engine(folder: &Path, turns_max: u32) -> Engine {
    let mut options = EngineOptions::new(folder.join("cache"), folder.join("components"));
    options.turns_max = turns_max;
    Engine::new(options).expect("the engine starts")
}

fn job(component: Arc<Component>) -> GuestJob {
    GuestJob {
        component,
        context: Context {
            session: SessionId::new("s").expect("an id"),
            plugin: "tried".into(),
            args: "{}".into(),
        },
        limits: Limits {
            turn_timeout: Duration::from_secs(20),
            ..Limits::default()
        },
        grants: Capabilities::default(),
        timers: Vec::new(),
        now: UnixMillis(1_700_000_000_000),
        seed: 42,
    }
}

fn snapshot(job: &GuestJob, product: &Product) -> Snapshot {
    Snapshot {
        plugin: job.context.plugin.clone(),
        component: job.component.digest(),
        schema: product.schema,
        data: product.data.clone(),
    }
}

fn message(text: &str) -> Message {
    Message {
        id: MessageId::on(None, 1),
        from: Role::User,
        name: None,
        text: text.into(),
        at: UnixMillis(1),
        due: None,
    }
}

fn text(product: &Product) -> &str {
    match product.outputs.as_slice() {
        [Output::Text(text)] => text,
        other => panic!("one text was expected: {other:?}"),
    }
}

/// Opens a session and runs one turn on `text`. Steps that are not granted are refused, and no
/// others are answered.
async fn turn(engine: &Engine, job: &GuestJob, text: &str) -> Result<Product, GuestFailure> {
    let opened = engine.open(job).await.expect("the guest opens");
    let (steps, mut calls) = mpsc::channel::<Box<StepCall>>(1);
    let (before, input) = (snapshot(job, &opened), vec![message(text)]);
    let refuse = async {
        let mut unanswered = Vec::new();
        while let Some(mut call) = calls.recv().await {
            match call.refused.first_mut().and_then(Option::take) {
                Some(refused) => {
                    let result = Err(refused);
                    let sent = call.reply.send(StepAnswer { result, took_ms: 0 });
                    sent.expect("the guest waits");
                }
                None => unanswered.push(call),
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        ended = engine.turn(job, &before, None, input, steps) => ended,
        never = refuse => never,
    }
}
