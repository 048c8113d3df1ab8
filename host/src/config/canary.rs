//! The share of a plugin's sessions that run on a new component first: `"5%"`, or `"off"`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Hundredths of a percent, from 1 to 10,000; none is `"off"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canary(pub Option<u32>);

const OFF: &str = "off";

impl fmt::Display for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str(OFF),
            Some(share) if share % 100 == 0 => write!(f, "{}%", share / 100),
            Some(share) => {
                let text = format!("{}.{:02}", share / 100, share % 100);
                write!(f, "{}%", text.trim_end_matches('0'))
            }
        }
    }
}

/// Parses `5%` or `0.25%`; none if it is no such share.
fn share(text: &str) -> Option<u32> {
    let number = text.strip_suffix('%')?.trim_end();
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 3 || part.len() > 2 || !digits(whole) || !digits(part) {
        return None;
    }
    let share = format!("{whole}{part:0<2}").parse().ok()?;
    (1..=10_000).contains(&share).then_some(share)
}

impl Serialize for Canary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Canary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CanaryVisitor;
        impl de::Visitor<'_> for CanaryVisitor {
            type Value = Canary;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a share of sessions like \"5%\", or \"off\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Canary, E> {
                match text {
                    OFF => Ok(Canary(None)),
                    text => share(text).map(|share| Canary(Some(share))).ok_or_else(|| {
                        E::custom(format_args!(
                            "`{text}` is not a share of sessions: \"5%\", from \"0.01%\" to \"100%\", or \
                             \"off\""
                        ))
                    }),
                }
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Canary, E> {
                Err(E::custom(format_args!(
                    "`{number}` is not a share of sessions; percent are \"{number}%\""
                )))
            }
        }
        deserializer.deserialize_any(CanaryVisitor)
    }
}

impl JsonSchema for Canary {
    fn schema_name() -> Cow<'static, str> {
        "Canary".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A share of sessions, from 0.01% to 100%, or `off`.",
            "examples": ["5%", "0.5%", "off"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_shown_as_they_may_be_written() {
        for (text, shown, value) in [
            ("5%", "5%", 500),
            ("0.25%", "0.25%", 25),
            ("12.5 %", "12.5%", 1250),
            ("0.01%", "0.01%", 1),
            ("100%", "100%", 10_000),
        ] {
            assert_eq!(share(text), Some(value), "{text}");
            assert_eq!(Canary(Some(value)).to_string(), shown);
        }
        for text in [
            "0%", "100.01%", "5", "%", ".5%", "-1%", "1.234%", "1e2%", "٥%", "",
        ] {
            assert_eq!(share(text), None, "{text}");
        }
        assert_eq!(Canary(None).to_string(), "off");
    }
}
