//! Tools that execute the call once, and then answer incorrectly or not at all.

use std::time::Duration;

use serde_json::{Value, json};

use super::ToolServerState;
use super::calls::{CallInFlight, Done};
use super::tools::{log, text, tool};

/// The tools' names; [`call`] describes their faults.
const NAMES: [&str; 7] = [
    "fall",
    "stall",
    "burst",
    "chatter",
    "garbage",
    "mangle",
    "misnumber",
];

pub(crate) fn list() -> impl Iterator<Item = Value> {
    let any = json!({"type": "object"});
    NAMES
        .into_iter()
        .map(move |name| tool(name, "Fails.", &any, json!({})))
}

pub(crate) fn has(name: &Value) -> bool {
    NAMES.iter().any(|known| name == known)
}

/// Executes a call of a faulty tool.
pub(crate) fn call(
    server: &ToolServerState,
    call: &CallInFlight,
    id: &Value,
    params: &Value,
) -> Done {
    let key = params["_meta"]["abide/key"].as_str().unwrap_or("-");
    let token = params["arguments"]["token"].as_str().unwrap_or_default();
    log(token, key);
    let done = json!({"jsonrpc": "2.0", "result": text("done")});
    match params["name"].as_str().unwrap_or_default() {
        "fall" => {
            eprintln!("falling, as it was told to");
            std::process::exit(3);
        }
        // A line that is longer than an answer may be.
        "burst" => return Done::Answer(Ok(text(&"x".repeat(9 << 20)))),
        // Sends notifications until the call is cancelled.
        "chatter" => {
            let news = json!({"jsonrpc": "2.0", "method": "notifications/message",
                "params": {"level": "info", "data": "x".repeat(100)}});
            let line = format!("{news}\n");
            while !call.sleep(Duration::ZERO) {
                server.write(&line);
            }
        }
        "garbage" => {
            let line = format!("{}\n", "DEBUG: no JSON at all, {\"id\": 1 ".repeat(10));
            while !call.sleep(Duration::ZERO) {
                server.write(&line);
            }
        }
        "mangle" => server.write(&format!("{{\"jsonrpc\": \"2.0\", \"id\": {id}, nonsense\n")),
        "misnumber" => {
            let mut done = done;
            done["id"] = json!(4711);
            server.say(&done);
        }
        _ => {}
    }
    // `stall`, and every tool above that has sent no valid answer.
    call.sleep(Duration::from_secs(3600));
    Done::Cancelled
}
