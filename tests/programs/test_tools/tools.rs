//! The regular tools.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::calls::{CallInFlight, Done};
use super::left;

/// A sleep that is longer than any test.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// Returns all tools; one more if the list has `changed`.
pub(crate) fn list(changed: bool) -> Vec<Value> {
    let token = json!({"type": "object", "required": ["token"], "properties": {
        "token": {"type": "string"},
        "sleep_ms": {"type": "integer", "description": "before the line is written"},
        "sleep_after_ms": {"type": "integer", "description": "before the answer"},
    }});
    let any = json!({"type": "object"});
    let bytes = json!({"type": "object", "properties": {"bytes": {"type": "integer"}}});
    let mut tools = vec![
        tool("record", "Writes a line.", &token, json!({})),
        tool(
            "note",
            "Writes a line; twice does no harm.",
            &token,
            json!({"idempotentHint": true}),
        ),
        tool(
            "look",
            "Looks, and writes a line for the test's sake.",
            &token,
            json!({"readOnlyHint": true}),
        ),
        tool("fail", "Fails.", &any, json!({})),
        tool(
            "crash",
            "Ends the server in place of an answer.",
            &any,
            json!({}),
        ),
        tool("hang", "Never answers.", &any, json!({})),
        tool(
            "flood",
            "Answers at length.",
            &bytes,
            json!({"readOnlyHint": true}),
        ),
        tool("spawn", "Leaves processes behind.", &any, json!({})),
    ];
    if changed {
        tools.push(tool("extra", "Came later.", &any, json!({})));
    }
    tools
}

pub(crate) fn tool(name: &str, description: &str, schema: &Value, annotations: Value) -> Value {
    json!({
        "name": name,
        "description": description,
        "inputSchema": schema,
        "annotations": annotations,
    })
}

/// Returns the further tools of `$ABIDE_TOOLS_LIST`.
pub(crate) fn further() -> Vec<Value> {
    let file = std::env::var_os("ABIDE_TOOLS_LIST");
    let text = file.and_then(|file| fs::read_to_string(file).ok());
    // Without such a file there are no further tools.
    text.map_or_else(Vec::new, |text| {
        serde_json::from_str(&text).expect("a test writes a list")
    })
}

/// Executes a call.
pub(crate) fn call(call: &CallInFlight, params: &Value) -> Done {
    let arguments = &params["arguments"];
    let key = params["_meta"]["abide/key"].as_str().unwrap_or("-");
    let token = arguments["token"].as_str();
    let time = |name: &str| Duration::from_millis(arguments[name].as_u64().unwrap_or(0));
    let name = params["name"].as_str().unwrap_or_default();
    let answer = match (name, token) {
        ("record" | "note" | "look", Some(token)) => {
            if call.sleep(time("sleep_ms")) {
                return Done::Cancelled;
            }
            log(token, key);
            if call.sleep(time("sleep_after_ms")) {
                return Done::Cancelled;
            }
            Ok(text(&format!("recorded {token}")))
        }
        ("record" | "note" | "look", None) => Err((-32602, "a token is missing".to_owned())),
        ("fail", _) => Ok(json!({
            "content": [{"type": "text", "text": "it failed, as it was told to"}],
            "isError": true,
        })),
        ("crash", token) => {
            if arguments["after"] == true {
                log(token.unwrap_or("crash"), key);
            }
            eprintln!("crashing, as it was told to");
            std::process::exit(3);
        }
        ("hang", _) => {
            call.sleep(FOR_EVER);
            return Done::Cancelled;
        }
        ("flood", _) => {
            let bytes = arguments["bytes"].as_u64().unwrap_or(0);
            let bytes = usize::try_from(bytes).expect("a length");
            Ok(text(&"x".repeat(bytes)))
        }
        ("spawn", _) => {
            let pids = left::behind();
            Ok(json!({"structuredContent": {"pids": pids}, "content": []}))
        }
        ("extra", _) => Ok(text("extra")),
        _ if further().iter().any(|tool| tool["name"] == name) => {
            Ok(text(&format!("called {name}")))
        }
        _ => Err((-32602, format!("there is no tool {name}"))),
    };
    Done::Answer(answer)
}

pub(crate) fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

pub(crate) fn log(token: &str, key: &str) {
    if let Some(file) = std::env::var_os("ABIDE_TOOLS_LOG") {
        append(file.as_ref(), &format!("{token}\t{key}\n"));
    }
}

/// Appends in one write, and syncs: the line survives whatever is killed next.
pub(crate) fn append(file: &Path, line: &str) {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .expect("the log can be opened");
    file.write_all(line.as_bytes()).expect("the log is written");
    file.sync_all().expect("the log is synced");
}
