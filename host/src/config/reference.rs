//! The reference and the JSON Schema, generated from the types that parse, and the file that `abide
//! init` writes.

use std::fmt::Write as _;

use serde_json::Value as Json;

use super::json_schema::{SCHEMA, allowed, resolve, takes_text};

/// Returns every key with its documentation and default, as an annotated configuration file.
/// Optional keys are commented out.
pub fn reference() -> String {
    let mut out = String::from(
        "# Every key of abide.toml, with its default.\n\
         # ABIDE_SECTION__KEY in the environment overrides a key: ABIDE_DAEMON__LISTEN, \
         ABIDE_PLUGINS__ECHO__LIMITS__MEMORY.\n",
    );
    table(&SCHEMA, None, &mut Vec::new(), &mut out);
    out
}

/// Writes the keys of a table, then its subtables. `defaults` come from the table around it.
fn table(node: &Json, defaults: Option<&Json>, path: &mut Vec<String>, out: &mut String) {
    let node = resolve(node);
    let defaults = defaults.or_else(|| node.get("default"));
    let Some(keys) = node.get("properties").and_then(Json::as_object) else {
        return;
    };
    let is_required = |name: &str| {
        let required = node.get("required").and_then(Json::as_array);
        required.is_some_and(|names| names.iter().any(|one| one == name))
    };
    for (name, key) in keys.iter().filter(|(_, key)| !holds_tables(key)) {
        comment(key, out);
        let default = key
            .get("default")
            .or_else(|| defaults?.get(name))
            .filter(|value| !value.is_null());
        let inner = resolve(key);
        let example = inner.get("examples").and_then(|all| all.get(0));
        // An example would read like the default of a key that may be left out.
        let example = example.filter(|_| !may_be_null(key));
        let allowed = allowed(key);
        if let Some(allowed) = allowed {
            let _ = writeln!(out, "# One of {}.", allowed.join(", "));
        }
        // Writing to a String cannot fail.
        let _ = match (default, example) {
            (Some(value), _) if value.as_object().is_none_or(|map| !map.is_empty()) => {
                writeln!(out, "# {name} = {value}")
            }
            (Some(_), _) => writeln!(out, "# {name} = {{}}"),
            (None, Some(value)) => writeln!(out, "# {name} = {value}"),
            (None, None) if is_required(name) => writeln!(out, "{name} = \"…\""),
            (None, None) => writeln!(out, "# {name} = \"…\""),
        };
    }
    for (name, key) in keys.iter().filter(|(_, key)| holds_tables(key)) {
        path.push(name.clone());
        let inner = resolve(key);
        let each = inner
            .get("additionalProperties")
            .filter(|one| one.is_object());
        if each.is_some() {
            path.push("NAME".to_owned());
        }
        out.push('\n');
        comment(key, out);
        let _ = writeln!(out, "[{}]", path.join("."));
        let inner_defaults = key.get("default").or_else(|| defaults?.get(name));
        match each {
            Some(each) => table(each, None, path, out),
            None => table(inner, inner_defaults, path, out),
        }
        if each.is_some() {
            path.pop();
        }
        path.pop();
    }
}

fn comment(node: &Json, out: &mut String) {
    let text = node
        .get("description")
        .or_else(|| resolve(node).get("description"))
        .and_then(Json::as_str);
    for line in text.unwrap_or_default().lines() {
        let _ = writeln!(out, "# {line}");
    }
}

fn may_be_null(node: &Json) -> bool {
    let kinds = node.get("anyOf").and_then(Json::as_array);
    kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind["type"] == "null"))
}

/// Returns whether a key is written as a `[table]` of its own.
fn holds_tables(node: &Json) -> bool {
    let node = resolve(node);
    let each = node.get("additionalProperties");
    node.get("properties").is_some()
        || each.is_some_and(|each| !takes_text(each) && resolve(each).get("properties").is_some())
}

/// Returns the file that `abide init` writes: small, commented, complete. `plugins` are names and
/// paths, the latter relative to the file.
pub fn starter(plugins: &[(&str, &str)]) -> String {
    let mut out = String::from(
        "# Abide's configuration. Save it, and the daemon takes it over: it checks it, lets running\n\
         # turns end, restarts, and brings every session back. `abide config check` checks it,\n\
         # `abide config reference` lists every key.\n\
         \n\
         [daemon]\n\
         listen = \"127.0.0.1:7420\"         # beyond loopback only with a token\n\
         data_dir = \"data\"\n\
         shutdown_grace_period = \"20s\"     # how long a drain waits for what is in flight\n\
         on_config_change = \"auto\"\n",
    );
    for (name, path) in plugins {
        // A JSON string is a TOML string.
        let path = Json::from(*path);
        let _ = write!(out, "\n[plugins.{name}]\npath = {path}\n");
    }
    out.push_str(
        "\n\
         # A model provider: any server that speaks OpenAI's chat completions. A plugin may use it\n\
         # once it is granted: [plugins.NAME.capabilities] llm = [\"local\"]\n\
         # [llm.local]\n\
         # base_url = \"http://127.0.0.1:8080/v1\"\n\
         # model = \"smollm2\"\n\
         # api_key_env = \"OPENAI_API_KEY\"    # the variable's name, never the key\n\
         \n\
         # A tool server: any that speaks MCP, as a program or over HTTP. A plugin may call its tools\n\
         # once they are granted: [plugins.NAME.capabilities] tools = [\"files\"]\n\
         # [mcp.files]\n\
         # command = [\"npx\", \"-y\", \"@modelcontextprotocol/server-filesystem\", \"notes\"]\n\
         # [mcp.web]\n\
         # url = \"https://tools.example/mcp\"\n\
         # token_env = \"WEB_TOKEN\"            # the variable's name, never the token\n",
    );
    out
}
