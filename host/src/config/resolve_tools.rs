//! Resolves the tables of tool servers.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::given::{Given, GivenKey};
use super::model::{ToolServerConfig, Transport};
use super::schema::McpKeys;
use super::value_checks::Notes;
use crate::domain::Patterns;

/// The size limit of an image: no step's result can be larger.
const IMAGE_MAX_BYTES: u64 = 256 << 20;
/// Headers that Abide sets on requests to tool servers, or that belong to the connection. Headers
/// that begin with `mcp-` are reserved as well.
const TOOL_HEADERS: [&str; 10] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "host",
    "last-event-id",
    "te",
    "transfer-encoding",
    "upgrade",
];

pub(super) fn tool_server(
    notes: &mut Notes,
    name: &str,
    keys: McpKeys,
    folder: &Path,
) -> ToolServerConfig {
    let key = |last: &str| format!("mcp.{name}.{last}");
    let least = Duration::from_millis(10);
    let token = notes.secret(&key("token"), keys.token_env, keys.token_file, folder);
    let mut env = BTreeMap::new();
    for (variable, given) in keys.env {
        let key = key(&format!("env.{variable}"));
        let name = |notes: &mut Notes, name| notes.variable(&key, name).map(Given::Named);
        if let Some(given) = notes.given(&key, given, folder, name) {
            env.insert(variable, given);
        }
    }
    let headers = tool_headers(notes, name, keys.headers, folder, token.is_some());
    let mut command = keys.command.into_iter();
    let transport = match (command.next(), keys.url) {
        (Some(program), None) => {
            if program.is_empty() {
                notes.add(
                    &key("command"),
                    "the program's name is empty",
                    "name the program",
                );
            }
            if token.is_some() {
                notes.add(
                    &key("token"),
                    "a token is sent to a `url`, and this server has a `command`",
                    "pass it in `env`",
                );
            }
            if !headers.is_empty() {
                notes.add(
                    &key("headers"),
                    "headers are sent to a `url`, and this server has a `command`",
                    "remove them",
                );
            }
            Transport::Command {
                program,
                args: command.collect(),
                env,
                user: keys.user,
                sandbox: keys.sandbox,
            }
        }
        (None, Some(url)) => {
            notes.url(&key("url"), &url);
            if keys.user.is_some() {
                notes.add(
                    &key("user"),
                    "`user` is for a `command`, and this server has a `url`",
                    "remove it",
                );
            }
            if keys.sandbox {
                notes.add(
                    &key("sandbox"),
                    "`sandbox` is for a `command`, and this server has a `url`",
                    "remove it",
                );
            }
            if !env.is_empty() {
                notes.add(
                    &key("env"),
                    "`env` is for a `command`, and this server has a `url`",
                    "remove it",
                );
            }
            Transport::Http {
                url,
                token,
                headers,
            }
        }
        (program, url) => {
            let reason = if program.is_some() {
                "both `command` and `url` are given"
            } else {
                "neither `command` nor `url` is given"
            };
            notes.add(
                &format!("mcp.{name}"),
                reason,
                "give one: `command = [\"program\", \"argument\"]` or `url = \"http://…\"`",
            );
            Transport::Http {
                url: url.unwrap_or_default(),
                token,
                headers,
            }
        }
    };
    ToolServerConfig {
        transport,
        start_timeout: notes.time(&key("start_timeout"), keys.start_timeout, least),
        call_timeout: notes.time(&key("call_timeout"), keys.call_timeout, least),
        image_bytes: notes.size(&key("images"), keys.images, 0, IMAGE_MAX_BYTES),
        repeatable: Patterns(keys.repeatable),
        once: Patterns(keys.once),
        ask: Patterns(keys.ask),
        ask_timeout: notes.time(&key("ask_timeout"), keys.ask_timeout, least),
    }
}

/// Resolves the additional headers of requests to a tool server.
fn tool_headers(
    notes: &mut Notes,
    name: &str,
    keys: BTreeMap<String, GivenKey>,
    folder: &Path,
    has_token: bool,
) -> BTreeMap<String, Given> {
    let key = format!("mcp.{name}.headers");
    let is = |header: &str, own: &str| header.eq_ignore_ascii_case(own);
    let of_mcp = |header: &str| header.get(..4).is_some_and(|start| is(start, "mcp-"));
    let (of_mcp, keys): (BTreeMap<_, _>, BTreeMap<_, _>) =
        keys.into_iter().partition(|(header, _)| of_mcp(header));
    for header in of_mcp.keys() {
        notes.add(
            &format!("{key}.{header}"),
            "Abide sends this header itself",
            "remove it",
        );
    }
    let headers = notes.headers(&key, keys, folder, &TOOL_HEADERS);
    if let Some(header) = headers.keys().find(|header| is(header, "authorization"))
        && has_token
    {
        notes.add(
            &format!("{key}.{header}"),
            "the bearer token is sent in this header already",
            "keep one of them",
        );
    }
    headers
}
