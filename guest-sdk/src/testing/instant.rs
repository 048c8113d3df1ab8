//! Points in time, as the daemon writes them for humans: RFC 3339 in UTC, or milliseconds since the beginning
//! of 1970 for what that does not have.

use serde::de::{Deserialize, Deserializer, Error as _};

/// Reads a point in time, as milliseconds since the beginning of 1970.
pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| {
        D::Error::custom(format_args!(
            "{text:?} is no point in time such as \"2026-03-01T12:30:00.250Z\""
        ))
    })
}

fn parse(text: &str) -> Option<u64> {
    if let Some(millis) = text.strip_suffix("ms") {
        return millis.parse().ok();
    }
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (year, date) = date.split_once('-')?;
    let (month, day) = date.split_once('-')?;
    let (hour, time) = time.split_once(':')?;
    let (minute, time) = time.split_once(':')?;
    let (second, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let days = days(
        number(year, 4, 9999)?,
        number(month, 2, 12).filter(|month| *month > 0)?,
        number(day, 2, 31).filter(|day| *day > 0)?,
    )?;
    let hours = days * 24 + number(hour, 2, 23)?;
    let minutes = hours * 60 + number(minute, 2, 59)?;
    let seconds = minutes * 60 + number(second, 2, 59)?;
    Some(seconds * 1000 + millis(fraction)?)
}

/// Returns a number of exactly so many digits.
fn number(text: &str, digits: usize, most: u64) -> Option<u64> {
    // The parser of numbers would take a sign.
    let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_number)?;
    (number <= most).then_some(number)
}

/// Returns the milliseconds of a fraction of a second.
fn millis(fraction: &str) -> Option<u64> {
    let is_number = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let padded = fraction.bytes().chain(std::iter::repeat(b'0')).take(3);
    is_number.then(|| padded.fold(0, |millis, digit| millis * 10 + u64::from(digit - b'0')))
}

/// Returns the number of days from the beginning of 1970; none for an earlier year.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    // A year that begins in March ends with its leap day, and its months begin at days that a
    // straight line gives.
    let (year, month) = match month {
        1 | 2 => (year.checked_sub(1)?, month + 9),
        _ => (year, month - 3),
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    let since_year_0 = year * 365 + leap_days + (153 * month + 2) / 5 + day - 1;
    since_year_0.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn times_are_read_as_the_daemon_writes_them() {
        for (text, millis) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("1970-01-01T00:00:01Z", 1000),
            ("2000-02-29T23:59:59.999Z", 951_868_799_999),
            ("2000-03-01T00:00:00.000Z", 951_868_800_000),
            ("2026-03-01T12:30:00.250Z", 1_772_368_200_250),
            ("2026-03-01T12:30:00.2509Z", 1_772_368_200_250),
            ("2100-12-31T00:00:00.5Z", 4_133_894_400_500),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ] {
            assert_eq!(parse(text), Some(millis), "{text}");
        }
    }

    #[test]
    fn a_time_beyond_all_calendars_is_one() {
        let far = format!("{}ms", u64::MAX);
        assert_eq!(parse(&far), Some(u64::MAX));
    }

    #[test]
    fn other_texts_are_no_times() {
        for text in [
            "",
            "Z",
            "TZ",
            "now",
            "1772368200250",
            "2026-03-01",
            "2026-03-01T12:30:00.250",
            "2026-03-01T12:30:00.250+00:00",
            "2026-13-01T12:30:00.250Z",
            "2026-00-01T12:30:00.250Z",
            "2026-03-00T12:30:00.250Z",
            "2026-03-01T24:30:00.250Z",
            "2026-03-01T12:30:00.Z",
            "2026-03-01T12:30:+1.250Z",
            "2026-03-01T12:30:00.\u{663}Z",
            "1969-12-31T23:59:59.999Z",
            "0000-01-01T00:00:00.000Z",
            "99999-01-01T00:00:00.000Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
