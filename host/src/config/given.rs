//! Values that may be secrets: literal in the file, or read from a variable or a file that it
//! names.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::secret::{Secret, SecretRef};

/// A value as written in the file: `"value"`, `{ value = "value" }`, `{ env = "VARIABLE" }` or `{
/// file = "path" }`. A secret is named by one of the last two, never written in the file.
#[derive(Clone, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum GivenKey {
    /// A plain text; its meaning depends on the key.
    Bare(String),
    /// A table with exactly one of its keys.
    Table(GivenTable),
}

/// Where a value is: exactly one of these.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct GivenTable {
    /// The value itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<String>,
    /// The environment variable that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) env: Option<String>,
    /// The file that holds it, relative to the configuration file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<PathBuf>,
}

/// A literal value, or a reference to it. `Debug` and `Display` show no value.
#[derive(Clone, PartialEq, Eq)]
pub enum Given {
    /// A literal in the configuration file.
    Value(Secret),
    /// A reference to a variable or file that holds the value.
    Named(SecretRef),
}

impl Given {
    /// Returns the reference, unless the value is in the configuration itself.
    pub fn secret_ref(&self) -> Option<&SecretRef> {
        match self {
            Self::Value(_) => None,
            Self::Named(secret) => Some(secret),
        }
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(_) => f.write_str("a value"),
            Self::Named(secret) => fmt::Display::fmt(secret, f),
        }
    }
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for GivenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GivenKey(…)")
    }
}

// Implemented by hand, because errors of serde's untagged enums have no position in the file.
impl<'de> Deserialize<'de> for GivenKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = GivenKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or a table with one of `value`, `env` and `file`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<GivenKey, E> {
                Ok(GivenKey::Bare(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<GivenKey, A::Error> {
                GivenTable::deserialize(MapAccessDeserializer::new(map)).map(GivenKey::Table)
            }
        }
        deserializer.deserialize_any(Either)
    }
}
