//! The demo's output: chapters, and lines with the time since the last important moment.

use std::time::Instant;

/// The maximum width of a line.
const COLUMNS: usize = 96;
const INDENT: &str = "             ";

/// The printer of the demo's output.
pub(crate) struct Story {
    since: Instant,
}

impl Story {
    /// Creates a story whose clock starts now.
    pub(crate) fn new() -> Self {
        Self {
            since: Instant::now(),
        }
    }

    /// Restarts the clock.
    pub(crate) fn restart_clock(&mut self) {
        self.since = Instant::now();
    }

    /// Prints the title of a chapter.
    pub(crate) fn chapter(&self, title: &str) {
        println!("\n{title}");
    }

    /// Prints one line with the elapsed time.
    pub(crate) fn tell(&self, text: impl AsRef<str>) {
        let seconds = self.since.elapsed().as_secs_f64();
        print!("  {seconds:8.3} s ");
        wrap(text.as_ref());
    }

    /// Prints a quotation.
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
