//! The printed report.

use std::collections::BTreeMap;

use abide_tests::checker::{COUNTED, Verdict, ViolationKind};
use serde_json::{Value, json};

use crate::seed::SeedOutcome;

/// The number of violations that are shown per seed.
const SHOWN: usize = 8;
/// The maximum length of each shown violation, in bytes.
const SHOWN_BYTES: usize = 700;

/// The results of all seeds so far.
#[derive(Default)]
pub(crate) struct Report {
    seeds: u64,
    done: BTreeMap<&'static str, u64>,
    total: Verdict,
    failed: Vec<Value>,
}

impl Report {
    /// Adds the outcome of a seed. Returns a line about it.
    pub(crate) fn take(&mut self, outcome: SeedOutcome) -> String {
        let SeedOutcome {
            seed,
            verdict,
            done,
            took,
            folder,
        } = outcome;
        self.seeds += 1;
        let kills = kills(&done);
        for (name, many) in done {
            *self.done.entry(name).or_default() += many;
        }
        let count = |name| verdict.counts.get(name).copied().unwrap_or_default();
        let mut line = format!(
            "seed {seed}: {} in {:.1} s: {kills} kills, {} messages, {} turns, {} calls, {} events",
            match verdict.violations.len() {
                0 => "well".to_owned(),
                wrong => format!("{wrong} WRONG"),
            },
            took.as_secs_f64(),
            count("acknowledged"),
            count("turns"),
            count("calls"),
            count("events"),
        );
        if !verdict.violations.is_empty() {
            for violation in verdict.violations.iter().take(SHOWN) {
                line.push_str(&format!("\n    {}", cut(&violation.to_string())));
            }
            if let Some(folder) = &folder {
                line.push_str(&format!("\n    kept: {}", folder.display()));
            }
            self.failed.push(json!({
                "seed": seed,
                "violations": verdict.violations,
                "folder": folder,
            }));
        }
        self.total.merge(verdict);
        line
    }

    /// Returns whether nothing is wrong.
    pub(crate) fn is_clean(&self) -> bool {
        self.failed.is_empty()
    }

    /// Returns how many seeds were run.
    pub(crate) fn seeds(&self) -> u64 {
        self.seeds
    }

    /// Returns the first violation.
    pub(crate) fn first_wrong(&self) -> Option<String> {
        self.first_of(|_| true)
    }

    /// Returns the first violation of the kinds that satisfy a condition.
    pub(crate) fn first_of(&self, is_meant: impl Fn(ViolationKind) -> bool) -> Option<String> {
        let mut violations = self.total.violations.iter();
        let first = violations.find(|violation| is_meant(violation.kind))?;
        Some(cut(&first.to_string()))
    }

    /// Prints the table.
    pub(crate) fn print(&self) {
        println!("\n{:<24}{:>9}", "seeds", self.seeds);
        println!("{:<24}{:>9}", "kills", kills(&self.done));
        for (name, many) in &self.done {
            println!("{name:<24}{many:>9}");
        }
        for name in COUNTED {
            let many = self.total.counts.get(name).copied().unwrap_or_default();
            println!("{name:<24}{many:>9}");
        }
        let seeds: Vec<_> = self
            .failed
            .iter()
            .map(|it| it["seed"].to_string())
            .collect();
        match seeds.is_empty() {
            true => println!("\nnothing is wrong"),
            false => println!(
                "\n{} seeds are wrong: {}; `abide-chaos run --seeds 1 --first SEED` replays one",
                seeds.len(),
                seeds.join(" ")
            ),
        }
    }

    /// Returns the same as JSON.
    pub(crate) fn json(&self) -> Value {
        json!({
            "seeds": self.seeds,
            "kills": kills(&self.done),
            "done": self.done,
            "counts": self.total.counts,
            "failed": self.failed,
        })
    }
}

fn kills(done: &BTreeMap<&'static str, u64>) -> u64 {
    let kills = done.iter().filter(|(name, _)| name.starts_with("kills"));
    kills.map(|(_, many)| many).sum()
}

/// Shortens a text to [`SHOWN_BYTES`].
fn cut(text: &str) -> String {
    match text.len() <= SHOWN_BYTES {
        true => text.to_owned(),
        false => format!("{}...", &text[..text.floor_char_boundary(SHOWN_BYTES)]),
    }
}
