//! Parses how long a server asks to wait before a retry: from a header, from a field of its error
//! document, or from the prose in it. Pure.

use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde_json::Value;

/// OpenAI's servers also send this more precise header.
const RETRY_AFTER_MS: &str = "retry-after-ms";
/// Phrases that precede a delay in prose.
const BEFORE_DELAY: [&str; 9] = [
    "try again in ",
    "try again after ",
    "retry in ",
    "retry after ",
    "retry-after: ",
    "available in ",
    "wait for ",
    "wait ",
    "reset after ",
];
/// How many levels deep the document is searched.
const DEPTH_MAX: usize = 8;

/// Returns the delay in the headers, which is a number of seconds (or milliseconds) or a date.
pub(super) fn in_headers(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    if let Some(millis) = text(RETRY_AFTER_MS).and_then(|text| text.parse::<f64>().ok()) {
        return seconds(millis / 1000.0);
    }
    let text = text(RETRY_AFTER.as_str())?;
    match text.parse::<f64>() {
        Ok(number) => seconds(number),
        // A date in the past asks for no delay.
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?;
            Some(date.duration_since(now).unwrap_or_default())
        }
    }
}

/// Returns the delay in an error document.
pub(super) fn in_document(document: &Value) -> Option<Duration> {
    field(document, 0).or_else(|| words(document, 0))
}

/// Searches for a field with a delay, like Google's `retryDelay: "3s"` in one of the details.
fn field(value: &Value, depth: usize) -> Option<Duration> {
    if depth > DEPTH_MAX {
        return None;
    }
    match value {
        Value::Array(items) => items.iter().find_map(|item| field(item, depth + 1)),
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            let name = name.to_ascii_lowercase().replace(['_', '-'], "");
            match name.as_str() {
                "retrydelay" | "retryafter" | "retryafterseconds" => delay(value, 1.0),
                "retryafterms" => delay(value, 0.001),
                _ => field(value, depth + 1),
            }
        }),
        _ => None,
    }
}

fn delay(value: &Value, unit: f64) -> Option<Duration> {
    match value {
        Value::Number(number) => seconds(number.as_f64()? * unit),
        Value::String(text) => match text.trim().parse::<f64>() {
            Ok(number) => seconds(number * unit),
            Err(_) => span(text.trim()),
        },
        // The JSON form of a protobuf duration.
        value => {
            let part = |key: &str| value.get(key).and_then(Value::as_f64);
            let whole = part("seconds")?;
            seconds(whole + part("nanos").unwrap_or_default() / 1e9)
        }
    }
}

fn words(value: &Value, depth: usize) -> Option<Duration> {
    if depth > DEPTH_MAX {
        return None;
    }
    match value {
        Value::String(text) => {
            let text = text.to_ascii_lowercase();
            BEFORE_DELAY.iter().find_map(|before| {
                let (_, behind) = text.split_once(before)?;
                span(behind)
            })
        }
        Value::Array(items) => items.iter().find_map(|item| words(item, depth + 1)),
        Value::Object(fields) => fields.values().find_map(|value| words(value, depth + 1)),
        _ => None,
    }
}

/// Parses the duration at the start of a text: `1.5s`, `20 seconds`, `1m30s`, `250ms`,
/// `1 minute and 5 seconds`.
fn span(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = None;
    loop {
        let digits = rest.find(|char: char| !(char.is_ascii_digit() || char == '.'));
        let (number, behind) = rest.split_at(digits.unwrap_or(rest.len()));
        let Ok(number) = number.trim_end_matches('.').parse::<f64>() else {
            return total;
        };
        let behind = behind.trim_start();
        let letters = behind.find(|char: char| !char.is_ascii_alphabetic());
        let (unit, behind) = behind.split_at(letters.unwrap_or(behind.len()));
        let unit = match unit {
            "ms" | "msec" | "millisecond" | "milliseconds" => 0.001,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86_400.0,
            _ => return total,
        };
        let part = seconds(number * unit)?;
        let sum = total.unwrap_or(Duration::ZERO).checked_add(part)?;
        total = Some(sum);
        rest = behind.trim_start_matches([' ', ',']);
        rest = rest.strip_prefix("and ").unwrap_or(rest);
    }
}

fn seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_header_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Wed, 25 Nov 2026 12:00:00 GMT").expect("a date");
        let read = |value: &str| {
            let value = value.parse().expect("a header's value");
            in_headers(&HeaderMap::from_iter([(RETRY_AFTER, value)]), now)
        };
        let cases = [
            ("7", Some(Duration::from_secs(7))),
            ("0", Some(Duration::ZERO)),
            ("1.5", Some(Duration::from_millis(1500))),
            ("-3", None),
            ("NaN", None),
            ("1e300", None),
            ("soon", None),
            (
                "Wed, 25 Nov 2026 12:00:30 GMT",
                Some(Duration::from_secs(30)),
            ),
            ("Wed, 25 Nov 2026 11:00:00 GMT", Some(Duration::ZERO)),
        ];
        for (value, expected) in cases {
            assert_eq!(read(value), expected, "{value}");
        }
        let mut both = HeaderMap::new();
        both.insert(RETRY_AFTER, "7".parse().expect("a value"));
        both.insert(RETRY_AFTER_MS, "250".parse().expect("a value"));
        assert_eq!(in_headers(&both, now), Some(Duration::from_millis(250)));
    }

    #[test]
    fn the_document_says_it_in_a_field_or_in_words() {
        let google = |delay: Value| {
            json!([{"error": {"code": 429, "message": "quota", "details": [
                {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []},
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
            ]}}])
        };
        let says = |text: &str| json!({"error": {"message": text}});
        for (document, millis) in [
            (google(json!("3s")), Some(3000)),
            (google(json!("34.074824224s")), Some(34_074)),
            (
                google(json!({"seconds": 3, "nanos": 500_000_000})),
                Some(3500),
            ),
            (
                json!({"error": {"message": "m", "retry_after": 2}}),
                Some(2000),
            ),
            (json!({"message": "m", "retry_after_ms": "150"}), Some(150)),
            (
                json!({"error": {"metadata": {"headers": {"Retry-After": "4"}}}}),
                Some(4000),
            ),
            (
                says("Rate limit reached. Please try again in 1.5s. Visit x"),
                Some(1500),
            ),
            (says("Please try again in 20s."), Some(20_000)),
            (says("Please try again in 6m0s."), Some(360_000)),
            (says("Please try again in 1h2m3.5s"), Some(3_723_500)),
            (says("Please try again in 250ms."), Some(250)),
            (says("Please retry after 20 seconds."), Some(20_000)),
            (says("Please retry in 34.5s."), Some(34_500)),
            (says("Try again in 1 minute and 5 seconds."), Some(65_000)),
            (says("Please wait 2 seconds"), Some(2000)),
            (json!("try again in 3 seconds"), Some(3000)),
            (says("Try again in a while"), None),
            (says("Try again in 5"), None),
            (says("limit 5 requests per minute"), None),
            (says("Try again in 99999999999999999999999999h"), None),
            (json!({"error": {"retry_after": -1}}), None),
        ] {
            let read = in_document(&document).map(|delay| delay.as_millis());
            assert_eq!(read, millis, "{document}");
        }
    }

    proptest! {
        #[test]
        fn no_words_make_it_fail(text in "(try again in )?[0-9.a-z -]{0,20}") {
            in_document(&json!(text));
        }
    }
}
