//! Parses the file, lays the environment's overrides over it and checks the keys against the
//! schema. Every node keeps its place in the file or its variable.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize as _;
use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostics::{ConfigProblem, Place, may_be_secret, nearest};
use super::overrides;
use super::schema::{ConfigFile, SCHEMA, resolve};
use super::secret::Env;

/// The place of each key, by its dotted path.
#[derive(Clone, Debug)]
pub(super) struct Places {
    file: std::path::PathBuf,
    by_key: BTreeMap<String, Place>,
}

impl Places {
    /// Returns the place of `key`, or of the nearest table around it.
    pub(super) fn of(&self, key: &str) -> Place {
        let mut key = key;
        loop {
            if let Some(place) = self.by_key.get(key) {
                return place.clone();
            }
            match key.rfind('.') {
                Some(dot) => key = &key[..dot],
                None => return Place::File(self.file.clone()),
            }
        }
    }
}

/// The parsed file during the checks.
pub(super) struct Tree<'t> {
    pub(super) file: &'t Path,
    pub(super) text: &'t str,
    pub(super) root: DeTable<'t>,
    /// Variables that override keys. The nodes of the n-th variable have a one-byte span that
    /// starts n bytes behind the end of the text, which is how [`Tree::place`] recognizes them.
    pub(super) variables: Vec<(&'t str, &'t str)>,
    pub(super) problems: Vec<ConfigProblem>,
}

/// Parses the keys of `text`, with the overrides in `env`.
pub(super) fn read(
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
    /// Returns the place of the node with this span.
    pub(super) fn place(&self, span: Range<usize>) -> Place {
        match span.start.checked_sub(self.text.len() + 1) {
            Some(variable) if variable < self.variables.len() => {
                Place::Variable(self.variables[variable].0.to_owned())
            }
            _ => Place::in_text(self.file, self.text, span.start, span.end),
        }
    }

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

    fn places(&self) -> Places {
        let mut spans = Vec::new();
        collect(&self.root, "", &mut spans);
        Places {
            file: self.file.to_owned(),
            by_key: spans
                .into_iter()
                .map(|(key, span)| (key, self.place(span)))
                .collect(),
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

/// Returns the first sentence of a key's documentation.
fn description(path: &[String]) -> String {
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
fn how_to_write(path: &[String]) -> String {
    let examples = schema_of(path)
        .map(resolve)
        .and_then(|node| node.get("examples")?.as_array());
    let allowed = schema_of(path).and_then(super::reference::allowed);
    match (examples, allowed) {
        (Some(examples), _) => {
            let examples: Vec<String> = examples.iter().map(Json::to_string).collect();
            format!("write it like {}", examples.join(" or "))
        }
        (None, Some(allowed)) => format!("write one of {}", allowed.join(", ")),
        (None, None) => match super::reference::kind(schema_of(path)) {
            Some(kind) => format!("write {kind}: {}", description(path)),
            None => description(path),
        },
    }
}

/// Returns the path of the smallest node that contains `span`.
fn path_of(table: &DeTable<'_>, span: &Range<usize>) -> Option<Vec<String>> {
    fn search(
        table: &DeTable<'_>,
        span: &Range<usize>,
        path: &mut Vec<String>,
        best: &mut Option<(usize, Vec<String>)>,
    ) {
        for (key, value) in table {
            path.push(key.get_ref().to_string());
            for around in [value.span(), key.span()] {
                let fits = around.start <= span.start && span.end <= around.end;
                if fits && best.as_ref().is_none_or(|(size, _)| around.len() <= *size) {
                    *best = Some((around.len(), path.clone()));
                }
            }
            if let DeValue::Table(inner) = value.get_ref() {
                search(inner, span, path, best);
            }
            path.pop();
        }
    }
    let mut best = None;
    search(table, span, &mut Vec::new(), &mut best);
    best.map(|(_, path)| path)
}

/// Removes a node and returns its span.
fn remove(table: &mut DeTable<'_>, path: &[String]) -> Option<Range<usize>> {
    let (last, folders) = path.split_last()?;
    let value = descend(table, folders)?.remove(last.as_str())?;
    Some(value.span())
}

/// Returns the table at `path`.
pub(super) fn descend<'a, 't>(
    table: &'a mut DeTable<'t>,
    path: &[String],
) -> Option<&'a mut DeTable<'t>> {
    let mut table = table;
    for name in path {
        match table.get_mut(name.as_str())?.get_mut() {
            DeValue::Table(inner) => table = inner,
            _ => return None,
        }
    }
    Some(table)
}

fn collect(table: &DeTable<'_>, prefix: &str, spans: &mut Vec<(String, Range<usize>)>) {
    for (key, value) in table {
        let path: Cow<'_, str> = if prefix.is_empty() {
            key.get_ref().clone()
        } else {
            format!("{prefix}.{}", key.get_ref()).into()
        };
        if let DeValue::Table(inner) = value.get_ref() {
            collect(inner, &path, spans);
        }
        let span = key.span();
        spans.push((path.into_owned(), span));
    }
}
