//! Tests of connections, against a peer that follows a script. Processes and their ends are tested
//! in the integration tests.

use serde_json::json;
use tokio::io::{
    AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf,
    duplex, split,
};

use super::connection::{ConnectionTask, McpConnection, NoResult};
use super::instance::{Instance, OpenedServer, ServerExit};
use super::*;

pub(super) fn settings() -> ToolServer {
    ToolServer {
        at: ToolServerAt::Command(program()),
        start_timeout: Duration::from_secs(10),
        call_timeout: Duration::from_secs(10),
        repeatable: Patterns::default(),
        once: Patterns::default(),
        ask: Patterns::default(),
        ask_timeout: Duration::from_secs(60),
        image_bytes: 0,
    }
}

fn program() -> Program {
    Program {
        program: "none".to_owned(),
        args: Vec::new(),
        env: Vec::new(),
        user: None,
        hidden: None,
        cwd: "/".into(),
        owner: "tests".to_owned(),
    }
}

/// Returns the settings of a program that gets a secret in a variable.
pub(super) fn with_secret(name: &str, value: &str) -> ToolServer {
    let program = Program {
        args: vec![format!("--key={value}")],
        env: vec![(name.to_owned(), value.to_owned())],
        ..program()
    };
    ToolServer {
        at: ToolServerAt::Command(program),
        ..settings()
    }
}

/// The server's side of a connection, message by message.
struct Peer {
    lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
    write: WriteHalf<DuplexStream>,
}

impl Peer {
    async fn next(&mut self) -> Value {
        let line = self.lines.next_line().await.expect("reads");
        serde_json::from_str(&line.expect("a message")).expect("JSON")
    }

    async fn say(&mut self, message: Value) {
        let line = format!("{message}\n");
        self.write.write_all(line.as_bytes()).await.expect("writes");
    }

    async fn answer(&mut self, request: &Value, result: Value) {
        let id = &request["id"];
        self.say(json!({"jsonrpc": "2.0", "id": id, "result": result}))
            .await;
    }
}

async fn open(pipe_bytes: usize) -> (Arc<McpConnection>, ConnectionTask, Peer) {
    let (ours, theirs) = duplex(pipe_bytes);
    let (read, write) = split(theirs);
    let mut peer = Peer {
        lines: BufReader::new(read).lines(),
        write,
    };
    let hello = async {
        let request = peer.next().await;
        assert_eq!(request["method"], "initialize");
        assert_eq!(request["params"]["clientInfo"]["name"], "abide");
        assert_eq!(request["params"]["protocolVersion"], "2025-11-25");
        let result = json!({
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {"listChanged": true}},
            "serverInfo": {"name": "scripted", "version": "1"},
        });
        peer.answer(&request, result).await;
        assert_eq!(peer.next().await["method"], "notifications/initialized");
    };
    let (read, write) = split(ours);
    let (opened, ()) = tokio::join!(McpConnection::open(read, write), hello);
    let (connection, serving) = opened.expect("opens");
    (Arc::new(connection), serving, peer)
}

fn request(tool: &str, timeout: Duration) -> CallRequest {
    let arguments = json!({"a": 1});
    CallRequest {
        tool: tool.to_owned(),
        arguments: arguments.as_object().cloned().expect("an object"),
        key: "s/1/2/0".to_owned(),
        patience: timeout,
        limit: LONG,
        limit_bytes: 2 << 20,
    }
}

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(100);

fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

