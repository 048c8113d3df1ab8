//! The trait that a plugin implements.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Context, Error, Message};

/// A session's turn logic. The type that implements it *is* the session's state: whatever its serde
/// form holds survives the turn, and nothing else does, because the host creates a fresh instance
/// for every turn.
///
/// The same state must always serialize to the same bytes. A `HashMap` or `HashSet` breaks that
/// (its order changes from one instance to the next): use `BTreeMap`, `BTreeSet` or `Vec`. A
/// `#[serde(skip)]` field is lost after every turn. [`Harness`](crate::testing::Harness) detects
/// both mistakes.
pub trait Plugin: Default + Serialize + DeserializeOwned + 'static {
    /// The schema version of the state. Raise it when old states need [`migrate`](Self::migrate) to
    /// be read; a new field with `#[serde(default)]` does not.
    const SCHEMA: u32 = 1;

    /// Called once, on a default state, when the session is created. May emit output, but may not
    /// call steps.
    ///
    /// # Errors
    /// An error means that the session is not created, and the client gets the reason.
    fn open(&mut self, context: &Context) -> Result<(), Error> {
        let _ = context;
        Ok(())
    }

    /// Runs one turn. The input is exactly one message, preceded, where there is something to
    /// report, by one message of the role [`System`](crate::Role::System): the recovery message
    /// after a restart, or a description of turns that were stopped after they had acted outside
    /// the session. The description alone has no recovery; where both apply, the recovery message
    /// contains both.
    ///
    /// # Errors
    /// An error means that the turn has failed: its output is dropped, the state stays what it was
    /// before, and the message becomes a dead letter with this reason.
    fn turn(&mut self, input: &[Message]) -> Result<(), Error>;

    /// Converts a state that an older version of the plugin wrote into the current one. [`decode`]
    /// reads it as the type that it had then. The default rejects every older schema.
    ///
    /// [`decode`]: crate::decode
    ///
    /// # Errors
    /// An error means that the state cannot be read: the session is faulted until it gets a plugin
    /// that can read it.
    fn migrate(schema: u32, data: &[u8]) -> Result<Self, Error> {
        let _ = data;
        Err(Error::new(format_args!(
            "this plugin reads schema {}, not {schema}, and has no migration",
            Self::SCHEMA
        )))
    }
}
