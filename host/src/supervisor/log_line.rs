//! One line of the log as bytes, in the two formats that a worker's log has as well.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::plain_text;

/// The format of the lines that the supervisor logs. The configuration decides it, so a worker
/// sends it; until then lines are text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineFormat {
    /// `abide: ` and the text.
    #[default]
    Text,
    /// An object with the fields that a worker's lines have: `timestamp`, `level`, `fields.message`
    /// and `target`.
    Json,
}

/// The severity of a line, which only JSON shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Warn,
    Error,
}

/// Formats a line, with its line break. Further lines of the text are indented.
pub(super) fn line(format: LineFormat, severity: Severity, at: SystemTime, text: &str) -> Vec<u8> {
    let level = match severity {
        Severity::Warn => "WARN",
        Severity::Error => "ERROR",
    };
    let line = match format {
        LineFormat::Text => format!(
            "abide: {}\n",
            plain_text::lines(text).replace('\n', "\n    ")
        ),
        LineFormat::Json => format!(
            "{{\"timestamp\":\"{}\",\"level\":\"{level}\",\"fields\":{{\"message\":{}}},\
             \"target\":\"abide::supervisor\"}}\n",
            timestamp(at),
            quoted(text)
        ),
    };
    line.into_bytes()
}

/// Returns the text as a JSON string (RFC 8259, section 7).
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            control if control < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    plain_text::json(&quoted).into_owned()
}

/// Formats a time as RFC 3339 in UTC, with microseconds. A time before 1970 is shown as 1970.
fn timestamp(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_micros()
    )
}

/// Converts days since 1970-01-01 to a date of the Gregorian calendar, by the algorithm of Howard
/// Hinnant's "chrono-Compatible Low-Level Date Algorithms" (`civil_from_days`): years begin in
/// March, so that the leap day is the last one, and 400 years always have 146,097 days.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = match month_from_march {
        0..=9 => month_from_march + 3,
        _ => month_from_march - 9,
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn times_are_dates() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (951_868_800, "2000-03-01T00:00:00.000000Z"),
            (1_798_761_599, "2026-12-31T23:59:59.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(timestamp(at(seconds)), date);
        }
    }

    #[test]
    fn a_text_cannot_be_mistaken_for_another_line() {
        let text = "worker 7 said \"a\\b\"\nand\tended";
        assert_eq!(
            line(LineFormat::Text, Severity::Warn, at(0), text),
            b"abide: worker 7 said \"a\\b\"\n    and\tended\n"
        );
        let line = line(LineFormat::Json, Severity::Error, at(0), text);
        let line = String::from_utf8(line).expect("it was made of strings");
        assert_eq!(line.matches('\n').count(), 1);
        assert!(
            line.contains(r#""message":"worker 7 said \"a\\b\"\nand\u0009ended""#),
            "{line}"
        );
    }
}
