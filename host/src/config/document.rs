//! The TOML document of the file while its keys are parsed. Every node keeps its place in the file,
//! or the variable that overrides it.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::diagnostics::ConfigProblem;
use super::place::{Place, Places};

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

    /// Returns the places of all keys.
    pub(super) fn places(&self) -> Places {
        let mut spans = Vec::new();
        collect(&self.root, "", &mut spans);
        let by_key = spans.into_iter().map(|(key, span)| (key, self.place(span)));
        Places::new(self.file.to_owned(), by_key.collect())
    }
}

/// Returns the path of the smallest node that contains `span`.
pub(super) fn path_of(table: &DeTable<'_>, span: &Range<usize>) -> Option<Vec<String>> {
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
pub(super) fn remove(table: &mut DeTable<'_>, path: &[String]) -> Option<Range<usize>> {
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