#[tokio::test]
async fn a_call_carries_its_key_and_brings_its_answer() {
    let (connection, _serving, mut peer) = open(1 << 16).await;
    let calls = async {
        let first = connection.call(request("first", LONG));
        let second = connection.call(request("second", LONG));
        tokio::join!(first, second)
    };
    let answers = async {
        let (one, two) = (peer.next().await, peer.next().await);
        for request in [&one, &two] {
            assert_eq!(request["method"], "tools/call");
            assert_eq!(request["params"]["arguments"], json!({"a": 1}));
            assert_eq!(request["params"]["_meta"]["abide/key"], "s/1/2/0");
        }
        // Answer in the reverse order.
        for request in [two, one] {
            let name = request["params"]["name"].as_str().expect("a name");
            peer.answer(&request, text(name)).await;
        }
    };
    let ((first, second), ()) = tokio::join!(calls, answers);
    for (answer, name) in [(first, "first"), (second, "second")] {
        let room = Room {
            all: 1000,
            image: 0,
        };
        let outcome = outcome::outcome(answer.expect("an answer"), room).expect("an outcome");
        assert_eq!(
            outcome.content,
            [crate::domain::ToolContent::Text(name.to_owned())]
        );
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_or_late_is_cancelled() {
    let (connection, _serving, mut peer) = open(1 << 16).await;
    let dropped = tokio::time::timeout(SHORT, connection.call(request("hang", LONG)));
    assert!(dropped.await.is_err());
    let late = connection.call(request("hang", SHORT)).await;
    assert!(matches!(late, Err(NoResult::Late(_))), "{late:?}");
    let (mut calls, mut cancelled) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let message = peer.next().await;
        match message["method"].as_str() {
            Some("tools/call") => calls.push(message["id"].clone()),
            Some("notifications/cancelled") => {
                cancelled.push(message["params"]["requestId"].clone());
            }
            _ => panic!("{message}"),
        }
    }
    cancelled.sort_by_key(Value::as_u64);
    assert_eq!(calls, cancelled);
    for id in calls {
        // The answer comes too late.
        peer.answer(&json!({"id": id}), text("done")).await;
    }
    let (answer, ()) = tokio::join!(connection.call(request("next", LONG)), async {
        let call = peer.next().await;
        peer.answer(&call, text("ok")).await;
    });
    assert!(answer.is_ok(), "{answer:?}");
}

#[tokio::test]
async fn a_call_whose_connection_ends_was_sent_and_the_next_one_is_not() {
    let (connection, serving, mut peer) = open(1 << 16).await;
    let (lost, ()) = tokio::join!(connection.call(request("crash", LONG)), async {
        peer.next().await;
        drop(peer);
    });
    assert!(matches!(lost, Err(NoResult::Lost(_))), "{lost:?}");
    let next = connection.call(request("next", LONG)).await;
    assert!(matches!(next, Err(NoResult::NotSent)), "{next:?}");
    drop(serving);
}

#[tokio::test]
async fn a_call_that_was_given_up_before_it_was_written_is_never_written() {
    // The pipe accepts a part of the first call, and the server reads nothing.
    let (connection, _serving, mut peer) = open(64).await;
    let (first, second) = tokio::join!(
        connection.call(request("first", SHORT)),
        connection.call(request("second", SHORT))
    );
    assert!(matches!(first, Err(NoResult::Late(_))), "{first:?}");
    assert!(matches!(second, Err(NoResult::Busy)), "{second:?}");
    // The server reads on, and finds only the first call.
    let after = tokio::spawn({
        let connection = connection.clone();
        async move { connection.call(request("after", LONG)).await }
    });
    let mut called = Vec::new();
    loop {
        let message = peer.next().await;
        if message["method"] == "tools/call" {
            called.push(message["params"]["name"].clone());
            if message["params"]["name"] == "after" {
                peer.answer(&message, text("ok")).await;
                break;
            }
        }
    }
    assert_eq!(called, ["first", "after"]);
    assert!(after.await.expect("no panic").is_ok());
}

#[tokio::test]
async fn an_answer_that_is_too_long_ends_its_call_alone() {
    let (connection, _serving, mut peer) = open(1 << 16).await;
    let calls = async {
        tokio::join!(
            connection.call(request("flood", LONG)),
            connection.call(request("small", LONG))
        )
    };
    let answers = async {
        let (flood, small) = (peer.next().await, peer.next().await);
        peer.answer(&flood, text(&"x".repeat(9 << 20))).await;
        peer.answer(&small, text("ok")).await;
    };
    let ((flood, small), ()) = tokio::join!(calls, answers);
    assert!(matches!(flood, Err(NoResult::TooLong)), "{flood:?}");
    assert!(small.is_ok(), "{small:?}");
}

#[tokio::test]
async fn tools_are_listed_page_by_page_and_not_for_ever() {
    let (connection, _serving, mut peer) = open(1 << 16).await;
    let tool = |name: String| json!({"name": name, "inputSchema": {"type": "object"}});
    let pages = async {
        let request = peer.next().await;
        assert_eq!(request["method"], "tools/list");
        let page = json!({"tools": [tool("a".to_owned())], "nextCursor": "2"});
        peer.answer(&request, page).await;
        let request = peer.next().await;
        assert_eq!(request["params"]["cursor"], "2");
        peer.answer(&request, json!({"tools": [tool("b".to_owned())]}))
            .await;
    };
    let (tools, ()) = tokio::join!(connection.tools(), pages);
    assert_eq!(tools.expect("tools").tools.len(), 2);

    let endless = async {
        loop {
            let request = peer.next().await;
            let page: Vec<_> = (0..600).map(|n| tool(format!("t{n}"))).collect();
            peer.answer(&request, json!({"tools": page, "nextCursor": "n"}))
                .await;
        }
    };
    tokio::select! {
        tools = connection.tools() => assert_eq!(tools.expect("tools").tools.len(), 1000),
        () = endless => {}
    }

    let none = async {
        let request = peer.next().await;
        let error = json!({"code": -32601, "message": "no tools here"});
        peer.say(json!({"jsonrpc": "2.0", "id": request["id"], "error": error}))
            .await;
    };
    let (tools, ()) = tokio::join!(connection.tools(), none);
    assert_eq!(tools.expect("none").tools.len(), 0);
}

#[tokio::test]
async fn a_changed_list_is_noticed() {
    let (connection, _serving, mut peer) = open(1 << 16).await;
    assert_eq!(connection.changes(), 0);
    peer.say(json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}))
        .await;
    while connection.changes() == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_server_that_says_too_much_is_read_slowly_and_its_answer_comes() {
    // Before it is opened, which begins the window that the messages fill.
    let begun = Instant::now();
    let (connection, _serving, mut peer) = open(1 << 16).await;
    let (answer, ()) = tokio::join!(connection.call(request("chatter", LONG)), async {
        let call = peer.next().await;
        for _ in 0..1500 {
            peer.say(json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}))
                .await;
        }
        peer.answer(&call, text("done")).await;
    });
    assert!(answer.is_ok(), "{answer:?}");
    assert!(begun.elapsed() >= Duration::from_millis(900));
}

