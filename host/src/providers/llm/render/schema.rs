//! Reduces the JSON Schema of a tool's arguments to what every model server accepts. Tool servers
//! write what their own validators accept, and a single schema that the model's server refuses
//! makes every request fail.
//!
//! Removing keywords only makes a schema allow more, which is safe: the tool's own server checks
//! the arguments in any case.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// How deep a schema is read. Deeper schemas allow anything.
const DEPTH_MAX: usize = 24;
/// How many schemas are inlined into the root. A limit is needed because references may be
/// circular.
const INLINED_MAX: usize = 64;
/// Keywords that choose between schemas. Servers refuse them at the root.
const ALTERNATIVES: [&str; 2] = ["anyOf", "oneOf"];
/// Keywords that servers refuse at the root. They only restrict, so they can be removed.
const ROOT_ONLY_LESS: [&str; 9] = [
    "not",
    "if",
    "then",
    "else",
    "enum",
    "const",
    "dependentSchemas",
    "dependentRequired",
    "dependencies",
];
/// Keywords that identify the schema itself. Some servers try to resolve them.
const NAMING: [&str; 7] = [
    "$schema",
    "$id",
    "id",
    "$anchor",
    "$dynamicAnchor",
    "$vocabulary",
    "$comment",
];
/// Keywords whose value is one schema.
const ONE: [&str; 8] = [
    "items",
    "additionalItems",
    "contains",
    "propertyNames",
    "not",
    "if",
    "then",
    "else",
];
/// Keywords whose value is one schema, or a boolean that is kept.
const REST: [&str; 3] = [
    "additionalProperties",
    "unevaluatedProperties",
    "unevaluatedItems",
];
/// Keywords whose value is a list of schemas, which must not be empty.
const LISTS: [&str; 4] = ["anyOf", "oneOf", "allOf", "prefixItems"];
/// Keywords whose value is an object of named schemas.
const TABLES: [&str; 5] = [
    "properties",
    "patternProperties",
    "$defs",
    "definitions",
    "dependentSchemas",
];
/// Keywords that may have any value, including `null`.
const ANY: [&str; 4] = ["default", "const", "examples", "example"];
const TYPES: [&str; 7] = [
    "object", "array", "string", "number", "integer", "boolean", "null",
];

/// Parses a schema of arguments, and reduces it to what every model server accepts.
///
/// # Errors
/// Returns the reason if it is not the schema of an object.
pub(super) fn of_arguments(text: &str) -> Result<Value, String> {
    let schema: Value = serde_json::from_str(text)
        .map_err(|error| format!("the schema of its arguments is not JSON ({error})"))?;
    let root = match schema {
        Value::Object(root) => root,
        Value::Null | Value::Bool(true) => Map::new(),
        _ => return Err("the schema of its arguments is not an object".to_owned()),
    };
    let mut left = INLINED_MAX;
    let mut root = inlined(root, &mut left);
    match root.get("type") {
        None | Some(Value::Null) => {}
        Some(Value::String(kind)) if kind == "object" => {}
        Some(Value::Array(kinds)) if kinds.iter().any(|kind| kind == "object") => {}
        Some(kind) => {
            return Err(format!(
                "its arguments are of type {kind}, and a tool's are an object"
            ));
        }
    }
    merge_alternatives(&mut root, &mut left);
    root.retain(|key, _| !ROOT_ONLY_LESS.contains(&key.as_str()));
    root.insert("type".to_owned(), "object".into());
    if !root.get("properties").is_some_and(Value::is_object) {
        root.insert("properties".to_owned(), json!({}));
    }
    let targets = Value::Object(root.clone());
    let mut root = clean(root, 0, &targets);
    only_known_required(&mut root);
    Ok(Value::Object(root))
}

/// Inlines into the root the schema that its `$ref` names and all schemas of its `allOf`. At most
/// `left` of them.
fn inlined(mut root: Map<String, Value>, left: &mut usize) -> Map<String, Value> {
    let whole = Value::Object(root.clone());
    let referred = root.remove("$ref");
    let referred = referred.as_ref().and_then(Value::as_str);
    let referred = referred.and_then(|name| target(&whole, name)).cloned();
    let all = match root.remove("allOf") {
        Some(Value::Array(all)) => all,
        _ => Vec::new(),
    };
    for part in referred.into_iter().chain(all) {
        let (Value::Object(mut part), Some(fewer)) = (part, left.checked_sub(1)) else {
            continue;
        };
        *left = fewer;
        // The definitions to which a part refers are in the root.
        for key in ["$defs", "definitions"] {
            if let Some(definitions) = root.get(key) {
                part.entry(key).or_insert_with(|| definitions.clone());
            }
        }
        add(&mut root, inlined(part, left));
    }
    root
}

