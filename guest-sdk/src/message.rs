//! What the contract's own types can do for an author.

use std::fmt::{self, Display, Formatter};

use serde::de::DeserializeOwned;

use crate::{Context, Error, Role};

impl Context {
    /// Reads what the client gave when it created the session. Give `T`'s fields
    /// `#[serde(default)]`, and `T` `#[serde(deny_unknown_fields)]`, so that typing errors are
    /// told. No arguments at all (`null`) read as an empty object.
    ///
    /// # Errors
    /// Names the field that is wrong, and how.
    pub fn read_args<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let json = match self.args.trim() {
            "null" => "{}",
            json => json,
        };
        // By way of a value: columns in text that the client did not write would mislead.
        let value: serde_json::Value = serde_json::from_str(json)?;
        serde_path_to_error::deserialize(value).map_err(|error| {
            let place = match error.path().to_string() {
                root if root == "." => "args".to_owned(),
                path => format!("args.{path}"),
            };
            Error::new(format_args!("{place}: {}", error.inner()))
        })
    }
}

impl Display for Role {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::System => "system",
            Self::Timer => "timer",
            Self::Webhook => "webhook",
            Self::Approval => "approval",
        })
    }
}
