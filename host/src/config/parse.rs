//! Parses the keys of the file: lays the environment's overrides over the document and checks the
//! document against the schema.

use std::ops::Range;
use std::path::Path;

use serde::Deserialize as _;
use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostics::{ConfigProblem, nearest};
use super::document::{Tree, path_of, remove};
use super::json_schema::{SCHEMA, description, how_to_write, resolve};
use super::overrides;
use super::place::{Place, Places, may_be_secret};
use super::schema::ConfigFile;
use super::secret::Env;

/// Parses the keys of `text`, with the overrides in `env`.
pub(super) fn parse_keys(
    file: &Path,
    text: &str,
    env: &Env,
) -> Result<(ConfigFile, Places), Vec<ConfigProblem>> {
    let root = DeTable::parse(text).map_err(|error| {
        let at = error.span().unwrap_or(0..0);
        vec![ConfigProblem {
            key: String::new(),
            place: Place::in_text(file, text, at.start, at.end),
            reason: format!("not valid TOML: {}", error.message().replace('\n', ", ")),
            remedy: "correct this line".to_owned(),
        }]
    })?;
    let mut tree = Tree {
        file,
        text,
        root: root.into_inner(),
        variables: Vec::new(),
        problems: Vec::new(),
    };
    overrides::lay_over(&mut tree, env);
    tree.check_names();
    let keys = tree.take_values();
    match keys {
        Some(keys) if tree.problems.is_empty() => {
            let places = tree.places();
            Ok((keys, places))
        }
        _ => Err(tree.problems),
    }
}

impl Tree<'_> {
    /// Removes keys that the schema does not know. Records a problem for each of them and for each
    /// required key that is missing.
    fn check_names(&mut self) {
        let mut found = Vec::new();
        check_table(&SCHEMA, &mut self.root, &mut Vec::new(), &mut found);
        for (key, span, reason, remedy) in found {
            let place = self.place(span);
            self.problems.push(ConfigProblem {
                key,
                place,
                reason,
                remedy,
            });
        }
    }

    /// Deserializes the values. A value that does not fit is recorded as a problem and removed, so
    /// that the remaining values are checked too.
    fn take_values(&mut self) -> Option<ConfigFile> {
        loop {
            let whole = 0..self.text.len();
            let root = Spanned::new(whole, self.root.clone());
            let error = match ConfigFile::deserialize(toml::Deserializer::from(root)) {
                Ok(keys) => return Some(keys),
                Err(error) => error,
            };
            let path = error.span().and_then(|span| path_of(&self.root, &span));
            let Some(path) = path else {
                if self.problems.is_empty() {
                    self.problems.push(ConfigProblem {
                        key: String::new(),
                        place: Place::File(self.file.to_owned()),
                        reason: error.message().to_owned(),
                        remedy: "correct it".to_owned(),
                    });
                }
                return None;
            };
            let missing = error.message().starts_with("missing field");
            if !missing && overrides::reread(self, &path) {
                continue;
            }
            let removed = remove(&mut self.root, &path)?;
            // A missing field was either reported by `check_names` already, or is a value
            // that this loop removed.
            if !missing {
                let key = path.join(".");
                let reason = if may_be_secret(&key) {
                    "this value cannot be used here".to_owned()
                } else {
                    error.message().replace('\n', ", ")
                };
                let place = self.place(removed);
                self.problems.push(ConfigProblem {
                    remedy: how_to_write(&path),
                    key,
                    place,
                    reason,
                });
            }
        }
    }
}

type TableMatch = (String, Range<usize>, String, String);

fn check_table(
    node: &Json,
    table: &mut DeTable<'_>,
    path: &mut Vec<String>,
    found: &mut Vec<TableMatch>,
) {
    let node = resolve(node);
    let known = node.get("properties").and_then(Json::as_object);
    let each = node
        .get("additionalProperties")
        .filter(|one| one.is_object());
    if known.is_none() && each.is_none() {
        return;
    }
    let mut unknown = Vec::new();
    let names: Vec<String> = table.keys().map(|key| key.get_ref().to_string()).collect();
    for name in names {
        let Some((key, value)) = table.get_key_value(name.as_str()) else {
            continue;
        };
        let span = key.span();
        let Some(child) = known.and_then(|known| known.get(&name)).or(each) else {
            let suggestion =
                known.and_then(|known| nearest(&name, known.keys().map(String::as_str)));
            let listed = known.map(|known| {
                let names: Vec<&str> = known.keys().map(String::as_str).collect();
                names.join(", ")
            });
            found.push((
                String::new(),
                span,
                format!("unknown key `{name}` in {}", table_name(path)),
                match suggestion {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("known are {}", listed.unwrap_or_default()),
                },
            ));
            unknown.push(name);
            continue;
        };
        path.push(name.clone());
        if let DeValue::Table(_) = value.get_ref() {
            let value_span = value.span();
            if let Some(value) = table.get_mut(name.as_str())
                && let DeValue::Table(inner) = value.get_mut()
            {
                check_table(child, inner, path, found);
                check_required(
                    child,
                    inner,
                    path,
                    if span.is_empty() { value_span } else { span },
                    found,
                );
            }
        }
        path.pop();
    }
    for name in unknown {
        table.remove(name.as_str());
    }
}

fn check_required(
    node: &Json,
    table: &DeTable<'_>,
    path: &[String],
    span: Range<usize>,
    found: &mut Vec<TableMatch>,
) {
    let required = resolve(node).get("required").and_then(Json::as_array);
    for name in required.into_iter().flatten().filter_map(Json::as_str) {
        if !table.contains_key(name) {
            let mut full = path.to_vec();
            full.push(name.to_owned());
            found.push((
                String::new(),
                span.clone(),
                format!("{} has no `{name}`", table_name(path)),
                format!("add `{name} = …`: {}", description(&full)),
            ));
        }
    }
}

fn table_name(path: &[String]) -> String {
    if path.is_empty() {
        "the file".to_owned()
    } else {
        format!("[{}]", path.join("."))
    }
}
