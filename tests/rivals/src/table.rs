//! The results as a Markdown table.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use crate::measure::{Extent, Figure, Figures};
use crate::servers::{Contender, Kit};
use crate::syncs::SyncCounts;
use crate::versions;

/// Returns the rows of the table: the figure, its label, and the number of decimals.
fn rows(stored: usize) -> [(Figure, String, usize); 11] {
    let row = |figure, text: &str, digits| (figure, text.to_owned(), digits);
    let kill = "`kill -9` to";
    [
        row(Figure::Turns, "turns/s, 64 connections, 1,000 sessions", 0),
        row(Figure::P50, "its p50, ms", 2),
        row(Figure::P99, "its p99, ms", 2),
        row(Figure::OneP50, "one connection, one session: p50, ms", 3),
        row(Figure::OneP99, "its p99, ms", 3),
        row(Figure::Written, "written to the disk, KiB a turn", 1),
        row(
            Figure::Memory,
            &format!("memory, idle, {stored} sessions touched, MiB"),
            0,
        ),
        row(
            Figure::FirstAnswer,
            &format!("1,000 sessions stored: {kill} the first answer, ms"),
            0,
        ),
        row(Figure::ManyAnswers, "to 100 sessions answered, ms", 0),
        row(
            Figure::FirstAnswerOfMore,
            &format!("{stored} sessions stored: {kill} the first answer, ms"),
            0,
        ),
        row(Figure::ManyAnswersOfMore, "to 100 sessions answered, ms", 0),
    ]
}

/// The figures of all rounds.
pub(crate) struct Table {
    stored: usize,
    seconds: u64,
    rounds: u32,
    turn_bytes: usize,
    versions: BTreeMap<Contender, String>,
    figures: BTreeMap<Contender, Vec<Figures>>,
}

impl Table {
    pub(crate) fn new(kit: &Kit, plan: &Extent, rounds: u32) -> Self {
        let versions = Contender::ALL.map(|kind| (kind, versions::of(kind, kit)));
        Self {
            stored: plan.stored,
            seconds: plan.load.as_secs(),
            rounds,
            turn_bytes: kit.pattern.bytes(),
            versions: versions.into(),
            figures: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, kind: Contender, figures: Figures) {
        self.figures.entry(kind).or_default().push(figures);
    }

    /// Returns an error if anything went wrong, which the table does not show.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        let wrong = self.figures.iter().flat_map(|(kind, rounds)| {
            let wrong = rounds.iter().flat_map(|figures| &figures.wrong);
            wrong.map(|wrong| format!("{}: {wrong}", kind.title()))
        });
        let wrong: Vec<_> = wrong.collect();
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(format!("something went wrong:\n{}", wrong.join("\n"))),
        }
    }

    fn values(&self, kind: Contender, figure: Figure) -> Vec<f64> {
        let rounds = self.figures.get(&kind).into_iter().flatten();
        let values = rounds.filter_map(|figures| figures.values.get(&figure).copied());
        values.collect()
    }

    /// Returns the ratios of a server's figure to Abide's, round by round.
    fn ratios(&self, kind: Contender, figure: Figure) -> Vec<f64> {
        let abide = self.values(Contender::Abide, figure);
        let theirs = self.values(kind, figure);
        theirs
            .iter()
            .zip(&abide)
            .map(|(theirs, abide)| theirs / abide)
            .collect()
    }

    fn seen(&self, kind: Contender) -> Option<SyncCounts> {
        let rounds = self.figures.get(&kind)?;
        let seen = rounds.iter().filter_map(|figures| figures.seen);
        seen.reduce(|sum, more| SyncCounts {
            turns: sum.turns + more.turns,
            synced: sum.synced + more.synced,
            syncs: sum.syncs + more.syncs,
        })
    }

    fn line(
        &self,
        f: &mut Formatter<'_>,
        head: &str,
        cell: impl Fn(Contender) -> String,
    ) -> fmt::Result {
        write!(f, "| {head} |")?;
        for kind in self.figures.keys() {
            write!(f, " {} |", cell(*kind))?;
        }
        writeln!(f)
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.line(f, "", |kind| kind.title().to_owned())?;
        self.line(f, "---", |_| "---:".to_owned())?;
        self.line(f, "version", |kind| self.versions[&kind].clone())?;
        self.line(f, "syncs before it answers", |kind| match self.seen(kind) {
            None => "not seen: needs strace".to_owned(),
            Some(SyncCounts {
                turns,
                synced,
                syncs,
            }) => {
                let answer = match synced {
                    all if all == turns => "yes",
                    0 => "no",
                    _ => "not always",
                };
                let each = syncs as f64 / turns.max(1) as f64;
                format!("{answer}: {synced} of {turns} turns; {each:.1} syncs a turn")
            }
        })?;
        for (figure, text, digits) in rows(self.stored) {
            self.line(f, &text, |kind| {
                let spread = Spread::of(self.values(kind, figure));
                let ratio = match kind {
                    Contender::Abide => String::new(),
                    _ => match Spread::of(self.ratios(kind, figure)) {
                        Some(ratio) => format!("; {}x", significant(ratio.median)),
                        None => String::new(),
                    },
                };
                spread.map_or_else(|| "-".to_owned(), |spread| spread.show(digits) + &ratio)
            })?;
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        writeln!(
            f,
            "\n{cores} cores, which servers and load share; medians of {} rounds of {} s (smallest \
             to largest), the servers in turn in each; Nx: how often Abide's figure it is, the \
             median of the rounds' ratios. Bare RocksDB writes the keys and bytes of Abide's turns \
             ({:.1} KiB each) behind Abide's HTTP server.",
            self.rounds,
            self.seconds,
            self.turn_bytes as f64 / 1024.0,
        )
    }
}

/// The minimum, median and maximum of a figure.
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        Some(Self {
            least: *values.first()?,
            median: values[values.len() / 2],
            most: *values.last()?,
        })
    }

    fn show(&self, digits: usize) -> String {
        let Self {
            least,
            median,
            most,
        } = self;
        let (least, median, most) = (
            number(*least, digits),
            number(*median, digits),
            number(*most, digits),
        );
        format!("**{median}** ({least} to {most})")
    }
}

/// Formats a number with commas between thousands.
fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, rest) = match text.split_once('.') {
        Some((whole, rest)) => (whole, format!(".{rest}")),
        None => (&text[..], String::new()),
    };
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + &rest
}

/// Formats a number with about two significant digits.
fn significant(value: f64) -> String {
    let digits = match value {
        ..0.1 => 3,
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    number(value, digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_readable() {
        assert_eq!(number(1_234_567.8, 0), "1,234,568");
        assert_eq!(number(999.96, 1), "1,000.0");
        assert_eq!(significant(0.0712), "0.071");
        let spread = Spread::of(vec![3.0, 1.0, 2000.0]).unwrap();
        assert_eq!(spread.show(0), "**3** (1 to 2,000)");
        assert!(Spread::of(Vec::new()).is_none());
    }
}
