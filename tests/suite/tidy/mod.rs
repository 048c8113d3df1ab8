//! The rules of this repository that the compiler does not check.

mod circles;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Maximum length of a file, in lines.
const MAX_LINES: usize = 500;

/// The modules that each module of the host may use. Dependencies run one way.
const MAY_USE: &[(&str, &[&str])] = &[
    ("domain", &[]),
    // What is shown of others' text on a terminal or in the log.
    ("plain_text", &[]),
    // Waits for files, and gives up.
    ("patience", &[]),
    ("private_files", &[]),
    ("private_process", &[]),
    ("process_entry", &[]),
    ("system_user", &[]),
    (
        "config",
        &[
            "domain",
            "plain_text",
            "patience",
            "atomic_file",
            "system_user",
        ],
    ),
    ("engine", &["domain", "atomic_file", "checksummed"]),
    // Does nothing without the feature `faults`.
    ("failpoint", &[]),
    ("atomic_file", &[]),
    ("checksummed", &[]),
    ("allocator", &[]),
    // Does nothing without the feature `faults`.
    ("deliberate_bugs", &["domain"]),
    (
        "store",
        &[
            "domain",
            "failpoint",
            "deliberate_bugs",
            "allocator",
            "atomic_file",
            "checksummed",
            "private_files",
        ],
    ),
    (
        "providers",
        &[
            "domain",
            "plain_text",
            "private_files",
            "private_process",
            "process_entry",
            "system_user",
        ],
    ),
    (
        "session",
        &[
            "engine",
            "store",
            "providers",
            "domain",
            "failpoint",
            "deliberate_bugs",
        ],
    ),
    // The API's documents, written by the server and read by the command line.
    ("documents", &["domain"]),
    ("access", &["store", "domain"]),
    (
        "api",
        &["session", "access", "documents", "domain", "process_entry"],
    ),
    ("supervisor", &["plain_text", "patience"]),
    // A client, which must not know more of the daemon than any other client.
    ("loadgen", &[]),
    (
        "daemon",
        &[
            "api",
            "access",
            "documents",
            "session",
            "engine",
            "store",
            "providers",
            "config",
            "supervisor",
            "domain",
            "failpoint",
            "deliberate_bugs",
            "atomic_file",
            "checksummed",
            "allocator",
            "plain_text",
            "private_files",
            "private_process",
        ],
    ),
    (
        "cli",
        &[
            "daemon",
            "config",
            "supervisor",
            "engine",
            "loadgen",
            "documents",
            "domain",
            "plain_text",
            "private_files",
            "private_process",
        ],
    ),
];

/// Crates that only some modules may name.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("wasmparser", &["engine"]),
    ("wasmtime", &["engine"]),
    ("wasmtime_wasi", &["engine"]),
    ("libmimalloc_sys", &["allocator"]),
    ("rocksdb", &["store"]),
    ("axum", &["api"]),
    ("hyper", &["api"]),
    ("hyper_util", &["api"]),
    ("httparse", &["loadgen"]),
    ("notify", &["config"]),
    ("notify_debouncer_full", &["config"]),
    ("async_compression", &["providers"]),
    ("rmcp", &["providers"]),
    ("sse_stream", &["providers"]),
    ("landlock", &["providers"]),
    ("signal_hook", &["supervisor"]),
];

/// The names that the domain must not use: the domain decides, other modules act.
const NOT_IN_DOMAIN: &[&str] = &[
    "tokio",
    "futures",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "reqwest",
];

/// The only names that the supervisor may use.
const SUPERVISOR_USES: &[&str] = &[
    "std",
    "core",
    "rustix",
    "signal_hook",
    "crate",
    "super",
    "self",
];

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("this package lies in the workspace")
        .to_path_buf()
}

