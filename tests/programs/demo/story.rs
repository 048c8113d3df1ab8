//! What the demo prints: chapters, and lines with the time since the last important moment.

use std::time::Instant;

/// The widest line.
const COLUMNS: usize = 96;
const INDENT: &str = "             ";

/// The telling of it.
pub(crate) struct Story {
    since: Instant,
}

impl Story {
    /// A story that begins now.
    pub(crate) fn new() -> Self {
        Self {
            since: Instant::now(),
        }
    }

    /// Counts time from now on.
    pub(crate) fn restart_clock(&mut self) {
        self.since = Instant::now();
    }

    /// Begins a chapter.
    pub(crate) fn chapter(&self, title: &str) {
        println!("\n{title}");
    }

    /// Tells one thing.
    pub(crate) fn tell(&self, text: impl AsRef<str>) {
        let seconds = self.since.elapsed().as_secs_f64();
        print!("  {seconds:8.3} s ");
        wrap(text.as_ref());
    }

    /// Shows somebody's words.
    pub(crate) fn quote(&self, text: &str) {
        print!("{INDENT}");
        wrap(&format!("\"{text}\""));
    }
}

fn wrap(text: &str) {
    let mut column = INDENT.len();
    for word in text.split_whitespace() {
        let width = word.chars().count() + 1;
        if column + width > COLUMNS && column > INDENT.len() {
            print!("\n{INDENT}");
            column = INDENT.len();
        }
        print!(" {word}");
        column += width;
    }
    println!();
}