#[tokio::test]
async fn calls_that_make_no_sense_start_nothing() {
    let servers = [("files".to_owned(), settings())].into();
    let servers = ToolServers::new(servers);
    let refused = async |name: &str, arguments: &str| {
        let call = ToolCall {
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        };
        let error = servers.classify(&call).await.expect_err("refused");
        let again = servers.call(&call, "k", false, 1000, Duration::MAX).await;
        assert_eq!(again, Err(error.clone()));
        error.to_string()
    };
    for (name, arguments, expected) in [
        (
            "read",
            "",
            "invalid: there is no tool `read`: tools are named SERVER__TOOL",
        ),
        (
            "files__read",
            "[]",
            "invalid: the arguments of `files__read` must be one JSON object",
        ),
        (
            "files__read",
            "{",
            "invalid: the arguments of `files__read` must be one JSON object",
        ),
        (
            "mail__send",
            "{}",
            "denied: there is no tool server `mail`; add `[mcp.mail]`",
        ),
    ] {
        let error = refused(name, arguments).await;
        assert!(error.starts_with(expected), "{error}");
    }
    let granted = |names: &[&str]| Patterns(names.iter().map(|n| (*n).to_owned()).collect());
    assert_eq!(servers.list(&granted(&["mail"])).await, []);
    let status = servers.status();
    assert_eq!(status.len(), 1);
    assert_eq!(status[0].state, crate::domain::ToolServerState::Idle);
}

