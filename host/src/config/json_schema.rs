//! The JSON Schema of the configuration file, generated from the types that parse, and what the
//! parser and the reference look up in it.

use std::sync::LazyLock;

use serde_json::Value as Json;

use super::schema::ConfigFile;

/// The JSON Schema of the configuration file.
pub(super) static SCHEMA: LazyLock<Json> =
    LazyLock::new(|| schemars::schema_for!(ConfigFile).to_value());

/// Returns the JSON Schema of the configuration file.
pub fn json_schema() -> &'static Json {
    &SCHEMA
}

/// Returns a schema node, or the node that its references lead to.
pub(super) fn resolve(node: &Json) -> &Json {
    referred(node).map_or(node, resolve)
}

/// Returns the node that a node refers to, directly or in one of its alternatives.
fn referred(node: &Json) -> Option<&Json> {
    let reference = node.get("$ref").or_else(|| {
        let alternatives = node.get("anyOf")?.as_array()?;
        alternatives.iter().find_map(|one| one.get("$ref"))
    })?;
    SCHEMA.pointer(reference.as_str()?.strip_prefix('#')?)
}

/// Returns whether a key accepts a plain text, possibly among other types.
pub(super) fn takes_text(node: &Json) -> bool {
    let referred = referred(node).unwrap_or(node);
    let alternatives = referred.get("anyOf").and_then(|all| all.as_array());
    alternatives.is_some_and(|all| all.iter().any(|one| one["type"] == "string"))
}

/// Returns the schema's node for a key.
fn schema_of(path: &[String]) -> Option<&'static Json> {
    let mut node: &'static Json = &SCHEMA;
    for name in path {
        let table = resolve(node);
        node = table
            .get("properties")
            .and_then(|known| known.get(name))
            .or_else(|| {
                table
                    .get("additionalProperties")
                    .filter(|one| one.is_object())
            })?;
    }
    Some(node)
}

/// Returns the values that a key can take, if the schema enumerates them.
pub(super) fn allowed(node: &Json) -> Option<Vec<String>> {
    let node = resolve(node);
    if let Some(values) = node.get("enum").and_then(Json::as_array) {
        return Some(values.iter().map(Json::to_string).collect());
    }
    let values = node.get("oneOf")?.as_array()?;
    values
        .iter()
        .map(|one| Some(one.get("const")?.to_string()))
        .collect()
}

/// Describes the type of a key's value in words.
pub(super) fn kind(node: Option<&Json>) -> Option<&'static str> {
    let kind = resolve(node?).get("type")?;
    let kind = kind.as_str().or_else(|| kind.get(0)?.as_str())?;
    Some(match kind {
        "string" => "a text in quotes",
        "integer" => "a whole number from 0 on, without quotes",
        "boolean" => "true or false",
        "array" => "a list, like [\"a\", \"b\"]",
        "object" => "a table",
        _ => return None,
    })
}

/// Returns the first sentence of a key's documentation.
pub(super) fn description(path: &[String]) -> String {
    let text = schema_of(path)
        .and_then(|node| node.get("description")?.as_str())
        .unwrap_or_default()
        .replace('\n', " ");
    match text.split_once(". ") {
        Some((first, _)) => first.to_owned(),
        None => text.trim_end_matches('.').to_owned(),
    }
}

/// Returns the remedy for a value that does not fit its key: how to write it.
pub(super) fn how_to_write(path: &[String]) -> String {
    let examples = schema_of(path)
        .map(resolve)
        .and_then(|node| node.get("examples")?.as_array());
    let allowed = schema_of(path).and_then(allowed);
    match (examples, allowed) {
        (Some(examples), _) => {
            let examples: Vec<String> = examples.iter().map(Json::to_string).collect();
            format!("write it like {}", examples.join(" or "))
        }
        (None, Some(allowed)) => format!("write one of {}", allowed.join(", ")),
        (None, None) => match kind(schema_of(path)) {
            Some(kind) => format!("write {kind}: {}", description(path)),
            None => description(path),
        },
    }
}
