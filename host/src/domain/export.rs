//! The file that a session is exported to, and imported from. `host/docs/export-format.md` describes it.
//!
//! ```text
//! offset  size  field
//!      0     8  magic "ABIDEEXP"
//!      8     4  format, little-endian: 1
//!     12     4  number of parts, little-endian
//!     16    32  SHA-256 of the table
//!     48  48*n  table, for each part: kind, zero (4 each), length (8), little-endian; SHA-256 (32)
//!          ...  the parts, in the order of the table; nothing follows
//! ```
//!
//! | kind | part | content |
//! |---|---|---|
//! | 1 | manifest | one JSON object |
//! | 2 | snapshot | as in the store, see `snapshot.rs` |
//! | 3 | history | records, each: cursor, seq (8 each), length (4), little-endian; as in the store |
//! | 4 | component | the WebAssembly component that wrote the snapshot; may be absent |
//!
//! An export comes from outside: nothing in it is believed before it was checked, and what it asks for is
//! bounded by its own length.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::{
    BadSnapshot, Digest, Identity, LeftBehind, LogPos, Owed, Point, SessionCopy, SessionId,
    SessionTimeline, Snapshot, UnixMillis,
};

/// The largest export, in bytes.
pub const EXPORT_MAX_BYTES: usize = 96 << 20;
/// How much of a session's history a copy takes along, in bytes, each record with what it takes beside its
/// content: all of it is written at once, while other sessions wait.
pub const HISTORY_MAX_BYTES: usize = 16 << 20;
/// What a record takes beside its content, about, in bytes.
const RECORD_BESIDE_BYTES: usize = 128;

const MAGIC: [u8; 8] = *b"ABIDEEXP";
const FORMAT: u32 = 1;
const HEAD_BYTES: usize = 48;
const ENTRY_BYTES: usize = 48;
const RECORD_HEAD_BYTES: usize = 20;
/// The largest manifest, in bytes: it has the session's arguments, labels and timers.
const MANIFEST_MAX_BYTES: usize = 16 << 20;
/// The largest description of what the guest must be told, in bytes: the session keeps it until its next turn.
const OWED_MAX_BYTES: usize = 64 << 10;
/// The largest number of anything that is counted: the largest integer that JSON's readers agree on.
const COUNT_MAX: u64 = 1 << 53;

/// The kinds of parts. A number is never used for anything else.
const MANIFEST: u32 = 1;
const SNAPSHOT: u32 = 2;
const HISTORY: u32 = 3;
const COMPONENT: u32 = 4;

/// An exported session.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionExport {
    pub copy: SessionCopy,
    /// The component that wrote the snapshot, if it was exported along.
    pub component: Option<Vec<u8>>,
    /// The version of Abide that wrote the export.
    pub version: String,
    pub exported_at: UnixMillis,
}