/// Returns the files of the repository that git knows, including those that are not added yet.
fn files() -> Vec<String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git is there");
    assert!(output.status.success(), "{output:?}");
    let list = String::from_utf8(output.stdout).expect("paths are plain");
    let root = root();
    list.lines()
        .filter(|path| root.join(path).is_file())
        .map(str::to_owned)
        .collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn rust_files() -> impl Iterator<Item = (String, String)> {
    files()
        .into_iter()
        .filter(|path| path.ends_with(".rs"))
        .map(|path| {
            let text = read(&path);
            (path, text)
        })
}

/// Returns the files that are compiled only for unit tests: `#[cfg(test)]` precedes their `mod`
/// line.
fn test_modules() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (path, text) in rust_files() {
        let stem = path.trim_end_matches(".rs");
        let folder = match stem.rsplit_once('/') {
            Some((folder, "mod" | "lib" | "main")) => folder,
            _ => stem,
        };
        for rest in text.split("#[cfg(test)]\nmod ").skip(1) {
            if let Some(name) = name(rest)
                && rest[name.len()..].starts_with(';')
            {
                found.insert(format!("{folder}/{name}.rs"));
                found.insert(format!("{folder}/{name}/mod.rs"));
            }
        }
    }
    found
}

/// Returns the files of the host that ship: the module that each belongs to, its path and its text.
fn host_files() -> Vec<(String, String, String)> {
    let tests = test_modules();
    let files = rust_files().filter_map(|(path, text)| {
        let inside = path.strip_prefix("host/src/")?;
        let of_tests = path.contains("/tests/") || tests.contains(&path);
        if of_tests {
            return None;
        }
        let part = inside.split(['/', '.']).next()?.to_owned();
        Some((part, path, text))
    });
    files.collect()
}

/// Returns the code of a file, without comments and without its unit test module.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or("");
    let lines = text.lines().map(|line| match line.trim_start() {
        comment if comment.starts_with("//") => "",
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the second name of every path in the code that begins with `first`. Handles `crate::{a,
/// b::c}` as well as paths in the middle of code.
fn second_names(code: &str, first: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let start = format!("{first}::");
    for (at, _) in code.match_indices(&start) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + start.len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(heads(group)),
            None => found.extend(name(rest)),
        }
    }
    found
}

fn name(text: &str) -> Option<String> {
    let name: String = text
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    (!name.is_empty()).then_some(name)
}

/// Returns the first names of a group's members; the group's opening brace is excluded.
fn heads(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut begins = true;
    let mut found = Vec::new();
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            c if begins && !c.is_whitespace() => {
                begins = false;
                found.extend(name(&group[at..]));
            }
            _ => {}
        }
    }
    found
}

/// Returns whether code names a crate or a path, as the head of a path.
fn names(code: &str, path: &str) -> bool {
    code.match_indices(path).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + path.len()..];
        let whole = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
        whole && (after.starts_with("::") || code[..at].trim_end().ends_with("use"))
    })
}

fn report(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_use_lines_reads_them() {
    let code = "use crate::domain::{Event, ids};\nuse crate::{api, store::{self, Log}};\n\
                let x = crate::engine::run(); // \n my_crate::other::x();";
    let found: Vec<_> = second_names(code, "crate").into_iter().collect();
    assert_eq!(found, ["api", "domain", "engine", "store"]);
    assert!(names("use tokio::fs;", "tokio"));
    assert!(names("tokio::spawn(x)", "tokio"));
    assert!(!names("let my_tokio::x", "tokio"));
    assert!(!names("// tokio is fine", "tokio"));
    assert_eq!(
        code.lines().count(),
        super::tidy::code(code).lines().count()
    );
}

#[test]
fn imports_run_one_way() {
    let mut wrong = Vec::new();
    for (part, path, text) in host_files() {
        if matches!(part.as_str(), "main" | "lib") {
            continue;
        }
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == part) else {
            wrong.push(format!(
                "{path}: no rule for the part `{part}`; add it to MAY_USE"
            ));
            continue;
        };
        for used in second_names(&code(&text), "crate") {
            let is_part = MAY_USE.iter().any(|(name, _)| *name == used);
            if is_part && used != part && !allowed.contains(&used.as_str()) {
                wrong.push(format!(
                    "{path}: `{part}` may not use `{used}`, only {allowed:?}"
                ));
            }
        }
    }
    report(&wrong);
}

