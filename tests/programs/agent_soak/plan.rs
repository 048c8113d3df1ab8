//! The agent's plan: thirty steps with the tools of two servers. Executing a step twice, or not at
//! all, is visible in the files: an edit inserts a line before the last one, a move removes its
//! source.

use serde_json::{Value, json};

/// A tool call of a step, and how to find out whether it took effect.
#[derive(Clone, Debug)]
pub(crate) struct PlannedCall {
    /// The tool's name as the model sees it.
    pub(crate) tool: &'static str,
    pub(crate) arguments: Value,
    /// The check; `None` for a call without side effects, which is simply repeated.
    pub(crate) check: Option<Check>,
}

/// A read-only call, and what its result contains if another call took effect.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    pub(crate) tool: &'static str,
    pub(crate) arguments: Value,
    /// The text that the result contains after the call in question, and not before.
    pub(crate) shows: String,
}

/// The steps; each is the list of calls that the model requests in one answer.
pub(crate) type AgentPlan = Vec<Vec<PlannedCall>>;

/// Returns the plan. Its paths are relative to the only directory that the file server may access.
pub(crate) fn plan() -> AgentPlan {
    vec![
        vec![see("files__list_directory", json!({"path": "."}))],
        vec![folder("", "notes")],
        vec![folder("notes/", "daily"), folder("", "archive")],
        vec![write("notes/log.md", "# Log\n\nend\n")],
        vec![sum(2, 3)],
        vec![entry("notes/log.md", 6)],
        vec![day(1)],
        vec![echo("half a dozen files to come")],
        vec![day(2), day(3), day(4)],
        vec![entry("notes/log.md", 10)],
        vec![read("notes/log.md")],
        vec![
            entry("notes/daily/day-1.md", 12),
            entry("notes/daily/day-2.md", 12),
        ],
        vec![wait()],
        vec![entry("notes/log.md", 14)],
        vec![see("files__list_directory", json!({"path": "notes/daily"}))],
        vec![archive(1)],
        vec![entry("archive/day-1.md", 17)],
        vec![see(
            "everything__get-structured-content",
            json!({"location": "New York"}),
        )],
        vec![entry("notes/log.md", 19)],
        vec![
            entry("notes/daily/day-3.md", 20),
            echo("side by side"),
            sum(20, 22),
        ],
        vec![see(
            "files__read_multiple_files",
            json!({"paths": ["archive/day-1.md", "notes/daily/day-3.md"]}),
        )],
        vec![folder("archive/", "old")],
        vec![archive(2)],
        vec![entry("notes/log.md", 24)],
        vec![write(
            "archive/old/index.md",
            "# Index\n\nday-1\nday-2\nend\n",
        )],
        vec![archive(3), archive(4)],
        vec![entry("notes/log.md", 27), entry("archive/old/index.md", 27)],
        vec![wait()],
        vec![see("files__list_directory", json!({"path": "archive"}))],
        vec![read("notes/log.md"), read("archive/old/index.md")],
    ]
}

fn see(tool: &'static str, arguments: Value) -> PlannedCall {
    PlannedCall {
        tool,
        arguments,
        check: None,
    }
}

fn read(path: &str) -> PlannedCall {
    see("files__read_text_file", json!({"path": path}))
}

fn echo(message: &str) -> PlannedCall {
    see("everything__echo", json!({"message": message}))
}

fn sum(a: u32, b: u32) -> PlannedCall {
    see("everything__get-sum", json!({"a": a, "b": b}))
}

/// Returns a call that takes a second.
fn wait() -> PlannedCall {
    see(
        "everything__trigger-long-running-operation",
        json!({"duration": 1, "steps": 2}),
    )
}

fn checked_by_reading(
    tool: &'static str,
    arguments: Value,
    path: &str,
    shows: String,
) -> PlannedCall {
    let PlannedCall {
        tool: by,
        arguments: of,
        ..
    } = read(path);
    PlannedCall {
        tool,
        arguments,
        check: Some(Check {
            tool: by,
            arguments: of,
            shows,
        }),
    }
}

fn checked_by_listing(
    tool: &'static str,
    arguments: Value,
    parent: &str,
    shows: String,
) -> PlannedCall {
    PlannedCall {
        tool,
        arguments,
        check: Some(Check {
            tool: "files__list_directory",
            arguments: json!({"path": parent}),
            shows,
        }),
    }
}

fn write(path: &str, content: &str) -> PlannedCall {
    let arguments = json!({"path": path, "content": content});
    checked_by_reading("files__write_file", arguments, path, content.to_owned())
}

fn day(n: u32) -> PlannedCall {
    let text = format!("# Day {n}\n\nend\n");
    write(&format!("notes/daily/day-{n}.md"), &text)
}

/// Returns an edit that inserts a line before a file's last one.
fn entry(path: &str, n: u32) -> PlannedCall {
    let line = format!("- entry {n}\n");
    let edit = json!({"oldText": "end\n", "newText": format!("{line}end\n")});
    let arguments = json!({"path": path, "edits": [edit]});
    checked_by_reading("files__edit_file", arguments, path, line)
}

fn folder(parent: &str, name: &str) -> PlannedCall {
    let listed = match parent.trim_end_matches('/') {
        "" => ".",
        parent => parent,
    };
    checked_by_listing(
        "files__create_directory",
        json!({"path": format!("{parent}{name}")}),
        listed,
        format!("[DIR] {name}"),
    )
}

/// Returns a move of a day's file into the archive.
fn archive(n: u32) -> PlannedCall {
    let name = format!("day-{n}.md");
    checked_by_listing(
        "files__move_file",
        json!({
            "source": format!("notes/daily/{name}"),
            "destination": format!("archive/{name}"),
        }),
        "archive",
        format!("[FILE] {name}"),
    )
}