/// Why bytes are no export that can be imported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadExport {
    #[error("this is no export of Abide's (it does not begin with `ABIDEEXP`)")]
    NotAnExport,
    #[error("the export has format {found}, this version of Abide reads up to {FORMAT}; upgrade")]
    NewerFormat { found: u32 },
    #[error("the export is cut off: it has {have} bytes, and needs {need}; copy it again")]
    Truncated { have: u64, need: u64 },
    #[error("the export has {extra} bytes more than it says; copy it again")]
    Surplus { extra: u64 },
    #[error("the {part} of the export is damaged: its SHA-256 is another one; copy it again")]
    Damaged { part: &'static str },
    #[error("the export's snapshot cannot be used: {0}")]
    Snapshot(BadSnapshot),
    #[error("the export has no {part}")]
    Missing { part: &'static str },
    #[error("the export has a part of kind {kind}, which this version does not know, or twice")]
    UnknownPart { kind: u32 },
    #[error("the {what} of the export is over its limit: {bytes} bytes, {limit} are allowed")]
    TooLarge {
        what: &'static str,
        bytes: u64,
        limit: u64,
    },
    #[error("the manifest of the export cannot be read: {0}")]
    Manifest(String),
    #[error("the parts of the export contradict each other: {0}")]
    Contradiction(&'static str),
}

/// The manifest: all of a [`SessionExport`] but its large parts.
#[derive(Serialize, Deserialize)]
struct Manifest {
    version: String,
    exported_at: UnixMillis,
    session: SessionId,
    identity: Identity,
    point: Point,
    #[serde(default, skip_serializing_if = "SessionTimeline::is_first")]
    timeline: SessionTimeline,
    #[serde(default, skip_serializing_if = "Owed::is_none")]
    owed: Owed,
    #[serde(default)]
    left: LeftBehind,
}

impl SessionExport {
    /// Encodes the export.
    ///
    /// # Errors
    /// If it would be larger than what can be imported.
    pub fn encode(&self) -> Result<Vec<u8>, BadExport> {
        let copy = &self.copy;
        let manifest = Manifest {
            version: self.version.clone(),
            exported_at: self.exported_at,
            session: copy.session.clone(),
            identity: copy.identity.clone(),
            point: apart(&copy.point),
            timeline: copy.timeline.clone(),
            owed: copy.owed.clone(),
            left: copy.left.clone(),
        };
        let manifest = serde_json::to_vec_pretty(&manifest)
            .map_err(|error| BadExport::Manifest(error.to_string()))?;
        within("manifest", manifest.len(), MANIFEST_MAX_BYTES)?;
        let history = encode_history(&copy.history);
        let mut parts = vec![
            (MANIFEST, &manifest[..]),
            (SNAPSHOT, &copy.snapshot),
            (HISTORY, &history),
        ];
        parts.extend(self.component.as_deref().map(|bytes| (COMPONENT, bytes)));
        let mut table = Vec::with_capacity(parts.len() * ENTRY_BYTES);
        for (kind, bytes) in &parts {
            table.extend(kind.to_le_bytes());
            table.extend([0; 4]);
            table.extend((bytes.len() as u64).to_le_bytes());
            table.extend(Digest::of(bytes).as_bytes());
        }
        let lengths = parts.iter().map(|(_, bytes)| bytes.len());
        let total = HEAD_BYTES + table.len() + lengths.sum::<usize>();
        within("whole", total, EXPORT_MAX_BYTES)?;
        let mut export = Vec::with_capacity(total);
        export.extend(MAGIC);
        export.extend(FORMAT.to_le_bytes());
        // There are four parts at most.
        export.extend((parts.len() as u32).to_le_bytes());
        export.extend(Digest::of(&table).as_bytes());
        export.extend(table);
        for (_, bytes) in parts {
            export.extend(bytes);
        }
        Ok(export)
    }

    /// Decodes and checks an export. That its records are ones is checked by who stores them.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadExport> {
        within("whole", bytes.len(), EXPORT_MAX_BYTES)?;
        let parts = Parts::of(bytes)?;
        within("manifest", parts.manifest.len(), MANIFEST_MAX_BYTES)?;
        let manifest: Manifest = serde_json::from_slice(parts.manifest)
            .map_err(|error| BadExport::Manifest(error.to_string()))?;
        let history = decode_history(parts.history)?;
        let export = Self {
            copy: SessionCopy {
                session: manifest.session,
                identity: manifest.identity,
                point: apart(&manifest.point),
                timeline: manifest.timeline,
                snapshot: parts.snapshot.to_vec(),
                history,
                owed: manifest.owed,
                left: manifest.left,
            },
            component: parts.component.map(<[u8]>::to_vec),
            version: manifest.version,
            exported_at: manifest.exported_at,
        };
        export.check()?;
        Ok(export)
    }

    /// Checks that the parts agree with each other.
    fn check(&self) -> Result<(), BadExport> {
        let SessionCopy {
            identity,
            point,
            timeline,
            snapshot,
            history,
            owed,
            ..
        } = &self.copy;
        let holds = |holds: bool, what| match holds {
            true => Ok(()),
            false => Err(BadExport::Contradiction(what)),
        };
        let counts = [
            point.cursor,
            point.at.cursor,
            point.at.seq,
            point.turn,
            point.turns,
            point.last_turn,
        ];
        holds(
            counts.iter().all(|count| *count < COUNT_MAX),
            "a number is too large",
        )?;
        holds(
            point.turn <= point.last_turn
                && point.turns <= point.last_turn
                && point.at.cursor <= point.cursor,
            "the point is none that a session can have",
        )?;
        holds(
            timeline.fits(point.cursor),
            "the timelines are not those of its history",
        )?;
        holds(
            serde_json::from_str::<IgnoredAny>(&identity.args).is_ok(),
            "the arguments are no JSON",
        )?;
        let described = serde_json::to_vec(owed).map_or(usize::MAX, |bytes| bytes.len());
        within(
            "description of what is to be told",
            described,
            OWED_MAX_BYTES,
        )?;
        let found = Snapshot::decode_any(snapshot);
        let found = found.map_err(BadExport::Snapshot)?;
        holds(
            found.plugin == identity.plugin
                && found.component == point.component
                && found.schema == point.schema,
            "the snapshot is of another plugin, component or schema than the manifest says",
        )?;
        if let Some(component) = &self.component {
            holds(
                Digest::of(component) == point.component,
                "the component is not the one that wrote the snapshot",
            )?;
        }
        let last = history.last().map(|(at, _)| *at);
        holds(
            last.is_none_or(|last| last == point.at),
            "the history does not end at the point",
        )?;
        holds(
            history
                .windows(2)
                .all(|pair| pair[0].0.seq + 1 == pair[1].0.seq && pair[0].0 < pair[1].0),
            "the history has gaps",
        )
    }
}

fn within(what: &'static str, bytes: usize, limit: usize) -> Result<(), BadExport> {
    match bytes <= limit {
        true => Ok(()),
        false => Err(BadExport::TooLarge {
            what,
            bytes: bytes as u64,
            limit: limit as u64,
        }),
    }
}

/// Returns what a record of a copied history takes, in bytes.
pub fn history_weight(record: &[u8]) -> usize {
    record.len() + RECORD_BESIDE_BYTES
}

/// Returns a point without what is of its session alone, and not of a copy.
fn apart(point: &Point) -> Point {
    Point {
        timers: Vec::new(),
        owed: Owed::default(),
        since: Owed::default(),
        before_change: false,
        before_act: None,
        ..point.clone()
    }
}

fn encode_history(history: &[(LogPos, Vec<u8>)]) -> Vec<u8> {
    let lengths = history
        .iter()
        .map(|(_, record)| RECORD_HEAD_BYTES + record.len());
    let mut bytes = Vec::with_capacity(lengths.sum());
    for (at, record) in history {
        bytes.extend(at.cursor.to_le_bytes());
        bytes.extend(at.seq.to_le_bytes());
        // A record is far below 4 GiB: the limits of messages, outputs and journals are.
        bytes.extend((record.len() as u32).to_le_bytes());
        bytes.extend(record);
    }
    bytes
}

fn decode_history(mut rest: &[u8]) -> Result<Vec<(LogPos, Vec<u8>)>, BadExport> {
    let (mut history, mut weight) = (Vec::new(), 0);
    while !rest.is_empty() {
        let (at, record, behind) = next_record(rest)
            .ok_or(BadExport::Contradiction("the history ends within a record"))?;
        if at.seq >= COUNT_MAX || at.cursor >= COUNT_MAX {
            return Err(BadExport::Contradiction("a position is too large"));
        }
        weight += history_weight(record);
        within("history", weight, HISTORY_MAX_BYTES)?;
        history.push((at, record.to_vec()));
        rest = behind;
    }
    Ok(history)
}

/// Splits the first record off; none if it is cut off.
fn next_record(bytes: &[u8]) -> Option<(LogPos, &[u8], &[u8])> {
    let (cursor, rest) = bytes.split_first_chunk()?;
    let (seq, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    let (record, behind) = rest.split_at_checked(length)?;
    let at = LogPos {
        cursor: u64::from_le_bytes(*cursor),
        seq: u64::from_le_bytes(*seq),
    };
    Some((at, record, behind))
}

/// The parts of an export, each with the digest that the table gives.
struct Parts<'a> {
    manifest: &'a [u8],
    snapshot: &'a [u8],
    history: &'a [u8],
    component: Option<&'a [u8]>,
}

impl<'a> Parts<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, BadExport> {
        if !bytes.starts_with(&MAGIC) {
            return Err(BadExport::NotAnExport);
        }
        let truncated = |need: u64| BadExport::Truncated {
            have: bytes.len() as u64,
            need,
        };
        let (head, rest) = bytes
            .split_first_chunk::<HEAD_BYTES>()
            .ok_or_else(|| truncated(HEAD_BYTES as u64))?;
        let format = le_u32(head, 8);
        if format == 0 {
            return Err(BadExport::NotAnExport);
        }
        if format > FORMAT {
            return Err(BadExport::NewerFormat { found: format });
        }
        let count = le_u32(head, 12);
        let table_bytes = u64::from(count) * ENTRY_BYTES as u64;
        let upto_table = HEAD_BYTES as u64 + table_bytes;
        let in_memory = usize::try_from(table_bytes).ok();
        let (table, mut rest) = in_memory
            .and_then(|length| rest.split_at_checked(length))
            .ok_or_else(|| truncated(upto_table))?;
        if Digest::of(table).as_bytes()[..] != head[16..] {
            return Err(BadExport::Damaged { part: "table" });
        }
        let mut found: [Option<&[u8]>; 4] = [None; 4];
        let mut need = upto_table;
        for entry in table.chunks_exact(ENTRY_BYTES) {
            let kind = le_u32(entry, 0);
            let place = kind.checked_sub(MANIFEST).map(|index| index as usize);
            let place = place.and_then(|index| found.get_mut(index));
            let Some(place) = place.filter(|place| place.is_none()) else {
                return Err(BadExport::UnknownPart { kind });
            };
            let length = u64::from(le_u32(entry, 8)) | u64::from(le_u32(entry, 12)) << 32;
            need = need.saturating_add(length);
            let in_memory = usize::try_from(length).ok();
            let (part, behind) = in_memory
                .and_then(|length| rest.split_at_checked(length))
                .ok_or_else(|| truncated(need))?;
            if Digest::of(part).as_bytes()[..] != entry[16..] {
                return Err(BadExport::Damaged { part: name(kind) });
            }
            *place = Some(part);
            rest = behind;
        }
        if !rest.is_empty() {
            let extra = rest.len() as u64;
            return Err(BadExport::Surplus { extra });
        }
        let [manifest, snapshot, history, component] = found;
        let needed =
            |part: Option<&'a [u8]>, kind| part.ok_or(BadExport::Missing { part: name(kind) });
        Ok(Self {
            manifest: needed(manifest, MANIFEST)?,
            snapshot: needed(snapshot, SNAPSHOT)?,
            history: needed(history, HISTORY)?,
            component,
        })
    }
}

fn name(kind: u32) -> &'static str {
    match kind {
        MANIFEST => "manifest",
        SNAPSHOT => "snapshot",
        HISTORY => "history",
        _ => "component",
    }
}

fn le_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
