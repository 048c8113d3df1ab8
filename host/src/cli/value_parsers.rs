//! The parsers of single argument values, for clap.

use crate::domain::{BadSessionId, EventId, SessionId};

const CRATE_NAME_MAX_BYTES: usize = 64;

pub(super) fn session_id(text: &str) -> Result<SessionId, BadSessionId> {
    SessionId::new(text)
}

/// Reads the name of a restore point.
pub(super) fn point(text: &str) -> Result<EventId, String> {
    EventId::parse(text).ok_or_else(|| {
        "a restore point is named by a number, as `sessions points` lists it".to_owned()
    })
}

pub(super) fn json_value(text: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(text).map_err(|error| {
        format!("not one JSON value ({error}); quote it for the shell, as '{{\"key\": 1}}'")
    })
}

/// The fewest digits that name a component.
const DIGEST_PREFIX_DIGITS: usize = 8;

/// Checks the beginning of a component's digest.
pub(super) fn digest_prefix(text: &str) -> Result<String, String> {
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match text.len() {
        DIGEST_PREFIX_DIGITS..=64 if is_hex => Ok(text.to_ascii_lowercase()),
        _ => Err(format!(
            "a component is named by {DIGEST_PREFIX_DIGITS} to 64 hexadecimal digits of its digest"
        )),
    }
}

/// Checks a name that must be valid for Cargo as a crate, and for the configuration as a plugin.
pub(super) fn crate_name(text: &str) -> Result<String, String> {
    let rule = "use lowercase letters, digits and dashes, a letter first";
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.len() > CRATE_NAME_MAX_BYTES {
        Err(format!(
            "a plugin's name has at most {CRATE_NAME_MAX_BYTES} bytes; this has {}",
            text.len()
        ))
    } else if !text.starts_with(|c: char| c.is_ascii_lowercase())
        || !text.chars().all(fits)
        || text.ends_with('-')
    {
        Err(rule.to_owned())
    } else if ["test", "core", "std", "alloc", "self", "crate"].contains(&text) {
        Err(format!(
            "Rust has a meaning for `{text}` already; choose another"
        ))
    } else {
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_crates() {
        for good in ["echo", "my-bot2"] {
            assert_eq!(crate_name(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "Echo",
            "2x",
            "a_b",
            "a/b",
            "..",
            "a-",
            "test",
            &"a".repeat(65),
        ] {
            assert!(crate_name(bad).is_err(), "{bad}");
        }
    }
}
