//! Values that may be secrets: written out in the file, or named there by a variable or a file.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::secret::{Secret, SecretRef};

/// A value as the file has it: `"value"`, `{ value = "value" }`, `{ env = "VARIABLE" }` or
/// `{ file = "path" }`. A secret is named by one of the last two, never written in the file.
#[derive(Clone, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum GivenKey {
    /// As it stands there; what a bare text means is for the key to say.
    Bare(String),
    /// In a table.
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

/// A value, or where it is. Its `Debug` and its `Display` show no value.
#[derive(Clone, PartialEq, Eq)]
pub enum Given {
    /// Written in the file.
    Value(Secret),
    /// Named there.
    Named(SecretRef),
}

impl Given {
    /// Where it is, if it is not in the configuration itself.
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

// By hand: an error of serde's untagged enums does not say where in the file it is.
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