/// Adds the demands of another schema that must hold too.
fn add(root: &mut Map<String, Value>, part: Map<String, Value>) {
    for (key, value) in part {
        match (root.get_mut(&key), value) {
            (Some(Value::Object(known)), Value::Object(more)) => {
                for (name, schema) in more {
                    known.entry(name).or_insert(schema);
                }
            }
            (Some(Value::Array(known)), Value::Array(more)) if key == "required" => {
                for name in more {
                    if !known.contains(&name) {
                        known.push(name);
                    }
                }
            }
            // The root's own value wins.
            (Some(_), _) => {}
            (None, value) => drop(root.insert(key, value)),
        }
    }
}

/// Merges the properties of all alternatives into the root, and requires what all of them require.
/// What the alternatives were is added to the description.
fn merge_alternatives(root: &mut Map<String, Value>, left: &mut usize) {
    for keyword in ALTERNATIVES {
        let Some(Value::Array(alternatives)) = root.remove(keyword) else {
            continue;
        };
        let whole = Value::Object(root.clone());
        let resolved = alternatives.iter().take(INLINED_MAX).filter_map(|one| {
            let one = one.as_object()?;
            let referred = one.get("$ref").and_then(Value::as_str);
            let referred = referred.and_then(|name| target(&whole, name)?.as_object());
            Some(referred.unwrap_or(one).clone())
        });
        let resolved: Vec<Map<String, Value>> = resolved.map(|one| inlined(one, left)).collect();
        let demanded: Vec<BTreeSet<String>> = resolved.iter().map(required).collect();
        let Some((first, others)) = demanded.split_first() else {
            continue;
        };
        let by_all = first
            .iter()
            .filter(|name| others.iter().all(|other| other.contains(*name)));
        let by_all: Vec<Value> = by_all.map(|name| name.as_str().into()).collect();
        let choices = demanded.iter().filter(|names| !names.is_empty());
        let choices: Vec<String> = choices.map(listed).collect();
        for mut alternative in resolved {
            alternative.retain(|key, _| key == "properties");
            add(root, alternative);
        }
        add(
            root,
            Map::from_iter([("required".to_owned(), Value::Array(by_all))]),
        );
        if choices.len() > 1 {
            let choices = format!("Give one of these: {}.", choices.join(", or "));
            let description = match root.get("description").and_then(Value::as_str) {
                Some(text) => format!("{text} {choices}"),
                None => choices,
            };
            root.insert("description".to_owned(), description.into());
        }
    }
}

fn listed(names: &BTreeSet<String>) -> String {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.join(" and ")
}

fn required(schema: &Map<String, Value>) -> BTreeSet<String> {
    let names = schema.get("required").and_then(Value::as_array);
    let names = names.into_iter().flatten().filter_map(Value::as_str);
    names.map(str::to_owned).collect()
}

/// Removes from `required` duplicates and names of properties that do not exist.
fn only_known_required(schema: &mut Map<String, Value>) {
    let known = schema.get("properties").and_then(Value::as_object);
    let known = known.cloned().unwrap_or_default();
    let Some(Value::Array(names)) = schema.get_mut("required") else {
        return;
    };
    let mut seen = BTreeSet::new();
    names.retain(|name| {
        let Some(name) = name.as_str() else {
            return false;
        };
        known.contains_key(name) && seen.insert(name.to_owned())
    });
    if names.is_empty() {
        schema.remove("required");
    }
}

/// Resolves a reference within the document.
fn target<'a>(whole: &'a Value, reference: &str) -> Option<&'a Value> {
    let pointer = reference.strip_prefix('#')?;
    whole.pointer(pointer)
}

