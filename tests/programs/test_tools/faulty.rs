//! Tools that do what they are asked to, once, and then answer as no tool should.

use std::time::Duration;

use serde_json::{Value, json};

use super::Server;
use super::calls::{Call, Done};
use super::tools::{log, text, tool};

/// Their names; what each does is said below.
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

/// Does one.
pub(crate) fn call(server: &Server, call: &Call, id: &Value, params: &Value) -> Done {
    let key = params["_meta"]["abide/key"].as_str().unwrap_or("-");
    let token = params["arguments"]["token"].as_str().unwrap_or_default();
    log(token, key);
    let done = json!({"jsonrpc": "2.0", "result": text("done")});
    match params["name"].as_str().unwrap_or_default() {
        "fall" => {
            eprintln!("falling, as it was told to");
            std::process::exit(3);
        }
        // More than an answer may have, in one line.
        "burst" => return Done::Answer(Ok(text(&"x".repeat(9 << 20)))),
        // Until nobody waits any more.
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
    // `stall`, and whatever has not been answered.
    call.sleep(Duration::from_secs(3600));
    Done::Cancelled
}
