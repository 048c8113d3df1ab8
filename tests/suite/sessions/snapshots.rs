//! Snapshots: the present components must read what every version has written. Golden files are in
//! `golden/vVERSION`, one folder per released version, and never change: `PLUGIN.snapshot` has
//! schema 1, `PLUGIN.SCHEMA.snapshot` a later one. `ABIDE_BLESS=1` writes the missing files of the
//! present version and schema.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use abide::domain::{
    BadSnapshot, Capabilities, Completion, FinishReason, FromInbox, Limits, Message, MessageId,
    Output, Patterns, Role, SessionId, Snapshot, StepRequest, StepResult, UnixMillis,
};
use abide::engine::{Component, Context, Engine, EngineOptions, GuestJob, Product, StepAnswer};
use abide_tests::guest;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tempfile::TempDir;
use tokio::sync::mpsc;

/// The conversation in each golden file.
const GOLDEN: [&str; 3] = ["my name is Ada", "naïve café, 東京 🦀", ""];

/// A guest's component on an engine of its own.
struct LoadedGuest {
    engine: Engine,
    component: Arc<Component>,
    plugin: &'static str,
    _folder: TempDir,
}

impl LoadedGuest {
    fn new(plugin: &'static str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let options = EngineOptions {
            turns_max: 4,
            ..EngineOptions::new(folder.path().join("cache"), folder.path().join("kept"))
        };
        let engine = Engine::new(options).expect("the machine runs guests");
        let bytes = fs::read(guest(plugin)).expect("readable");
        let component = engine.load(&bytes).expect("the component is fit");
        Self {
            engine,
            component,
            plugin,
            _folder: folder,
        }
    }

    fn job(&self) -> GuestJob {
        GuestJob {
            component: self.component.clone(),
            context: Context {
                session: SessionId::new("s").expect("a good id"),
                plugin: self.plugin.to_owned(),
                args: "null".to_owned(),
            },
            limits: Limits::default(),
            grants: Capabilities {
                llm: Patterns(vec!["local".to_owned()]),
                ..Capabilities::default()
            },
            timers: Vec::new(),
            now: UnixMillis(1_700_000_000_000),
            seed: 7,
        }
    }

    fn keep(&self, product: &Product) -> Snapshot {
        Snapshot {
            plugin: self.plugin.to_owned(),
            component: self.component.digest(),
            schema: product.schema,
            data: product.data.clone(),
        }
    }

    async fn open(&self) -> Snapshot {
        // This also checks that its first snapshot is restored to the same bytes.
        let product = self.engine.check(&self.job()).await;
        self.keep(&product.expect("a session opens"))
    }

    /// Checks that `snapshot -> restore -> snapshot` is byte-equal, on a fresh instance of the
    /// component.
    async fn check_round_trip(&self, product: &Product) {
        let again = self
            .engine
            .retake(&self.job(), &self.keep(product))
            .await
            .unwrap_or_else(|failure| panic!("{}: {failure}", self.plugin));
        assert_eq!(
            (again.schema, again.data),
            (product.schema, product.data.clone())
        );
    }

    /// Runs one turn over a user's message; the model answers `re: ` and its last line. Returns the
    /// turn's product and the messages that the model received.
    async fn turn(&self, before: &Snapshot, text: &str) -> (Product, Vec<String>) {
        let message = Message {
            id: MessageId::on(None, 1),
            from: Role::User,
            name: None,
            text: text.to_owned(),
            at: UnixMillis(1_700_000_000_000),
            due: None,
        };
        let (steps, mut calls) = mpsc::channel(1);
        let job = self.job();
        let turn = self.engine.turn(&job, before, None, vec![message], steps);
        let model = async {
            let mut received = Vec::new();
            while let Some(call) = calls.recv().await {
                let answer = |result| StepAnswer { result, took_ms: 0 };
                let request = match &call.request {
                    StepRequest::Llm(request) => request,
                    StepRequest::ToolsList => {
                        let _ = call
                            .reply
                            .send(answer(Ok(StepResult::ToolsList(Vec::new()))));
                        continue;
                    }
                    StepRequest::Receive => {
                        let nothing = StepResult::Receive(FromInbox::default());
                        let _ = call.reply.send(answer(Ok(nothing)));
                        continue;
                    }
                    other => panic!("a model call was expected, not {other:?}"),
                };
                received = request
                    .messages
                    .iter()
                    .map(|line| line.content.clone())
                    .collect();
                let completion = Completion {
                    content: format!("re: {}", received.last().map_or("", String::as_str)),
                    tool_calls: Vec::new(),
                    finish: FinishReason::Stop,
                    usage: None,
                    model: "golden".to_owned(),
                };
                // The turn may be over, which is fine.
                let _ = call.reply.send(answer(Ok(StepResult::Llm(completion))));
            }
            received
        };
        let (product, received) = tokio::join!(turn, model);
        let product = product.unwrap_or_else(|failure| panic!("{}: {failure}", self.plugin));
        self.check_round_trip(&product).await;
        (product, received)
    }
}

/// Returns the name of a plugin's golden file of that schema.
fn golden_name(plugin: &str, schema: u32) -> String {
    match schema {
        1 => format!("{plugin}.snapshot"),
        _ => format!("{plugin}.{schema}.snapshot"),
    }
}

fn golden_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

async fn bless(loaded: &LoadedGuest) {
    let folder = golden_folder().join(concat!("v", env!("CARGO_PKG_VERSION")));
    let mut snapshot = loaded.open().await;
    let path = folder.join(golden_name(loaded.plugin, snapshot.schema));
    if path.exists() {
        return;
    }
    for text in GOLDEN {
        snapshot = loaded.keep(&loaded.turn(&snapshot, text).await.0);
    }
    fs::create_dir_all(&folder).expect("the repository can be written");
    fs::write(&path, snapshot.encode()).expect("the repository can be written");
}