/// Removes from a schema what servers refuse.
fn clean(schema: Map<String, Value>, depth: usize, whole: &Value) -> Map<String, Value> {
    if depth > DEPTH_MAX {
        return Map::new();
    }
    let inner = |value: Value| match value {
        Value::Object(schema) => Value::Object(clean(schema, depth + 1, whole)),
        // `true` allows anything, and so must whatever is not a schema at all.
        _ => json!({}),
    };
    let mut cleaned = Map::new();
    for (key, value) in schema {
        let name = key.as_str();
        let value = match value {
            value if ANY.contains(&name) => value,
            Value::Null => continue,
            _ if NAMING.contains(&name) => continue,
            // llama.cpp's grammars support neither `not` nor unanchored patterns.
            _ if name == "not" => continue,
            Value::String(pattern) if name == "pattern" && !is_anchored(&pattern) => continue,
            // In Draft 4, `items` may be a list with a schema for each item.
            Value::Array(_) if name == "items" => json!({}),
            value if ONE.contains(&name) => inner(value),
            value @ Value::Object(_) if REST.contains(&name) => inner(value),
            Value::Array(list) if LISTS.contains(&name) && !list.is_empty() => {
                Value::Array(list.into_iter().map(inner).collect())
            }
            Value::Object(table) if TABLES.contains(&name) => {
                let table = table
                    .into_iter()
                    .map(|(name, schema)| (name, inner(schema)));
                Value::Object(table.collect())
            }
            value => match keyword(name, value, whole) {
                Some(value) => value,
                None => continue,
            },
        };
        cleaned.insert(key, value);
    }
    one_type(&mut cleaned);
    type_of_alternatives(&mut cleaned);
    let is_array = match cleaned.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "array"),
        kind => kind.is_some_and(|kind| kind == "array"),
    };
    if is_array && !cleaned.contains_key("items") {
        cleaned.insert("items".to_owned(), json!({}));
    }
    only_known_required(&mut cleaned);
    cleaned
}

fn is_anchored(pattern: &str) -> bool {
    pattern.starts_with('^') && pattern.ends_with('$')
}

/// Moves a type beside `anyOf` into each alternative: Moonshot refuses it beside them.
fn type_of_alternatives(schema: &mut Map<String, Value>) {
    let kind = match (schema.get("type"), schema.get("anyOf")) {
        (Some(kind), Some(Value::Array(_))) => kind.clone(),
        _ => return,
    };
    schema.remove("type");
    let nullable = schema.remove("nullable");
    let Some(Value::Array(alternatives)) = schema.get_mut("anyOf") else {
        return;
    };
    for alternative in alternatives.iter_mut().filter_map(Value::as_object_mut) {
        if alternative.contains_key("$ref") {
            continue;
        }
        let is_typed = alternative.contains_key("type");
        alternative.entry("type").or_insert_with(|| kind.clone());
        if let Some(nullable) = nullable.as_ref().filter(|_| !is_typed) {
            alternative.insert("nullable".to_owned(), nullable.clone());
        }
    }
}

/// Replaces a type list of one type and `null` by that type and OpenAPI's `nullable`: Gemini's
/// servers accept only a single type.
fn one_type(schema: &mut Map<String, Value>) {
    let Some(Value::Array(kinds)) = schema.get("type") else {
        return;
    };
    let others: Vec<&Value> = kinds.iter().filter(|kind| *kind != "null").collect();
    if let [kind] = others[..] {
        let (kind, may_be_null) = (kind.clone(), kinds.len() > 1);
        schema.insert("type".to_owned(), kind);
        if may_be_null {
            schema.insert("nullable".to_owned(), true.into());
        }
    }
}

/// Returns the value of a keyword that holds no schemas, if the value is valid.
fn keyword(name: &str, value: Value, whole: &Value) -> Option<Value> {
    let is_type = |kind: &Value| kind.as_str().is_some_and(|kind| TYPES.contains(&kind));
    let fits = match (name, &value) {
        ("type", Value::Array(kinds)) => !kinds.is_empty() && kinds.iter().all(is_type),
        ("type", kind) => is_type(kind),
        ("enum", Value::Array(values)) => !values.is_empty(),
        ("required", Value::Array(_)) => true,
        (name, value) if REST.contains(&name) => value.is_boolean(),
        ("title" | "description" | "format" | "pattern", value) => value.is_string(),
        ("$ref", value) => value
            .as_str()
            .is_some_and(|name| target(whole, name).is_some()),
        (
            "enum" | "required" | "anyOf" | "oneOf" | "allOf" | "prefixItems" | "properties"
            | "patternProperties" | "$defs" | "definitions" | "dependentSchemas",
            _,
        ) => false,
        _ => true,
    };
    fits.then_some(value)
}
