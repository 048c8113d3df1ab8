//! The calls of the scripted model: every tool of each server.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// One call, and a part of its result.
pub(crate) struct CheckedCall {
    /// The tool's name, as the model sees it.
    pub(crate) name: String,
    pub(crate) arguments: Value,
    pub(crate) shows: &'static str,
}

/// The calls of one server's tools, in order.
pub(crate) type ServerPlan = Vec<CheckedCall>;

/// An image of one pixel.
pub(crate) const PNG: &[u8] = &[
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 0x0d, 0x49, 0x48, 0x44, 0x52, 0, 0, 0,
    1, 0, 0, 0, 1, 8, 4, 0, 0, 0, 0xb5, 0x1c, 0x0c, 2, 0, 0, 0, 0x0b, 0x49, 0x44, 0x41, 0x54, 0x78,
    0xda, 0x63, 0x64, 0x60, 0, 0, 0, 6, 0, 2, 0x30, 0x81, 0xd0, 0x2f, 0, 0, 0, 0, 0x49, 0x45, 0x4e,
    0x44, 0xae, 0x42, 0x60, 0x82,
];

/// Returns the plans, by the servers' names.
pub(crate) fn plans(repo: &str) -> BTreeMap<&'static str, ServerPlan> {
    let plans: [(&str, CallList); 8] = [
        ("everything", everything()),
        ("files", files()),
        ("memory", memory()),
        ("thinking", thinking()),
        ("time", time()),
        ("git", git(repo)),
        ("sqlite", sqlite()),
        ("fetch", fetch()),
    ];
    plans
        .into_iter()
        .map(|(server, calls)| {
            let calls = calls
                .into_iter()
                .map(|(tool, arguments, shows)| CheckedCall {
                    name: format!("{server}__{tool}"),
                    arguments,
                    shows,
                });
            (server, calls.collect())
        })
        .collect()
}

/// Tools, their arguments, and parts of their results.
type CallList = Vec<(&'static str, Value, &'static str)>;

fn everything() -> CallList {
    vec![
        ("echo", json!({"message": "hi"}), "Echo: hi"),
        (
            "get-annotated-message",
            json!({"messageType": "error", "includeImage": true}),
            "Error",
        ),
        ("get-env", json!({}), "PATH"),
        ("get-resource-links", json!({"count": 2}), "resource"),
        (
            "get-resource-reference",
            json!({"resourceType": "Text", "resourceId": 1}),
            "resource",
        ),
        (
            "get-structured-content",
            json!({"location": "New York"}),
            "temperature",
        ),
        ("get-sum", json!({"a": 2, "b": 3}), "5"),
        ("get-tiny-image", json!({}), "image/png"),
        (
            "gzip-file-as-resource",
            json!({"name": "x.gz", "data": "data:text/plain,hello", "outputType": "resource"}),
            "gzip",
        ),
        ("toggle-simulated-logging", json!({}), "logging"),
        ("toggle-subscriber-updates", json!({}), "updates"),
        (
            "trigger-long-running-operation",
            json!({"duration": 1, "steps": 2}),
            "completed",
        ),
    ]
}

fn files() -> CallList {
    let edit = json!([{"oldText": "two", "newText": "three"}]);
    vec![
        (
            "write_file",
            json!({"path": "a.txt", "content": "one\ntwo\n"}),
            "Successfully wrote",
        ),
        (
            "create_directory",
            json!({"path": "sub"}),
            "Successfully created",
        ),
        ("read_file", json!({"path": "a.txt"}), "two"),
        ("read_text_file", json!({"path": "a.txt", "head": 1}), "one"),
        ("read_media_file", json!({"path": "dot.png"}), "image/png"),
        (
            "edit_file",
            json!({"path": "a.txt", "edits": edit}),
            "+three",
        ),
        ("read_multiple_files", json!({"paths": ["a.txt"]}), "three"),
        ("list_directory", json!({"path": "."}), "[DIR] sub"),
        ("list_directory_with_sizes", json!({"path": "."}), "a.txt"),
        ("directory_tree", json!({"path": "."}), "directory"),
        (
            "move_file",
            json!({"source": "a.txt", "destination": "sub/a.txt"}),
            "Successfully moved",
        ),
        (
            "search_files",
            json!({"path": ".", "pattern": "**/*.txt"}),
            "sub/a.txt",
        ),
        ("get_file_info", json!({"path": "sub/a.txt"}), "size"),
        ("list_allowed_directories", json!({}), "files"),
    ]
}

