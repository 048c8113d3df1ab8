//! An export of a session, as a test uses it.

use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::export_bytes::{BadExport, EXPORT_MAX, Parts, Snapshot};
use super::instant;
use super::script::Timer;
use crate::State;

/// The largest manifest, in bytes.
const MANIFEST_MAX: usize = 16 << 20;

/// A session as it was in a daemon: the content of a file that `abide sessions export` writes.
/// [`Harness::from_export`] goes on with it, so that a state from production is a test.
///
/// Lengths and versions are checked, digests are not: `abide sessions import` verifies those.
/// History and component are passed over. The file holds all that was said in the session
/// nevertheless: think of that before it is checked in.
///
/// ```no_run
/// # use abide_plugin::{Error, Message, Plugin};
/// # #[derive(Default, serde::Serialize, serde::Deserialize)]
/// # struct Todo {}
/// # impl Plugin for Todo {
/// #     fn turn(&mut self, _: &[Message]) -> Result<(), Error> {
/// #         Ok(())
/// #     }
/// # }
/// use abide_plugin::testing::{Harness, SessionExport};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // Written by: abide sessions export garden tests/garden.export
/// let export = SessionExport::open("tests/garden.export")?;
/// assert_eq!((export.plugin.as_str(), export.turn), ("todo", 17));
///
/// let mut session = Harness::<Todo>::from_export(&export)?;
/// assert_eq!(session.say("done")?.output, ["water the plants is done"]);
/// # Ok(())
/// # }
/// ```
///
/// [`Harness::from_export`]: super::Harness::from_export
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SessionExport {
    /// The id of the session.
    pub session: String,
    /// The name of its plugin.
    pub plugin: String,
    /// The arguments that it was created with, as one JSON value.
    pub args: String,
    /// The turn after which the session was so; 0 before its first one.
    pub turn: u64,
    /// The SHA-256 of the component that wrote the state, as 64 hexadecimal digits.
    pub component: String,
    /// When the state was saved, in milliseconds since the beginning of 1970.
    pub taken_at_ms: u64,
    /// The timers that were set. Their times count from `taken_at_ms`; that of an overdue one is 0.
    pub timers: Vec<Timer>,
    /// The state, with its schema.
    pub state: State,
}

impl SessionExport {
    /// Reads an export from a file. `cargo test` runs tests in the folder of the package, where a
    /// relative path begins then.
    ///
    /// # Errors
    /// If the file cannot be read, or if [`parse`](Self::parse) refuses its bytes.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, BadExport> {
        let path = path.as_ref();
        let of_file = |what: &dyn Display| {
            let path = path.display();
            BadExport::new(format_args!("{path}: {what}"))
        };
        let file = File::open(path).map_err(|error| of_file(&error))?;
        let mut bytes = Vec::new();
        // One byte more tells that it is too large, however large it is.
        let read = file.take(EXPORT_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| of_file(&error))?;
        Self::parse(&bytes).map_err(|bad| of_file(&bad))
    }

    /// Parses the bytes of an export, such as `include_bytes!` gives.
    ///
    /// # Errors
    /// If they are no export, or a damaged one, or one of a newer format. The error says what to
    /// do.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadExport> {
        let parts = Parts::of(bytes)?;
        let Manifest {
            session,
            identity,
            point,
            left,
        } = Manifest::of(parts.manifest)?;
        let Snapshot {
            plugin,
            component,
            state,
        } = Snapshot::of(parts.snapshot)?;
        let agree = plugin == identity.plugin.as_bytes()
            && component.eq_ignore_ascii_case(&point.component)
            && state.schema == point.schema;
        if !agree {
            return Err(BadExport::new(
                "the snapshot of the export is of another plugin, component or schema than its \
                 manifest says; export the session again",
            ));
        }
        let timers = left.timers.into_iter().map(|timer| Timer {
            name: timer.name,
            after_ms: timer.due.saturating_sub(point.taken_at),
            text: timer.text,
        });
        Ok(Self {
            session,
            plugin: identity.plugin,
            args: identity.args,
            turn: point.turn,
            component,
            taken_at_ms: point.taken_at,
            timers: timers.collect(),
            state,
        })
    }
}

/// What a test needs of the manifest; there is more in it.
#[derive(Deserialize)]
struct Manifest {
    session: String,
    identity: Identity,
    point: Point,
    #[serde(default)]
    left: LeftBehind,
}

#[derive(Deserialize)]
struct Identity {
    plugin: String,
    args: String,
}

#[derive(Deserialize)]
struct Point {
    turn: u64,
    component: String,
    schema: u32,
    #[serde(deserialize_with = "instant::read")]
    taken_at: u64,
}

/// What an import does not take along.
#[derive(Default, Deserialize)]
struct LeftBehind {
    timers: Vec<SetTimer>,
}

#[derive(Deserialize)]
struct SetTimer {
    name: String,
    #[serde(deserialize_with = "instant::read")]
    due: u64,
    text: String,
}

impl Manifest {
    fn of(bytes: &[u8]) -> Result<Self, BadExport> {
        let unreadable = |why: &dyn Display| {
            BadExport::new(format_args!(
                "the manifest of the export cannot be read: {why}; export the session again"
            ))
        };
        if bytes.len() > MANIFEST_MAX {
            let bytes = bytes.len();
            return Err(unreadable(&format_args!(
                "it has {bytes} bytes, over the limit of {MANIFEST_MAX}"
            )));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| unreadable(&error))?;
        if let Err(error) = serde_json::from_str::<Value>(&manifest.identity.args) {
            return Err(unreadable(&format_args!(
                "the arguments are no JSON: {error}"
            )));
        }
        Ok(manifest)
    }
}
