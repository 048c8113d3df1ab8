//! The bytes of an export: its parts, and the snapshot. `host/docs/export-format.md` has the tables.
//!
//! They come from outside: a length that they state is compared with what is there before it is
//! used. Digests and checksums are passed over, since to compute them would cost every plugin a
//! dependency.

use std::error::Error as StdError;
use std::fmt::{self, Display, Formatter};

use crate::State;

/// The largest export, in bytes.
pub(super) const EXPORT_MAX: u64 = 256 << 20;

const MAGIC: &[u8] = b"ABIDEEXP";
const FORMAT: u32 = 1;
/// The size of an entry of the table of parts, in bytes.
const ENTRY_BYTES: u64 = 48;

const SNAPSHOT_MAGIC: &[u8] = b"ABSN";
const SNAPSHOT_FORMAT: u32 = 1;

/// Why bytes are no export that a test can use: what is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadExport(pub String);

impl Display for BadExport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for BadExport {}

impl BadExport {
    pub(super) fn new(what: impl Display) -> Self {
        Self(what.to_string())
    }
}

/// The parts that a test needs.
pub(super) struct Parts<'a> {
    pub(super) manifest: &'a [u8],
    pub(super) snapshot: &'a [u8],
}

impl<'a> Parts<'a> {
    pub(super) fn of(export: &'a [u8]) -> Result<Self, BadExport> {
        if export.len() as u64 > EXPORT_MAX {
            return Err(BadExport::new(format_args!(
                "this is no export: it has more than {EXPORT_MAX} bytes, the most that one can have"
            )));
        }
        let mut input = Input::of("export", MAGIC, export)?;
        check_format("export", input.u32()?, FORMAT)?;
        let count = input.u32()?;
        let _table_digest: [u8; 32] = input.array()?;
        let mut table = Input {
            rest: input.take(u64::from(count) * ENTRY_BYTES)?,
            ..input
        };
        // The kinds are 1 to 4: manifest, snapshot, history, component.
        let mut found: [Option<&[u8]>; 4] = [None; 4];
        for _ in 0..count {
            let kind = table.u32()?;
            let _zero = table.u32()?;
            let length = table.u64()?;
            let _digest: [u8; 32] = table.array()?;
            let index = kind.checked_sub(1).map(|index| index as usize);
            let Some(place) = index.and_then(|index| found.get_mut(index)) else {
                return Err(BadExport::new(format_args!(
                    "the export has a part of kind {kind}, which this version of abide-plugin does \
                     not know; use a newer one"
                )));
            };
            if place.replace(input.take(length)?).is_some() {
                return Err(BadExport::new(format_args!(
                    "the export has two parts of kind {kind}; export the session again"
                )));
            }
        }
        input.end()?;
        let [manifest, snapshot, history, _] = found;
        let needed = |part: Option<&'a [u8]>, name| {
            part.ok_or_else(|| {
                BadExport::new(format_args!(
                    "the export has no {name}; export the session again"
                ))
            })
        };
        needed(history, "history")?;
        Ok(Self {
            manifest: needed(manifest, "manifest")?,
            snapshot: needed(snapshot, "snapshot")?,
        })
    }
}

/// A snapshot, as the daemon stores it.
pub(super) struct Snapshot<'a> {
    /// The name of the plugin.
    pub(super) plugin: &'a [u8],
    /// The SHA-256 of the component that wrote it, as hexadecimal digits.
    pub(super) component: String,
    pub(super) state: State,
}

impl<'a> Snapshot<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Result<Self, BadExport> {
        let what = "snapshot of the export";
        let mut input = Input::of(what, SNAPSHOT_MAGIC, bytes)?;
        check_format(what, input.u16()?.into(), SNAPSHOT_FORMAT)?;
        let plugin_bytes = input.u16()?;
        let schema = input.u32()?;
        let _crc = input.u32()?;
        let data_bytes = input.u64()?;
        let component: [u8; 32] = input.array()?;
        let plugin = input.take(plugin_bytes.into())?;
        let data = input.take(data_bytes)?.to_vec();
        input.end()?;
        Ok(Self {
            plugin,
            component: component.iter().map(|byte| format!("{byte:02x}")).collect(),
            state: State { schema, data },
        })
    }
}

fn check_format(what: &str, found: u32, newest: u32) -> Result<(), BadExport> {
    if found > newest {
        return Err(BadExport::new(format_args!(
            "the {what} has format {found}, this version of abide-plugin reads up to {newest}; use \
             a newer one"
        )));
    }
    if found == 0 {
        return Err(BadExport::new(format_args!(
            "the {what} has format 0, which there never was: it is damaged; copy it again"
        )));
    }
    Ok(())
}

/// Bytes that are read from their beginning to their end.
#[derive(Clone, Copy)]
struct Input<'a> {
    /// What they are, for errors.
    what: &'static str,
    /// How many they were at first.
    length: usize,
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// Begins to read bytes, which must begin with `magic`.
    fn of(what: &'static str, magic: &[u8], bytes: &'a [u8]) -> Result<Self, BadExport> {
        // Fewer bytes may be the beginning of what was cut off.
        if magic.iter().zip(bytes).any(|(magic, byte)| magic != byte) {
            return Err(BadExport::new(format_args!(
                "this is no {what} (it does not begin with `{}`); `abide sessions export` writes \
                 exports",
                magic.escape_ascii()
            )));
        }
        let mut input = Self {
            what,
            length: bytes.len(),
            rest: bytes,
        };
        input.take(magic.len() as u64)?;
        Ok(input)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], BadExport> {
        let in_memory = usize::try_from(length).ok();
        let split = in_memory.and_then(|length| self.rest.split_at_checked(length));
        let Some((taken, rest)) = split else {
            let before = (self.length - self.rest.len()) as u64;
            return Err(BadExport::new(format_args!(
                "the {} is cut off: it has {} bytes, and needs {}; copy it again",
                self.what,
                self.length,
                before.saturating_add(length)
            )));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadExport> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    fn u16(&mut self) -> Result<u16, BadExport> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, BadExport> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, BadExport> {
        self.array().map(u64::from_le_bytes)
    }

    fn end(&self) -> Result<(), BadExport> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(BadExport::new(format_args!(
                "the {} has {extra} bytes more than it says; copy it again",
                self.what
            ))),
        }
    }
}
