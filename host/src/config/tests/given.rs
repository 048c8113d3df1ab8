//! Tests of values that may be secrets: literal, or named by a variable or a file.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::super::{ChangeClass, Given, PlanClass, Transport, plan};
use super::bad_input::refused;
use super::{Folder, parsed, with_echo};

fn llm(lines: &str) -> String {
    with_echo(&format!(
        "[llm.a]\nbase_url = \"http://x/v1\"\nmodel = \"m\"\n{lines}"
    ))
}

#[test]
fn headers_query_and_body_are_read() {
    let folder = Folder::new();
    std::fs::write(folder.path().join("token"), "t0ken\n").expect("writes");
    let text = llm(
        "query = { api-version = \"2024\", key = { env = \"MY_KEY\" } }\n\
         body = { reasoning_effort = \"low\", provider = { order = [\"a\"] }, logprobs = false }\n\
         user_agent = \"me/1\"\ntools_max = 7\nimages = false\n\
         [llm.a.headers]\nX-Plain = \"plain\"\nX-Same = { value = \"plain\" }\n\
         X-Key = { env = \"MY_KEY\" }\nX-Token = { file = \"token\" }\n",
    );
    let config = folder
        .validate(&text, &[("MY_KEY", "s3cr3t")])
        .expect("loads");
    let a = &config.llm["a"];
    assert_eq!(a.headers["X-Plain"], a.headers["X-Same"]);
    assert_eq!(a.headers["X-Key"], a.query["key"]);
    assert_eq!(a.body["provider"]["order"][0], "a");
    assert_eq!((a.tools_max, a.images), (7, false));
    assert!(config.files().contains(&folder.path().join("token")));
    let shown = format!("{a:?}");
    assert!(
        !shown.contains("plain") && !shown.contains("2024"),
        "{shown}"
    );
}

#[test]
fn what_cannot_be_sent_is_named() {
    refused(
        &llm("headers = { X-Key = { env = \"NOT_SET\" } }"),
        &["llm.a.headers.X-Key: environment variable `NOT_SET` is not set"],
    );
    refused(
        &llm("headers = { X-Key = { env = \"A\", file = \"b\" } }"),
        &[
            "llm.a.headers.X-Key",
            "keep one of `value`, `env` and `file`",
        ],
    );
    refused(
        &llm("headers = { X-Key = { envv = \"A\" } }"),
        &["unknown key `envv`", "did you mean `env`?"],
    );
    refused(
        &llm("headers = { X-Key = 7 }"),
        &["abide.toml:4:21: llm.a.headers.X-Key"],
    );
    refused(
        &llm("headers = { \"X Key\" = \"a\" }"),
        &["this is not the name of a header"],
    );
    refused(
        &llm("headers = { X-Key = \"a\\nb\" }"),
        &["this value cannot stand in a header"],
    );
    refused(
        &llm("headers = { x-key = \"a\", X-Key = \"b\" }"),
        &["this header is given twice"],
    );
    refused(
        &llm("headers = { Content-Type = \"a\" }"),
        &["Abide sends this header itself"],
    );
    refused(
        &llm("api_key_env = \"K\"\nheaders = { authorization = \"Basic x\" }"),
        &["the API key is sent in this header already"],
    );
    refused(
        &llm("body = { messages = [] }"),
        &["llm.a.body.messages: Abide makes this field of a request itself"],
    );
    refused(
        &llm("body = { since = 2026-01-01 }"),
        &["llm.a.body.since: JSON has no dates"],
    );
}

#[test]
fn a_change_is_hot_and_shows_no_value() {
    let old = parsed(&llm(
        "headers = { X-A = \"one1\", X-B = { env = \"B_ONE\" } }\nbody = { a = \"one1\" }",
    ));
    let new = parsed(&llm(
        "headers = { X-A = \"two2\", X-B = { env = \"B_TWO\" }, X-C = \"two2\" }\nbody = { a = \"two2\" }",
    ));
    let plan = plan(&old, &new, &BTreeSet::new());
    assert_eq!(plan.verdict, PlanClass::Hot);
    let keys: Vec<&str> = plan.changes.iter().map(|one| one.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "llm.a.headers.X-A",
            "llm.a.headers.X-B",
            "llm.a.headers.X-C",
            "llm.a.body.a"
        ]
    );
    let shown = format!("{plan:?} {}", plan.summary());
    assert!(
        !shown.contains("one1") && !shown.contains("two2"),
        "{shown}"
    );
    assert!(shown.contains("B_TWO"), "{shown}");
}

#[test]
fn new_bytes_in_a_header_s_file_are_a_change() {
    let config = parsed(&llm("headers = { X-A = { file = \"token\" } }"));
    let changed = BTreeSet::from([PathBuf::from("/etc/abide/token")]);
    let plan = plan(&config, &config, &changed);
    let changes: Vec<_> = plan
        .changes
        .iter()
        .map(|one| (one.key.as_str(), one.class))
        .collect();
    assert_eq!(changes, [("llm.a.headers.X-A", ChangeClass::Hot)]);
}

