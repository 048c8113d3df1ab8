//! Methods for the types of the contract.

use std::fmt::{self, Display, Formatter};

use serde::de::DeserializeOwned;

use crate::{Context, Error, Role};

impl Context {
    /// Parses the arguments that the client gave when it created the session. Mark `T`'s fields
    /// `#[serde(default)]`, and `T` itself `#[serde(deny_unknown_fields)]`, so that misspelt names
    /// are reported. Missing arguments (`null`) are read as an empty object.
    ///
    /// # Errors
    /// If the arguments do not match `T`; the error names the wrong field and what is wrong with
    /// it.
    pub fn read_args<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let json = match self.args.trim() {
            "null" => "{}",
            json => json,
        };
        // Parse into a value first: line and column numbers in a text that the client did not write
        // would mislead.
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