fn memory() -> CallList {
    let entity =
        |name: &str| json!({"name": name, "entityType": "person", "observations": ["is kind"]});
    let relation = json!([{"from": "Ada", "to": "Bob", "relationType": "knows"}]);
    let observed = json!([{"entityName": "Ada", "contents": ["likes tea"]}]);
    let deleted = json!([{"entityName": "Ada", "observations": ["is kind"]}]);
    vec![
        (
            "create_entities",
            json!({"entities": [entity("Ada"), entity("Bob")]}),
            "Bob",
        ),
        ("create_relations", json!({"relations": relation}), "knows"),
        (
            "add_observations",
            json!({"observations": observed}),
            "likes tea",
        ),
        (
            "delete_observations",
            json!({"deletions": deleted}),
            "deleted",
        ),
        ("search_nodes", json!({"query": "tea"}), "Ada"),
        ("open_nodes", json!({"names": ["Bob"]}), "is kind"),
        (
            "delete_relations",
            json!({"relations": relation}),
            "deleted",
        ),
        (
            "delete_entities",
            json!({"entityNames": ["Bob"]}),
            "deleted",
        ),
        ("read_graph", json!({}), "likes tea"),
    ]
}

fn thinking() -> CallList {
    let thought = json!({
        "thought": "It holds.", "nextThoughtNeeded": false, "thoughtNumber": 1, "totalThoughts": 1,
    });
    vec![("sequentialthinking", thought, "thoughtHistoryLength")]
}

fn time() -> CallList {
    let noon =
        json!({"source_timezone": "Etc/UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"});
    vec![
        (
            "get_current_time",
            json!({"timezone": "Etc/UTC"}),
            "Etc/UTC",
        ),
        ("convert_time", noon, "21:00"),
    ]
}

fn git(repo: &str) -> CallList {
    let at = |more: Value| {
        let mut arguments = more;
        arguments["repo_path"] = repo.into();
        arguments
    };
    vec![
        ("git_status", at(json!({})), "new.txt"),
        ("git_add", at(json!({"files": ["new.txt"]})), "staged"),
        ("git_diff_staged", at(json!({})), "+new"),
        ("git_reset", at(json!({})), "reset"),
        ("git_add", at(json!({"files": ["new.txt"]})), "staged"),
        ("git_commit", at(json!({"message": "second"})), "committed"),
        ("git_log", at(json!({"max_count": 2})), "second"),
        ("git_show", at(json!({"revision": "HEAD"})), "+new"),
        (
            "git_create_branch",
            at(json!({"branch_name": "side"})),
            "side",
        ),
        ("git_branch", at(json!({"branch_type": "local"})), "side"),
        ("git_checkout", at(json!({"branch_name": "side"})), "side"),
        ("git_diff", at(json!({"target": "main"})), "main"),
        ("git_diff_unstaged", at(json!({})), "nstaged"),
    ]
}

fn sqlite() -> CallList {
    let query = |text: &str| json!({ "query": text });
    vec![
        (
            "create_table",
            query("CREATE TABLE t (n INTEGER)"),
            "created",
        ),
        ("write_query", query("INSERT INTO t VALUES (42)"), "1"),
        ("read_query", query("SELECT n FROM t"), "42"),
        ("list_tables", json!({}), "t"),
        ("describe_table", json!({"table_name": "t"}), "INTEGER"),
        ("append_insight", json!({"insight": "It is 42."}), "added"),
    ]
}

fn fetch() -> CallList {
    // The server fetches no address of this machine, and the test has no other.
    vec![(
        "fetch",
        json!({"url": "http://127.0.0.1:1/"}),
        "The tool reports an error",
    )]
}
