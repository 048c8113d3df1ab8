//! Verbatim answers from a file: a JSON object with an answer for each method, and under `call` one
//! for each tool. An answer is a text, or a list of texts and of acts between them: `{"ms": 500}`
//! waits, `{"exit": 3}` exits the server, `{"log": "a"}` logs an execution. In texts, `$ID` is the
//! request's id, `$TOKEN` its progress token, and `$E9` a byte that is not valid UTF-8. Everything
//! that the file does not mention is answered properly.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::ToolServerState;
use super::tools::{log, text};

/// Handles a message.
pub(crate) fn take(server: &ToolServerState, file: &Path, message: &Value) {
    let script = fs::read_to_string(file).expect("the test writes it");
    let script: Value = serde_json::from_str(&script).expect("the test writes JSON");
    let method = message["method"].as_str().unwrap_or_default();
    let tool = message["params"]["name"].as_str().unwrap_or_default();
    let answer = match method {
        "tools/call" => &script["call"][tool],
        _ => &script[method],
    };
    let key = message["params"]["_meta"]["abide/key"]
        .as_str()
        .unwrap_or("-");
    match answer {
        Value::Null if message["id"].is_null() => {}
        Value::Null => server.answer(&message["id"], Ok(proper(method, &script))),
        Value::Array(pieces) => {
            for piece in pieces {
                if let Some(text) = piece.as_str() {
                    write(server, message, text);
                } else if let Some(ms) = piece["ms"].as_u64() {
                    thread::sleep(Duration::from_millis(ms));
                } else if let Some(token) = piece["log"].as_str() {
                    log(token, key);
                } else if let Some(status) = piece["exit"].as_i64() {
                    std::process::exit(status as i32);
                }
            }
        }
        answer => write(server, message, answer.as_str().expect("a text")),
    }
}

fn proper(method: &str, script: &Value) -> Value {
    match method {
        "initialize" => json!({
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "raw", "version": "1"},
        }),
        "tools/list" => {
            let calls = script["call"].as_object();
            let names = calls.into_iter().flat_map(|calls| calls.keys());
            let tool = |name| json!({"name": name, "inputSchema": {"type": "object"}});
            json!({"tools": names.map(tool).collect::<Vec<_>>()})
        }
        _ => text("done"),
    }
}

fn write(server: &ToolServerState, message: &Value, text: &str) {
    let token = &message["params"]["_meta"]["progressToken"];
    let text = text.replace("$ID", &message["id"].to_string());
    let text = text.replace("$TOKEN", &token.to_string());
    let mut line = Vec::new();
    for (n, part) in text.split("$E9").enumerate() {
        if n > 0 {
            line.push(0xE9);
        }
        line.extend_from_slice(part.as_bytes());
    }
    line.push(b'\n');
    let mut output = server
        .output
        .lock()
        .expect("no call panics while it writes");
    // An error means that the client has closed the pipe; the server's input ends as well.
    let _ = output.write_all(&line);
    let _ = output.flush();
}
