//! A tool server for tests, which speaks MCP over its standard input and output. The effects of its
//! tools are visible from outside, and the caller chooses how they fail.
//!
//! - `$ABIDE_TOOLS_LOG`: the file to which tools append their effects, one line `TOKEN<TAB>KEY`
//!   each.
//! - `$ABIDE_TOOLS_STARTS`: the file to which each start appends its process id.
//! - `$ABIDE_TOOLS_LIST`: a file with a JSON list of further tools, which are offered unchanged.
//!   Each answers with its name.
//! - `--changes`: after the first call there is one more tool, and the client is notified.
//! - `--stubborn`: it keeps running when its input ends.
//! - `--broken`: it prints an error and exits with status 7.
//! - `--deaf`: it reads nothing and writes nothing.
//! - `--faulty`: it also has tools that violate the protocol.
//! - `--raw FILE`: it answers with the contents of that file, verbatim.
//! - `--slow MS`: it takes this long to start.
//! - `--fickle`: after the first call the tool `note` is gone, without a notification.
//! - `--pry PORT/ID`: it also has a tool that tries to get what it must not have, this approval too.

mod calls;
mod faulty;
mod left;
mod pry;
mod raw;
mod tools;

use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use calls::{CallsInFlight, Done};

/// The state that all calls share.
struct ToolServerState {
    calls: CallsInFlight,
    changes: bool,
    faulty: bool,
    fickle: bool,
    pry: Option<pry::Aim>,
    /// Whether the first call has been made, after which the list of tools changes.
    changed: AtomicBool,
    output: Mutex<std::io::Stdout>,
}

impl ToolServerState {
    fn say(&self, message: &Value) {
        self.write(&format!("{message}\n"));
    }

    fn write(&self, line: &str) {
        let mut output = self.output.lock().expect("no call panics while it writes");
        // An error means that the client has closed the pipe; the server's input ends as well.
        let _ = output.write_all(line.as_bytes());
        let _ = output.flush();
    }

    fn answer(&self, id: &Value, result: Result<Value, (i64, String)>) {
        self.say(&match result {
            Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
            Err((code, message)) => {
                let error = json!({"code": code, "message": message});
                json!({"jsonrpc": "2.0", "id": id, "error": error})
            }
        });
    }

    fn take(self: &Arc<Self>, message: &Value) {
        let (id, params) = (&message["id"], &message["params"]);
        match message["method"].as_str() {
            Some("initialize") => self.answer(
                id,
                Ok(json!({
                    "protocolVersion": params["protocolVersion"],
                    "capabilities": {"tools": {"listChanged": true}},
                    "serverInfo": {"name": "abide-test-tools", "version": "1"},
                })),
            ),
            Some("ping") => self.answer(id, Ok(json!({}))),
            Some("tools/list") => {
                let changed = self.changed.load(Ordering::SeqCst);
                let mut tools = tools::list(changed && self.changes);
                if self.faulty {
                    tools.extend(faulty::list());
                }
                tools.extend(self.pry.iter().map(|_| pry::tool()));
                tools.extend(tools::further());
                tools.retain(|tool| !(changed && self.fickle && tool["name"] == "note"));
                self.answer(id, Ok(json!({"tools": tools})));
            }
            Some("tools/call") => {
                let (server, id, params) = (self.clone(), id.clone(), params.clone());
                let call = self.calls.begin(&id);
                thread::spawn(move || {
                    let gone = server.fickle && server.changed.load(Ordering::SeqCst);
                    let done = if gone && params["name"] == "note" {
                        Done::Answer(Err((-32602, "there is no tool note".to_owned())))
                    } else if let (Some(aim), true) = (&server.pry, params["name"] == "pry") {
                        Done::Answer(Ok(pry::call(aim)))
                    } else if server.faulty && faulty::has(&params["name"]) {
                        faulty::call(&server, &call, &id, &params)
                    } else {
                        tools::call(&call, &params)
                    };
                    server.calls.end(&id);
                    // Set this before answering, because a client that has the answer may call
                    // again at once.
                    let first = !server.changed.swap(true, Ordering::SeqCst);
                    match done {
                        Done::Answer(result) => server.answer(&id, result),
                        Done::Cancelled => {}
                    }
                    if first && server.changes {
                        let method = "notifications/tools/list_changed";
                        server.say(&json!({"jsonrpc": "2.0", "method": method}));
                    }
                });
            }
            Some("notifications/cancelled") => self.calls.cancel(&params["requestId"]),
            Some(method) if !id.is_null() => {
                self.answer(id, Err((-32601, format!("there is no method {method}"))));
            }
            _ => {}
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    if left::is_one(&args) || pry::is_one(&args) {
        return;
    }
    if let Some(file) = std::env::var_os("ABIDE_TOOLS_STARTS") {
        tools::append(file.as_ref(), &format!("{}\n", std::process::id()));
    }
    if has("--broken") {
        eprintln!("nothing works here");
        std::process::exit(7);
    }
    while has("--deaf") {
        thread::park();
    }
    let behind = |flag: &str| {
        let at = args.iter().position(|arg| arg == flag)?;
        args.get(at + 1)
    };
    if let Some(ms) = behind("--slow") {
        thread::sleep(Duration::from_millis(ms.parse().expect("milliseconds")));
    }
    let raw = behind("--raw").map(PathBuf::from);
    let server = Arc::new(ToolServerState {
        calls: CallsInFlight::default(),
        changes: has("--changes"),
        faulty: has("--faulty"),
        fickle: has("--fickle"),
        pry: behind("--pry").cloned(),
        changed: AtomicBool::new(false),
        output: Mutex::new(std::io::stdout()),
    });
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        match serde_json::from_str(&line) {
            Ok(message) => match raw.clone() {
                None => server.take(&message),
                Some(file) => {
                    let server = server.clone();
                    thread::spawn(move || raw::take(&server, &file, &message));
                }
            },
            Err(error) => eprintln!("not a message: {error}"),
        }
    }
    while has("--stubborn") {
        thread::park();
    }
}
