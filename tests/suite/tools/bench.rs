//! Tool servers under test, called as turns call them but without a daemon.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use abide::domain::{
    Patterns, StepError, Tool, ToolCall, ToolContent, ToolOutcome, ToolServerStatus,
};
use abide::providers::{Program, ToolServer, ToolServerAt, ToolServers};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const LIMIT_BYTES: u64 = 1 << 20;

/// Servers in a folder that records what they did; the one under test is `t`.
pub(crate) struct ToolBench {
    pub(crate) folder: TempDir,
    pub(crate) servers: ToolServers,
}

pub(crate) fn patterns(names: &[&str]) -> Patterns {
    Patterns(names.iter().map(|name| (*name).to_owned()).collect())
}

/// Returns the tests' own tool server, as a process.
pub(crate) fn server(folder: &Path, args: &[&str]) -> ToolServer {
    let file = |name: &str| folder.join(name).display().to_string();
    at(ToolServerAt::Command(Program {
        program: env!("CARGO_BIN_EXE_abide-test-tools").to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: vec![
            ("ABIDE_TOOLS_LOG".to_owned(), file("log")),
            ("ABIDE_TOOLS_STARTS".to_owned(), file("starts")),
        ],
        user: None,
        hidden: None,
        cwd: folder.to_owned(),
        owner: folder.display().to_string(),
    }))
}

/// Returns a server of which only the address is known.
pub(crate) fn at(at: ToolServerAt) -> ToolServer {
    ToolServer {
        at,
        start_timeout: PATIENCE,
        call_timeout: PATIENCE,
        repeatable: Patterns::default(),
        once: Patterns::default(),
        ask: Patterns::default(),
        ask_timeout: Duration::from_secs(60),
        image_bytes: 0,
    }
}

/// Returns the program of a server that is a process.
pub(crate) fn program(server: &mut ToolServer) -> &mut Program {
    match &mut server.at {
        ToolServerAt::Command(program) => program,
        ToolServerAt::Url(_) => panic!("it is no program"),
    }
}

impl ToolBench {
    pub(crate) fn new(args: &[&str], change: impl FnOnce(&mut ToolServer)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut server = server(folder.path(), args);
        change(&mut server);
        Self::with(folder, server)
    }

    pub(crate) fn with(folder: TempDir, server: ToolServer) -> Self {
        let servers = ToolServers::new([("t".to_owned(), server)].into());
        Self { folder, servers }
    }

    pub(crate) fn lines(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn starts(&self) -> usize {
        self.lines("starts").len()
    }

    /// Calls a tool as a turn does: first checks whether the call may be repeated.
    pub(crate) async fn call(
        &self,
        tool: &str,
        arguments: Value,
    ) -> Result<ToolOutcome, StepError> {
        let call = ToolCall {
            name: format!("t__{tool}"),
            arguments: arguments.to_string(),
        };
        let repeatable = self.servers.classify(&call).await?.repeatable;
        let key = format!("s/1/{tool}");
        let called = self
            .servers
            .call(&call, &key, repeatable, LIMIT_BYTES, PATIENCE);
        timeout(PATIENCE * 2, called)
            .await
            .expect("a call ends in time")
    }

    pub(crate) async fn tools(&self, granted: &[&str]) -> Vec<Tool> {
        self.servers.list(&patterns(granted)).await
    }

    pub(crate) async fn names(&self, granted: &[&str]) -> BTreeSet<String> {
        let tools = self.tools(granted).await;
        tools.into_iter().map(|tool| tool.name).collect()
    }

    pub(crate) fn status(&self) -> ToolServerStatus {
        let mut all = self.servers.status();
        assert_eq!(all.len(), 1);
        all.remove(0)
    }
}

/// Returns the content of a successful call.
pub(crate) fn told(outcome: Result<ToolOutcome, StepError>) -> String {
    let outcome = outcome.expect("an outcome");
    assert!(!outcome.is_error, "{outcome:?}");
    match outcome.content.as_slice() {
        [ToolContent::Text(text) | ToolContent::Json(text)] => text.clone(),
        other => panic!("one piece was expected: {other:?}"),
    }
}

pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "{what} does not come about");
        sleep(Duration::from_millis(10)).await;
    }
}
