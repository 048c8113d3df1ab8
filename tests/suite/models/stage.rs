//! A session of the assistant whose model's bytes a test chooses, with a tool server that records
//! its calls.

use abide_tests::{Client, Daemon, Plugin, RawAnswer, RawModel, Setup, tool_server};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::assistant::{ask, last_failure};

/// The value of `retries` in these tests.
const RETRIES: usize = 2;

pub(crate) struct RawModelStage {
    pub(crate) model: RawModel,
    /// Stops when the stage is dropped.
    _daemon: Daemon,
    pub(crate) client: Client,
    pub(crate) world: TempDir,
}

impl RawModelStage {
    /// Starts the assistant with the recording tool server `t`, and these further lines of
    /// `[llm.local]`.
    pub(crate) async fn new(lines: &str) -> Self {
        let model = RawModel::start().await;
        let world = tempfile::tempdir().expect("a temporary folder");
        let log = world.path().join("log");
        let setup = Setup {
            model: Some(model.base_url()),
            rest: vec![format!("retries = {RETRIES}\n{lines}")],
            ..Setup::default()
        };
        let setup = setup
            .plugin(Plugin::new("assistant").with_model_and_tools())
            .recording_tools(&tool_server(), &log);
        let daemon = Daemon::start(setup).await;
        let client = daemon.client();
        client.open("s", "assistant").await;
        Self {
            model,
            _daemon: daemon,
            client,
            world,
        }
    }

    /// Asserts that the session continues, whatever was answered.
    pub(crate) async fn says_hello(&self, case: &str) {
        assert_eq!(self.model.left(), 0, "{case}: not all was asked for");
        let posted = self.client.chat("s", "hello").await;
        assert_eq!(posted.said(), ["re: hello"], "{case}");
    }

    /// Asserts that this answer, to one request, is published as this text.
    pub(crate) async fn expect_text(&self, case: &str, answer: RawAnswer, expected: &str) {
        self.expect(case, [answer], expected).await;
    }

    /// Asserts that these answers, each to one request, result in this text.
    pub(crate) async fn expect<const N: usize>(
        &self,
        case: &str,
        answers: [RawAnswer; N],
        expected: &str,
    ) {
        self.model.script(answers);
        let posted = self.client.chat("s", case).await;
        assert_eq!(posted.said(), [expected], "{case}");
        assert_eq!(self.model.requests_about(case).len(), N, "{case}");
        self.says_hello(case).await;
    }

    /// Asserts that none of these answers is accepted: the turn fails with this reason, and nothing
    /// is published.
    pub(crate) async fn expect_failure(&self, case: &str, answer: RawAnswer, reason: &str) {
        self.model.script(vec![answer; 1 + RETRIES]);
        let posted = ask(&self.client, case).await;
        assert_eq!(posted.outcome.as_deref(), Some("failed"), "{case}");
        let found = last_failure(&self.client).await;
        assert!(found.contains(reason), "{case}: {found}");
        assert!(posted.said().is_empty(), "{case}");
        self.says_hello(case).await;
    }
}

/// Returns a complete answer as a JSON document.
pub(crate) fn whole(message: Value, reason: &str) -> RawAnswer {
    let choice = json!({"index": 0, "message": message, "finish_reason": reason});
    RawAnswer::json(200, &json!({"choices": [choice]}))
}
