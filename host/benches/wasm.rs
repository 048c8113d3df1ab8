//! Loads guests' components, and creates an engine with a job for them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use abide::domain::{
    Capabilities, Limits, Message, MessageId, Role, SessionId, Snapshot, UnixMillis,
};
use abide::engine::{Context, Engine, EngineOptions, GuestJob, Product};
use tempfile::TempDir;

/// The daemon's default limit of concurrent turns.
const TURNS_MAX: u32 = 1000;

/// Reads a guest's component.
pub(crate) fn guest(name: &str) -> Vec<u8> {
    let built = || {
        let program = env::current_exe().expect("a process knows its executable");
        let target = program.ancestors().nth(3).map(Path::to_path_buf);
        let target = target.expect("a benchmark runs from target/PROFILE/deps");
        target.join("wasm32-wasip2/guest")
    };
    let folder = env::var_os("ABIDE_GUESTS").map_or_else(built, PathBuf::from);
    let path = folder.join(format!("{name}.wasm"));
    fs::read(&path).unwrap_or_else(|error| {
        let path = path.display();
        panic!("{path}: {error}; `make build` builds it, or name its folder in ABIDE_GUESTS")
    })
}

/// An engine with a directory of its own.
pub(crate) struct Bench {
    pub(crate) engine: Engine,
    _folder: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let (cache, components) = (
            folder.path().join("cache"),
            folder.path().join("components"),
        );
        let mut options = EngineOptions::new(cache, components);
        options.turns_max = TURNS_MAX;
        Self {
            engine: Engine::new(options).expect("the engine starts"),
            _folder: folder,
        }
    }

    pub(crate) fn job(&self, name: &str) -> GuestJob {
        let component = self
            .engine
            .load(&guest(name))
            .expect("a guest of ours loads");
        GuestJob {
            component,
            context: Context {
                session: SessionId::new("s").expect("an id"),
                plugin: name.into(),
                args: "null".into(),
            },
            limits: Limits::default(),
            grants: Capabilities::default(),
            timers: Vec::new(),
            now: UnixMillis(1_700_000_000_000),
            seed: 42,
        }
    }
}

pub(crate) fn snapshot(job: &GuestJob, product: &Product) -> Snapshot {
    Snapshot {
        plugin: job.context.plugin.clone(),
        component: job.component.digest(),
        schema: product.schema,
        data: product.data.clone(),
    }
}

pub(crate) fn message(text: &str) -> Message {
    Message {
        id: MessageId::on(None, 1),
        from: Role::User,
        name: None,
        text: text.into(),
        at: UnixMillis(1),
        due: None,
    }
}