/// Returns each golden file of a plugin: its path and bytes. At least the present version and
/// schema must have one.
async fn golden(loaded: &LoadedGuest) -> Vec<(String, Vec<u8>)> {
    if std::env::var_os("ABIDE_BLESS").is_some() {
        bless(loaded).await;
    }
    let schema = loaded.open().await.schema;
    let versions = fs::read_dir(golden_folder()).expect("golden files are there");
    let files: Vec<_> = versions
        .flatten()
        .flat_map(|version| (1..=schema).map(move |schema| (version.path(), schema)))
        .filter_map(|(folder, schema)| {
            let path = folder.join(golden_name(loaded.plugin, schema));
            let bytes = fs::read(&path).ok()?;
            Some((path.display().to_string(), bytes))
        })
        .collect();
    let present = format!("v{}/", env!("CARGO_PKG_VERSION"));
    let present = present + &golden_name(loaded.plugin, schema);
    assert!(
        files.iter().any(|(path, _)| path.ends_with(&present)),
        "no golden file {present}: run the tests once with ABIDE_BLESS=1"
    );
    files
}

fn texts(product: &Product) -> Vec<&str> {
    let texts = product.outputs.iter().filter_map(|output| match output {
        Output::Text(text) => Some(text.as_str()),
        Output::Event { .. } => None,
    });
    texts.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_files_of_every_version_are_read() {
    let limit = Limits::default().snapshot_bytes;
    let echo = LoadedGuest::new("echo");
    for (path, bytes) in golden(&echo).await {
        let snapshot = Snapshot::decode(&bytes, "echo", limit);
        let snapshot = snapshot.unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(snapshot.encode(), bytes, "{path}");
        let (product, _) = echo.turn(&snapshot, "and now?").await;
        assert_eq!(texts(&product), ["#4 user: and now?"], "{path}");
    }
    let assistant = LoadedGuest::new("assistant");
    for (path, bytes) in golden(&assistant).await {
        let snapshot = Snapshot::decode(&bytes, "assistant", limit);
        let snapshot = snapshot.unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(snapshot.encode(), bytes, "{path}");
        let (product, received) = assistant.turn(&snapshot, "and now?").await;
        let mut history = Vec::new();
        for line in GOLDEN {
            history.extend([line.to_owned(), format!("re: {line}")]);
        }
        history.push("and now?".to_owned());
        assert_eq!(received, history, "{path}: the whole conversation is there");
        assert_eq!(texts(&product), ["re: and now?"], "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_golden_files_are_refused_each_with_its_own_error() {
    let loaded = LoadedGuest::new("assistant");
    let limit = Limits::default().snapshot_bytes;
    let present = loaded.open().await.schema;
    for (path, bytes) in golden(&loaded).await {
        let refusal = |bytes: &[u8], plugin: &str, limit: u64| {
            Snapshot::decode(bytes, plugin, limit).expect_err("it is damaged")
        };
        for cut in 0..bytes.len() {
            let refused = refusal(&bytes[..cut], "assistant", limit);
            assert!(
                matches!(refused, BadSnapshot::Truncated { .. }),
                "{path} cut at {cut}: {refused}"
            );
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            refusal(&flipped, "assistant", limit);
        }
        let refused = refusal(&bytes, "assistant", 10);
        assert!(matches!(refused, BadSnapshot::TooLarge { .. }), "{refused}");
        let refused = refusal(&bytes, "echo", limit);
        assert!(
            matches!(refused, BadSnapshot::OtherPlugin { .. }),
            "{refused}"
        );
        let mut newer = Snapshot::decode(&bytes, "assistant", limit).expect("it is whole");
        newer.schema = present + 1;
        let refused = loaded.engine.restore(&loaded.job(), &newer).await;
        let refused = refused.expect_err("a newer schema").to_string();
        assert!(refused.contains(&newer.schema.to_string()), "{refused}");
    }
}

/// For every state that a conversation reaches, the next turn on the snapshot and the next turn on
/// the restored snapshot are the same, output and bytes, however often they run.
#[test]
fn every_state_survives_the_disk_in_the_component() {
    let runtime = tokio::runtime::Runtime::new().expect("threads are to be had");
    for plugin in ["echo", "assistant"] {
        let loaded = runtime.block_on(async { LoadedGuest::new(plugin) });
        let mut runner = TestRunner::new(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(64)
        });
        let conversation = proptest::collection::vec(".{0,200}", 1..8);
        let result = runner.run(&conversation, |texts| {
            runtime.block_on(async {
                let mut snapshot = loaded.open().await;
                for text in &texts {
                    let bytes = snapshot.encode();
                    let again = Snapshot::decode(&bytes, plugin, u64::MAX);
                    let again = again.map_err(|error| TestCaseError::fail(error.to_string()))?;
                    prop_assert_eq!(&again, &snapshot);
                    let (product, _) = loaded.turn(&snapshot, text).await;
                    let (same, _) = loaded.turn(&again, text).await;
                    prop_assert_eq!(&same, &product);
                    snapshot = loaded.keep(&product);
                    let restored = loaded.engine.restore(&loaded.job(), &snapshot).await;
                    prop_assert!(restored.is_ok(), "{restored:?}");
                }
                Ok(())
            })
        });
        if let Err(error) = result {
            panic!("{plugin}: {error}");
        }
    }
}