#[test]
fn files_depend_on_each_other_one_way() {
    let files: Vec<_> = host_files()
        .into_iter()
        .map(|(_, path, text)| (path, text))
        .collect();
    let files = files.iter().filter_map(|(path, text)| {
        let inside = path.strip_prefix("host/src/")?;
        (inside != "main.rs").then_some((inside, text.as_str()))
    });
    report(&circles::circles(files));
}

#[test]
fn crates_are_named_only_where_they_belong() {
    let mut wrong = Vec::new();
    for (part, path, text) in host_files() {
        let code = code(&text);
        for (krate, parts) in ONLY_IN {
            if !parts.contains(&part.as_str()) && names(&code, krate) {
                wrong.push(format!("{path}: only {parts:?} may name `{krate}`"));
            }
        }
        if part == "domain" {
            for forbidden in NOT_IN_DOMAIN {
                if names(&code, forbidden) || code.contains("async fn") {
                    wrong.push(format!("{path}: the domain does without `{forbidden}`"));
                }
            }
        }
        if part == "supervisor" {
            for line in code.lines().filter_map(|line| {
                let line = line
                    .trim_start()
                    .strip_prefix("pub ")
                    .unwrap_or(line.trim_start());
                line.strip_prefix("use ")
            }) {
                let used = name(line).unwrap_or_default();
                // A path into a child module begins with the module's own lower-case name.
                let own = code.contains(&format!("mod {used};"));
                if !own && !SUPERVISOR_USES.contains(&used.as_str()) {
                    wrong.push(format!("{path}: the supervisor may not use `{used}`"));
                }
            }
        }
    }
    report(&wrong);
}

#[test]
fn files_are_short() {
    let long: Vec<_> = rust_files()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(path, lines)| format!("{path}: {lines} lines, at most {MAX_LINES}"))
        .collect();
    report(&long);
}

#[test]
fn the_host_does_not_unwrap() {
    let mut wrong = Vec::new();
    for (_, path, text) in host_files() {
        for (line, n) in code(&text).lines().zip(1..) {
            for forbidden in [".unwrap()", "unsafe ", "todo!(", "unimplemented!(", "dbg!("] {
                // An unavoidable use has a comment above it that says why.
                let excused = text
                    .lines()
                    .take(n - 1)
                    .skip(n.saturating_sub(8))
                    .any(|above| above.contains("SAFETY:"));
                if line.contains(forbidden) && !excused {
                    wrong.push(format!("{path}:{n}: `{forbidden}`: {}", line.trim()));
                }
            }
            if line.contains(".expect(\"\")") {
                wrong.push(format!("{path}:{n}: an expect must state its invariant"));
            }
        }
    }
    report(&wrong);
}

#[test]
fn the_top_level_is_what_it_says() {
    let visible: BTreeSet<_> = files()
        .iter()
        .filter_map(|path| path.split('/').next())
        .filter(|name| !name.starts_with('.'))
        .map(str::to_owned)
        .collect();
    let expected = [
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "Makefile",
        "README.md",
        "guest-sdk",
        "host",
        "plugins",
        "tests",
        "wit",
    ];
    assert!(visible.iter().eq(expected), "{visible:?}");
}

#[test]
fn released_contracts_do_not_change() {
    let released = [(
        "wit/v0.1.0/session.wit",
        "package abide:session@0.1.0;",
        "13e5a63fdc1a4bec94cd3401f2296190f459b76900c9408b83a44c3a1884c94f",
    )];
    for (path, package, digest) in released {
        let text = read(path);
        assert!(text.contains(package), "{path} is of another version");
        let now = abide::domain::Digest::of(text.as_bytes()).to_string();
        assert_eq!(
            now, digest,
            "{path} is released; a change makes a new version, in a new folder"
        );
    }
}
