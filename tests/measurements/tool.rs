//! Calls the tests' tool server without a daemon, to measure what a call itself costs.

use std::process::Stdio;
use std::time::{Duration, Instant};

use abide_tests::tool_server;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

/// Returns the calls per second with `at_once` calls in flight, measured over `time`.
pub(crate) async fn rate(at_once: usize, time: Duration) -> f64 {
    let mut server = Command::new(tool_server())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the tool server can be run");
    let mut input = server.stdin.take().expect("it is piped");
    let output = server.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(output).lines();
    let call = |id: u64| {
        let params = json!({"name": "record", "arguments": {"token": "x"}});
        let call = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params});
        format!("{call}\n")
    };
    let (mut next, mut answered) = (0, 0_u32);
    let began = Instant::now();
    for _ in 0..at_once {
        next += 1;
        let sent = input.write_all(call(next).as_bytes()).await;
        sent.expect("it reads");
    }
    while began.elapsed() < time {
        let line = lines.next_line().await.expect("it answers");
        let answer: Value =
            serde_json::from_str(&line.expect("it is there")).expect("it speaks JSON");
        assert!(answer["error"].is_null(), "{answer}");
        answered += 1;
        next += 1;
        let sent = input.write_all(call(next).as_bytes()).await;
        sent.expect("it reads");
    }
    f64::from(answered) / began.elapsed().as_secs_f64()
}
