//! The schemas that OpenAI accepts for the parameters of a function.

use serde_json::Value;

/// Keywords that are forbidden at the root.
const NOT_AT_ROOT: [&str; 6] = ["anyOf", "oneOf", "allOf", "enum", "not", "$ref"];
const TYPES: [&str; 7] = [
    "object", "array", "string", "number", "integer", "boolean", "null",
];
/// Keywords whose value is one schema.
const ONE: [&str; 9] = [
    "items",
    "additionalProperties",
    "not",
    "if",
    "then",
    "else",
    "contains",
    "propertyNames",
    "unevaluatedProperties",
];
/// Keywords whose value is a list of schemas.
const LISTS: [&str; 4] = ["anyOf", "oneOf", "allOf", "prefixItems"];
/// Keywords whose value has a schema for each name.
const NAMED: [&str; 5] = [
    "properties",
    "patternProperties",
    "$defs",
    "definitions",
    "dependentSchemas",
];

/// Returns why a schema is refused, if it is.
pub(super) fn wrong(root: &Value) -> Option<String> {
    let Value::Object(keys) = root else {
        return Some(format!("{root} is not of type 'object', 'boolean'."));
    };
    if root["type"] != "object" {
        let found = root["type"].as_str().unwrap_or("None");
        return Some(format!(
            "schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{found}\"'."
        ));
    }
    if NOT_AT_ROOT.iter().any(|key| keys.contains_key(*key)) {
        return Some(
            "schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at \
             the top level."
                .to_owned(),
        );
    }
    if !keys.contains_key("properties") {
        return Some("In context=(), object schema missing properties.".to_owned());
    }
    inside(root, root, "")
}

/// Returns why a schema below the root is refused. `at` is its path.
fn inside(root: &Value, schema: &Value, at: &str) -> Option<String> {
    let keys = match schema {
        Value::Bool(_) => return None,
        Value::Object(keys) => keys,
        other => {
            return Some(format!(
                "In context=({at}), {other} is not of type 'object', 'boolean'."
            ));
        }
    };
    keywords(root, schema, at).or_else(|| {
        let mut keys = keys.iter();
        keys.find_map(|(key, value)| {
            let at = format!("{at}'{key}', ");
            if ONE.contains(&key.as_str()) {
                return inside(root, value, &at);
            }
            if LISTS.contains(&key.as_str()) {
                let Value::Array(list) = value else {
                    return Some(format!(
                        "In context=({at}), {value} is not of type 'array'."
                    ));
                };
                let mut list = list.iter().enumerate();
                return list.find_map(|(n, one)| inside(root, one, &format!("{at}'{n}', ")));
            }
            if NAMED.contains(&key.as_str()) {
                let Value::Object(named) = value else {
                    return Some(format!(
                        "In context=({at}), {value} is not of type 'object'."
                    ));
                };
                let mut named = named.iter();
                return named.find_map(|(name, one)| inside(root, one, &format!("{at}'{name}', ")));
            }
            None
        })
    })
}

/// Returns what is wrong with the keywords that contain no schemas.
fn keywords(root: &Value, schema: &Value, at: &str) -> Option<String> {
    let types: Vec<_> = match &schema["type"] {
        Value::Null if schema.get("type").is_none() => Vec::new(),
        Value::Array(types) => types.iter().collect(),
        one => vec![one],
    };
    let unknown = types
        .iter()
        .find(|found| !found.as_str().is_some_and(|name| TYPES.contains(&name)));
    if let Some(unknown) = unknown {
        return Some(format!(
            "In context=({at}), {unknown} is not valid under any of the given schemas."
        ));
    }
    if types.iter().any(|found| *found == "array") && schema.get("items").is_none() {
        return Some(format!("In context=({at}), array schema missing items."));
    }
    let is_list_of_texts = |value: &Value| {
        let list = value.as_array();
        list.is_some_and(|list| list.iter().all(Value::is_string))
    };
    for (key, sound) in [
        ("required", is_list_of_texts as fn(&Value) -> bool),
        ("enum", |value| {
            value.as_array().is_some_and(|list| !list.is_empty())
        }),
        ("description", Value::is_string),
        ("title", Value::is_string),
    ] {
        if let Some(value) = schema.get(key).filter(|value| !sound(value)) {
            return Some(format!("In context=({at}), {value} is no sound '{key}'."));
        }
    }
    let reference = schema.get("$ref")?;
    let found = reference
        .as_str()
        .and_then(|text| text.strip_prefix('#'))
        .and_then(|pointer| root.pointer(pointer));
    found.is_none().then(|| {
        format!(
            "In context=({at}), reference can only point to definitions defined at the top level \
             of the schema ({reference})."
        )
    })
}
