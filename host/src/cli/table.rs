//! Tables for humans, with aligned columns.

use super::out::{Out, Tone};
use crate::plain_text::inline;

#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// Creates a cell in a tone. Hidden characters are shown as escapes.
    pub(crate) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        let text = inline(&text.into()).into_owned();
        Self { text, tone }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

/// Renders a table of aligned columns under a dim heading; the last column is not padded. An empty
/// heading is left out. `indent` spaces precede each line.
pub(crate) fn table(out: &Out, indent: usize, head: &[&str], rows: &[Vec<Cell>]) -> String {
    let head: Vec<Cell> = head
        .iter()
        .map(|name| Cell::toned(*name, Tone::Dim))
        .collect();
    let all = || {
        std::iter::once(&head)
            .filter(|head| !head.is_empty())
            .chain(rows)
    };
    let columns = all().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        all()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.text.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in all() {
        text.push_str(&" ".repeat(indent));
        let mut gap = 0;
        for (cell, width) in row.iter().zip(&widths) {
            if !cell.text.is_empty() {
                text.push_str(&" ".repeat(gap));
                text.push_str(&out.paint(cell.tone, &cell.text));
                gap = 0;
            }
            gap += width - cell.text.chars().count() + 2;
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_trails() {
        let rows = vec![
            vec!["a".into(), "1".into(), "first".into()],
            vec!["longer".into(), "".into(), "second".into()],
            vec!["b".into(), "22".into(), "".into()],
        ];
        let text = table(&Out::new(true), 2, &["id", "n", "what"], &rows);
        assert_eq!(
            text,
            "  id      n   what\n  a       1   first\n  longer      second\n  b       22\n"
        );
    }
}