#[test]
fn the_environment_may_give_a_header() {
    let env = super::environment(&[("ABIDE_LLM__A__HEADERS__X_TITLE", "hello")]);
    let text = llm("headers = { X-Title = \"other\" }");
    let file = std::path::Path::new("/a/abide.toml");
    let config = super::Config::parse(text.as_bytes(), file, &env).expect("parses");
    let Given::Value(value) = &config.llm["a"].headers["X-Title"] else {
        panic!("a value");
    };
    assert_eq!(value.expose(), "hello");
}

fn mcp(lines: &str) -> String {
    with_echo(&format!("[mcp.t]\n{lines}"))
}

#[test]
fn a_tool_server_is_given_headers_or_an_environment() {
    let folder = Folder::new();
    std::fs::write(folder.path().join("token"), "t0ken\n").expect("writes");
    let env = [("MY_KEY", "s3cr3t")];
    let url = mcp("url = \"http://x/mcp\"\nimages = \"256KiB\"\n\
         headers = { X-Key = { env = \"MY_KEY\" }, X-Tenant = \"acme\", Authorization = { file = \"token\" } }");
    let config = folder.validate(&url, &env).expect("loads");
    let server = &config.mcp["t"];
    assert_eq!(server.image_bytes, 256 << 10);
    let Transport::Http { headers, .. } = &server.transport else {
        panic!("{server:?}");
    };
    assert_eq!(headers.len(), 3);
    assert!(config.files().contains(&folder.path().join("token")));
    assert!(!format!("{server:?}").contains("acme"), "{server:?}");

    let command = mcp(
        "command = [\"x\"]\nenv = { A = \"MY_KEY\", B = { env = \"MY_KEY\" }, \
         C = { value = \"acme\" }, D = { file = \"token\" } }",
    );
    let config = folder.validate(&command, &env).expect("loads");
    let server = &config.mcp["t"];
    let Transport::Command { env, .. } = &server.transport else {
        panic!("{server:?}");
    };
    assert_eq!((env.len(), &env["A"]), (4, &env["B"]));
    assert!(!format!("{server:?}").contains("acme"), "{server:?}");
}

#[test]
fn what_a_tool_server_cannot_be_given_is_named() {
    let url = |lines: &str| mcp(&format!("url = \"http://x/mcp\"\n{lines}"));
    for header in [
        "Mcp-Session-Id",
        "mcp-protocol-version",
        "Accept",
        "content-type",
        "Host",
    ] {
        refused(
            &url(&format!("headers = {{ {header} = \"a\" }}")),
            &[&format!(
                "mcp.t.headers.{header}: Abide sends this header itself"
            )],
        );
    }
    refused(
        &url("token_env = \"K\"\nheaders = { authorization = \"Basic x\" }"),
        &["mcp.t.headers.authorization: the bearer token is sent in this header already"],
    );
    refused(
        &url("headers = { X-Key = { env = \"NOT_SET\" } }"),
        &["mcp.t.headers.X-Key: environment variable `NOT_SET` is not set"],
    );
    refused(
        &mcp("command = [\"x\"]\nheaders = { X-Key = \"a\" }"),
        &["mcp.t.headers: headers are sent to a `url`"],
    );
    refused(
        &mcp("command = [\"x\"]\nenv = { A = { value = \"a\", file = \"b\" } }"),
        &["mcp.t.env.A"],
    );
    refused(
        &url("images = \"1TiB\""),
        &["mcp.t.images: `1024GiB` is out of range"],
    );
}

#[test]
fn a_change_of_what_a_tool_server_is_given_shows_no_value() {
    for (old, new, keys) in [
        (
            "url = \"http://x\"\nheaders = { X-A = \"one1\" }",
            "url = \"http://x\"\nheaders = { X-A = \"two2\", X-B = \"two2\" }\nimages = \"1KiB\"",
            vec!["mcp.t.headers.X-A", "mcp.t.headers.X-B", "mcp.t.images"],
        ),
        (
            "command = [\"x\"]\nenv = { A = { value = \"one1\" } }",
            "command = [\"x\"]\nenv = { A = { value = \"two2\" }, B = \"NAME\" }",
            vec!["mcp.t.env.A", "mcp.t.env.B"],
        ),
        (
            "command = [\"x\"]",
            "command = [\"x\", \"--key=two2\"]",
            vec!["mcp.t"],
        ),
    ] {
        let plan = plan(&parsed(&mcp(old)), &parsed(&mcp(new)), &BTreeSet::new());
        assert_eq!(plan.verdict, PlanClass::Hot);
        let changed: Vec<&str> = plan.changes.iter().map(|one| one.key.as_str()).collect();
        assert_eq!(changed, keys);
        let shown = format!("{plan:?} {}", plan.summary());
        assert!(
            !shown.contains("one1") && !shown.contains("two2"),
            "{shown}"
        );
    }
}
