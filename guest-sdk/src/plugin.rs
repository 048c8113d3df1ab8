//! The one trait that an author implements.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Context, Error, Message};

/// A session's turn logic. The type that implements it *is* the session's state: whatever its
/// serde form holds survives the turn, and nothing else does, because the host makes a fresh
/// instance for every turn.
///
/// The same state must always give the same bytes. A `HashMap` or `HashSet` breaks that (its
/// order changes from one instance to the next): use `BTreeMap`, `BTreeSet` or `Vec`. A
/// `#[serde(skip)]` field is forgotten after every turn. [`Harness`](crate::testing::Harness)
/// finds both mistakes.
pub trait Plugin: Default + Serialize + DeserializeOwned + 'static {
    /// The version of the state's shape. Raise it when old states need [`migrate`](Self::migrate)
    /// to be read; a new field with `#[serde(default)]` does not.
    const SCHEMA: u32 = 1;

    /// Called once, on a default state, when the session is created. May emit output, may not
    /// call steps.
    ///
    /// # Errors
    /// The session is not created, and the client is told why.
    fn open(&mut self, context: &Context) -> Result<(), Error> {
        let _ = context;
        Ok(())
    }

    /// One turn. The input is exactly one message, and in front of it, where there is something to
    /// say, one message of the role [`System`](crate::Role::System): the recovery message, or
    /// word of turns that were stopped after they had done something outside, which has no
    /// recovery; after both, the recovery message says both.
    ///
    /// # Errors
    /// The turn has failed: nothing that it said is kept, the state stays what it was before
    /// it, and the message becomes a dead letter with this reason.
    fn turn(&mut self, input: &[Message]) -> Result<(), Error>;

    /// Makes today's state of one that an older version of the plugin wrote. [`decode`] reads
    /// it as the type that it was then. The default refuses every older schema.
    ///
    /// [`decode`]: crate::decode
    ///
    /// # Errors
    /// The state cannot be read: the session is faulted until a plugin comes that can.
    fn migrate(schema: u32, data: &[u8]) -> Result<Self, Error> {
        let _ = data;
        Err(Error::new(format_args!(
            "this plugin reads schema {}, not {schema}, and has no migration",
            Self::SCHEMA
        )))
    }
}
