//! Text for humans: tables, durations, and escaping for a terminal.

use std::borrow::Cow;

use super::out::{Out, Tone};
use crate::domain::{TRUNCATED, UnixMillis};

/// Removes control characters, except newline and tab, from text that guests, models or clients
/// wrote, so that it cannot move the cursor, set the title or overwrite what was shown.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.contains(harmful) {
        Cow::Owned(text.replace("\r\n", "\n").replace(harmful, ""))
    } else {
        Cow::Borrowed(text)
    }
}

/// Returns the text for humans of a plugin's custom event, if it is a known one.
pub(crate) fn meaning(event: &str) -> Option<&'static str> {
    (event == TRUNCATED).then_some("cut at the token limit; say \"go on\"")
}

/// Returns text on one line, cut to at most `max` characters with an ellipsis.
pub(crate) fn brief(text: &str, max: usize) -> String {
    let text = clean(text);
    let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((cut, _)) = words.char_indices().nth(max) {
        let keep = words[..cut].char_indices().last().map_or(0, |(at, _)| at);
        words.truncate(keep);
        words.push('…');
    }
    words
}

/// Formats a duration in its two largest units: `21 ms`, `3.2 s`, `4m 10s`, `2h 3m`, `5d 1h`.
pub(crate) fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{}.{} s", seconds, ms % 1000 / 100),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Formats how long ago a time was.
pub(crate) fn ago(at: UnixMillis, now: UnixMillis) -> String {
    format!("{} ago", duration(now.since(at)))
}

/// Formats a size in the largest binary unit that fits.
pub(crate) fn size(bytes: u64) -> String {
    bytesize::ByteSize::b(bytes).display().iec().to_string()
}

#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// Creates a cell in a tone.
    pub(crate) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self {
            text: text.into(),
            tone,
        }
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

    #[test]
    fn terminals_get_no_escapes() {
        assert_eq!(clean("a\x1b[2Jb\r\nc\td\u{9b}e"), "a[2Jb\nc\tde");
        assert!(matches!(clean("plain"), Cow::Borrowed("plain")));
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(brief("one  two\nthree", 80), "one two three");
        assert_eq!(brief("äöüßé", 5), "äöüßé");
        assert_eq!(brief("äöüßéx", 5), "äöüß…");
    }

    #[test]
    fn durations_read_well() {
        for (ms, expected) in [
            (21, "21 ms"),
            (3_250, "3.2 s"),
            (250_000, "4m 10s"),
            (7_400_000, "2h 3m"),
            (435_600_000, "5d 1h"),
        ] {
            assert_eq!(duration(ms), expected);
        }
    }
}
