//! Text for humans: durations, sizes and counts.

use crate::domain::{TRUNCATED, UnixMillis};
use crate::plain_text::inline;

/// Returns the text for humans of a plugin's custom event, if it is a known one.
pub(crate) fn meaning(event: &str) -> Option<&'static str> {
    (event == TRUNCATED).then_some("cut at the token limit; say \"go on\"")
}

/// Returns text on one line, with escapes in place of hidden characters, cut to at most `max` characters with an ellipsis.
pub(crate) fn brief(text: &str, max: usize) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut words = inline(&words).into_owned();
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

/// Formats a count with its noun: `1 session`, `1,000 sessions`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {what}{plural}", grouped(count))
}

/// Formats a number in groups of three digits: `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn numbers_can_be_read() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(counted(1, "turn"), "1 turn");
        assert_eq!(counted(0, "turn"), "0 turns");
    }
}
