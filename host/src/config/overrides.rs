//! Overrides keys with environment variables: `ABIDE_DAEMON__LISTEN` sets `daemon.listen`.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostics::{ConfigProblem, nearest};
use super::document::{Tree, descend};
use super::json_schema::{SCHEMA, resolve, takes_text};
use super::place::Place;
use super::secret::Env;

const PREFIX: &str = "ABIDE_";

/// Variables with our prefix that are not keys: the command line reads these four; those with the
/// prefix below pass things from the supervisor to its worker.
const RESERVED: [&str; 4] = ["ABIDE_CONFIG", "ABIDE_LOG", "ABIDE_TOKEN", "ABIDE_URL"];
const RESERVED_PREFIX: &str = "ABIDE_SUPERVISOR_";

/// Lays the variables of `env` over the keys of the file. A value is a text, or TOML if the key
/// takes no text.
pub(super) fn lay_over<'t>(tree: &mut Tree<'t>, env: &'t Env) {
    let secrets = named_variables(&tree.root);
    for (name, value) in env {
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        if is_reserved(name) || secrets.iter().any(|secret| secret == name) {
            continue;
        }
        let found = if rest.contains("__") {
            key_path(&tree.root, rest)
        } else {
            match misspelt(rest) {
                Some(remedy) => Err((format!("`{name}` is not read"), remedy)),
                None => continue,
            }
        };
        match found {
            Ok(path) => {
                tree.variables.push((name, value));
                let at = tree.text.len() + tree.variables.len();
                let value = DeValue::String(Cow::Borrowed(value.as_str()));
                if !put(&mut tree.root, &path, value, at..at + 1) {
                    tree.problems.push(ConfigProblem {
                        key: path.join("."),
                        place: Place::Variable(name.clone()),
                        reason: "the file holds something else than a table here".to_owned(),
                        remedy: "correct the file, or unset the variable".to_owned(),
                    });
                }
            }
            Err((reason, remedy)) => tree.problems.push(ConfigProblem {
                key: String::new(),
                place: Place::Variable(name.clone()),
                reason,
                remedy,
            }),
        }
    }
}

/// If the text of a variable did not fit its key, parses it as TOML: a number, a boolean, a list.
/// Returns whether the value was replaced and is worth another try.
pub(super) fn reread(tree: &mut Tree<'_>, path: &[String]) -> bool {
    let Some((last, folders)) = path.split_last() else {
        return false;
    };
    let behind = tree.text.len() + 1;
    let Some(value) =
        descend(&mut tree.root, folders).and_then(|table| table.get_mut(last.as_str()))
    else {
        return false;
    };
    let span = value.span();
    let text = span
        .start
        .checked_sub(behind)
        .and_then(|variable| tree.variables.get(variable));
    let (Some((_, text)), DeValue::String(_)) = (text, value.get_ref()) else {
        return false;
    };
    let Ok(parsed) = DeValue::parse(text) else {
        return false;
    };
    let parsed = match parsed.into_inner() {
        DeValue::String(_) | DeValue::Table(_) => return false,
        DeValue::Array(items) => DeValue::Array(
            items
                .into_iter()
                .map(|item| Spanned::new(span.clone(), item.into_inner()))
                .collect(),
        ),
        scalar => scalar,
    };
    *value = Spanned::new(span, parsed);
    true
}

fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name) || name.starts_with(RESERVED_PREFIX)
}

/// Returns the variables that the file names as holders of secrets: their names may start with our
/// prefix.
fn named_variables(table: &DeTable<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for (key, value) in table {
        match value.get_ref() {
            DeValue::String(name) if key.get_ref().ends_with("_env") || key.get_ref() == "env" => {
                names.push(name.to_string())
            }
            DeValue::Table(inner) if key.get_ref() == "env" => names.extend(
                inner
                    .values()
                    .filter_map(|name| name.get_ref().as_str().map(str::to_owned)),
            ),
            DeValue::Table(inner) => names.extend(named_variables(inner)),
            _ => {}
        }
    }
    names
}