#[tokio::test]
async fn settings_show_no_values() {
    let at = ToolServerAt::Url(Endpoint {
        url: "http://x/mcp?key=hunter2".to_owned(),
        token: Some("hunter2".to_owned()),
        headers: vec![("x-api-key".to_owned(), "hunter2".to_owned())],
    });
    for settings in [
        with_secret("KEY", "hunter2"),
        ToolServer { at, ..settings() },
    ] {
        let shown = format!("{settings:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        let redacted = settings.redact("no hunter2 here");
        assert!(!redacted.contains("hunter2"), "{redacted}");
    }
}

#[test]
fn no_part_of_a_secret_is_told() {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let at = ToolServerAt::Url(Endpoint {
        url: "http://x/mcp?key=que%20ry-s3cret&n=1".to_owned(),
        token: None,
        headers: vec![
            header("authorization", "Token s3cr3t-s3cr3t"),
            header("x-auth", "Bearer b3arer-b3arer"),
            header("cookie", "session=c00kie-c00kie; theme=dark"),
            header("x-basic", "Basic dXNlcjpwYXNz"),
        ],
    });
    let settings = ToolServer { at, ..settings() };
    for (text, expected) in [
        ("bad s3cr3t-s3cr3t", "bad [authorization]"),
        ("bad Token s3cr3t-s3cr3t!", "bad [authorization]!"),
        ("a Bearer token b3arer-b3arer", "a Bearer token [x-auth]"),
        ("session c00kie-c00kie", "session [cookie]"),
        ("dXNlcjpwYXNz", "[x-basic]"),
        ("que%20ry-s3cret, que ry-s3cret", "[query], [query]"),
        (
            "cut s3cr3t-s… and b3ar… or s…",
            "cut [authorization]… and [x-auth]… or s…",
        ),
        ("… nothing …", "… nothing …"),
    ] {
        assert_eq!(settings.redact(text), expected);
    }
}

#[tokio::test]
async fn an_answer_ends_its_call_however_its_line_looks() {
    for (before, content, after) in [
        ("", "a\nb", ""),
        ("Loading... ", "a", ""),
        ("\u{1b}[2K", "a", ""),
        ("", "a\tb", ", \"n\": NaN"),
    ] {
        let (connection, _serving, mut peer) = open(1 << 16).await;
        let (answer, ()) = tokio::join!(connection.call(request("odd", LONG)), async {
            let id = peer.next().await["id"].clone();
            // A log line that quotes a request is not a message.
            let line = format!(
                "log: {{\"jsonrpc\":\"2.0\",\"id\":77,\"method\":\"ping\"}}\n\
                 {before}{{\"jsonrpc\":\"2.0\",\"result\":{{\"content\":[{{\"type\":\"text\",\
                 \"text\":\"{content}\"}}]{after}}},\"id\":{id}}}\n"
            );
            let written = peer.write.write_all(line.as_bytes()).await;
            written.expect("writes");
        });
        let answer = answer.unwrap_or_else(|why| panic!("{content:?}: {why:?}"));
        assert_eq!(answer["content"][0]["text"], content);
        // The request that the log line quotes got no answer.
        let next = connection.call(request("next", LONG));
        let (next, ()) = tokio::join!(next, async {
            let call = peer.next().await;
            assert_eq!(call["method"], "tools/call");
            peer.answer(&call, text("ok")).await;
        });
        assert!(next.is_ok(), "{next:?}");
    }
}

#[tokio::test]
async fn a_list_that_cannot_be_had_again_is_not_waited_for_at_each_call() {
    let (connection, serving, mut peer) = open(1 << 16).await;
    let (server, settings): (Arc<str>, _) = (Arc::from("s"), Arc::new(settings()));
    let connection = Arc::into_inner(connection).expect("nobody else has it");
    let opening = OpenedServer::list(&server, &settings, connection, serving);
    let (opened, ()) = tokio::join!(opening, async {
        let list = peer.next().await;
        peer.answer(&list, json!({"tools": [{"name": "t"}]})).await;
    });
    let opened = opened.unwrap_or_else(|_| panic!("it lists its tools"));
    let instance = Instance::new(
        &server,
        &settings,
        opened,
        Default::default(),
        |serving| async {
            let _ = serving.waiting().await;
            ServerExit {
                reason: "it ended".to_owned(),
                forgotten: false,
            }
        },
    );
    instance.doubt();
    let (listed, ()) = tokio::join!(instance.catalog(), async {
        let list = peer.next().await;
        let error = json!({"code": -32000, "message": "not now"});
        let id = &list["id"];
        peer.say(json!({"jsonrpc": "2.0", "id": id, "error": error}))
            .await;
    });
    assert_eq!(listed.len(), 1);
    // The server is not asked again, so there is nothing to wait for.
    let again = tokio::time::timeout(SHORT, instance.catalog()).await;
    assert!(again.is_ok_and(|tools| tools.len() == 1));
}