/// Returns the key that `DAEMON__LISTEN` stands for, or the reason why it stands for none and the
/// remedy.
fn key_path(root: &DeTable<'_>, rest: &str) -> Result<Vec<String>, (String, String)> {
    let mut path: Vec<String> = Vec::new();
    let mut node: &Json = &SCHEMA;
    let mut table = Some(root);
    for segment in rest.split("__") {
        let lower = segment.to_ascii_lowercase();
        let known = resolve(node);
        let name = if let Some(keys) = known.get("properties").and_then(Json::as_object) {
            let Some(child) = keys.get(&lower) else {
                let remedy = match nearest(&lower, keys.keys().map(String::as_str)) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => "unset it".to_owned(),
                };
                return Err((
                    format!("it names no key: `{lower}` is unknown{}", within(&path)),
                    remedy,
                ));
            };
            node = child;
            lower
        } else if let Some(child) = known
            .get("additionalProperties")
            .filter(|one| one.is_object())
        {
            node = child;
            let written = table.and_then(|table| {
                let mut names = table.keys().map(|key| key.get_ref());
                names.find(|name| name.replace('-', "_").eq_ignore_ascii_case(segment))
            });
            match written {
                Some(name) => name.to_string(),
                // Table names are in lower case unless the file has them otherwise; the names in a
                // table of variables belong to the server and stay as they are.
                None if is_table(child) => lower,
                None => segment.to_owned(),
            }
        } else {
            return Err((
                format!("it names no key: `{}` holds no others", path.join(".")),
                "unset it".to_owned(),
            ));
        };
        table = table.and_then(|table| table.get(name.as_str())?.get_ref().as_table());
        path.push(name);
    }
    if is_table(node) {
        return Err((
            format!("[{}] is a table", path.join(".")),
            "name one of its keys after two more underscores".to_owned(),
        ));
    }
    Ok(path)
}

fn within(path: &[String]) -> String {
    if path.is_empty() {
        String::new()
    } else {
        format!(" in [{}]", path.join("."))
    }
}

fn is_table(node: &Json) -> bool {
    if takes_text(node) {
        return false;
    }
    let node = resolve(node);
    node.get("properties").is_some()
        || node
            .get("additionalProperties")
            .is_some_and(|each| each.is_object())
}

/// Returns the remedy for a variable that would be a key with two underscores in place of one.
fn misspelt(rest: &str) -> Option<String> {
    // Kubernetes sets these for services named `abide-…`.
    let is_service = rest.ends_with("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || rest.ends_with("_PORT")
        || rest.contains("_PORT_");
    if is_service {
        return None;
    }
    let (section, key) = rest.split_once('_')?;
    let sections = SCHEMA.get("properties")?.as_object()?;
    sections
        .contains_key(&section.to_ascii_lowercase())
        .then(|| format!("write {PREFIX}{section}__{key}, with two underscores"))
}

/// Inserts a value at `path`, creating the tables around it. Returns `false` if one of those is not
/// a table.
fn put<'t>(
    table: &mut DeTable<'t>,
    path: &[String],
    value: DeValue<'t>,
    span: Range<usize>,
) -> bool {
    let Some((first, rest)) = path.split_first() else {
        return false;
    };
    let key = Spanned::new(span.clone(), Cow::Owned(first.clone()));
    if rest.is_empty() {
        // The place is stored with the key, so the key is replaced together with the value.
        table.remove(first.as_str());
        table.insert(key, Spanned::new(span, value));
        return true;
    }
    if !table.contains_key(first.as_str()) {
        let empty = DeValue::Table(DeTable::new());
        table.insert(key, Spanned::new(span.clone(), empty));
    }
    match table.get_mut(first.as_str()).map(Spanned::get_mut) {
        Some(DeValue::Table(inner)) => put(inner, rest, value, span),
        _ => false,
    }
}
