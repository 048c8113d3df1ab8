//! The codec: messages as frames, encoded by hand.
//!
//! ```text
//! frame   = version u8 | kind u8 | fields      with it: descriptors, in the order of the fields
//! bytes   = length u32 LE | bytes              text: the same, UTF-8
//! option  = 0 | 1 value                        list: count u32 LE | items
//! ```
//!
//! The numbers of kinds are never changed or reused, and bytes after the known fields are ignored,
//! since after an upgrade an old supervisor talks to a new worker.

use std::os::fd::OwnedFd;

use super::config_bytes::ConfigBytes;
use super::log_line::LineFormat;
use super::message::{Connection, FromWorker, Mode, Replace, Serving, Start, StartCause, ToWorker};
use super::wire_error::{VERSION, WireError};

/// The maximum size of a frame, well below the limit for one message of a local socket.
pub(super) const MAX_FRAME_BYTES: usize = 128 * 1024;
/// The maximum number of descriptors in a frame.
pub(super) const MAX_FRAME_FDS: usize = 64;
/// The maximum number of received bytes that are passed on with a connection.
pub const MAX_PREFIX_BYTES: usize = 64 * 1024;
/// The maximum size of the opaque information for a standby.
pub const MAX_INFO_BYTES: usize = 64 * 1024;
/// The maximum length of an address in bytes.
pub const MAX_ADDR_BYTES: usize = 256;
/// The maximum length of a reason in bytes; a longer one is truncated, not refused.
pub const MAX_REASON_BYTES: usize = 4 * 1024;

/// An encoded message and its descriptors.
#[derive(Debug)]
pub(super) struct WireFrame {
    pub(super) bytes: Vec<u8>,
    pub(super) fds: Vec<OwnedFd>,
}

impl ToWorker {
    pub(super) fn encode(self) -> Result<WireFrame, WireError> {
        match self {
            Self::Start(start) => {
                let mut w = FrameWriter::new(1);
                w.u8(match start.mode {
                    Mode::Serve => 0,
                    Mode::Standby => 1,
                });
                w.cause(&start.cause);
                w.option(start.generation, FrameWriter::u64);
                w.u32(start.supervisor_pid);
                w.option(start.config, |w, config| w.fd(config.into()));
                w.count(start.listeners.len());
                for (addr, fd) in start.listeners {
                    w.addr(&addr)?;
                    w.fd(fd);
                }
                w.bytes(
                    "the information for the standby",
                    &start.info,
                    MAX_INFO_BYTES,
                )?;
                w.option(start.acknowledged, FrameWriter::fd);
                w.finish()
            }
            Self::Go { cause } => {
                let mut w = FrameWriter::new(2);
                w.cause(&cause);
                w.finish()
            }
            Self::StandbyReady { generation } => {
                let mut w = FrameWriter::new(3);
                w.u64(generation);
                w.finish()
            }
            Self::StandbyFailed { generation, reason } => {
                let mut w = FrameWriter::new(4);
                w.u64(generation);
                w.reason(&reason);
                w.finish()
            }
            Self::Connection(connection) => FrameWriter::new(5).connection(connection),
            Self::Stop => FrameWriter::new(6).finish(),
            Self::Reload => FrameWriter::new(7).finish(),
        }
    }

    pub(super) fn decode(frame: WireFrame) -> Result<Self, WireError> {
        let (kind, mut r) = FrameReader::new(frame)?;
        Ok(match kind {
            1 => Self::Start(Start {
                mode: match r.u8()? {
                    0 => Mode::Serve,
                    1 => Mode::Standby,
                    _ => return Err(WireError::Invalid("mode")),
                },
                cause: r.cause()?,
                generation: r.option(FrameReader::u64)?,
                supervisor_pid: r.u32()?,
                config: r.option(FrameReader::config)?,
                listeners: r.list(|r| Ok((r.addr()?, r.fd()?)))?,
                info: r.bytes("info", MAX_INFO_BYTES)?,
                // Of an older supervisor, the frame ends here.
                acknowledged: match r.bytes.len() {
                    0 => None,
                    _ => r.option(FrameReader::fd)?,
                },
            }),
            2 => Self::Go { cause: r.cause()? },
            3 => Self::StandbyReady {
                generation: r.u64()?,
            },
            4 => Self::StandbyFailed {
                generation: r.u64()?,
                reason: r.text("reason", MAX_REASON_BYTES)?,
            },
            5 => Self::Connection(r.connection()?),
            6 => Self::Stop,
            7 => Self::Reload,
            kind => return Err(WireError::UnknownKind(kind)),
        })
    }
}

impl FromWorker {
    pub(super) fn encode(self) -> Result<WireFrame, WireError> {
        match self {
            Self::Listening { addr, fd } => {
                let mut w = FrameWriter::new(1);
                w.addr(&addr)?;
                w.fd(fd);
                w.finish()
            }
            Self::Serving(serving) => {
                let mut w = FrameWriter::new(2);
                w.u64(serving.stop_budget_ms);
                w.fd(serving.config.into());
                w.count(serving.listeners.len());
                for addr in &serving.listeners {
                    w.addr(addr)?;
                }
                w.finish()
            }
            Self::Replace(replace) => {
                let mut w = FrameWriter::new(3);
                w.u64(replace.generation);
                w.fd(replace.config.into());
                w.bytes(
                    "the information for the standby",
                    &replace.info,
                    MAX_INFO_BYTES,
                )?;
                w.finish()
            }
            Self::StandbyReady => FrameWriter::new(4).finish(),
            Self::StandbyFailed { reason } => {
                let mut w = FrameWriter::new(5);
                w.reason(&reason);
                w.finish()
            }
            Self::CancelReplace => FrameWriter::new(6).finish(),
            Self::Connection(connection) => FrameWriter::new(7).connection(connection),
            Self::Released => FrameWriter::new(8).finish(),
            Self::Stopped => FrameWriter::new(9).finish(),
            Self::Fatal { reason, code } => {
                let mut w = FrameWriter::new(10);
                w.reason(&reason);
                w.u8(code);
                w.finish()
            }
            Self::Alive => FrameWriter::new(11).finish(),
            Self::Proven => FrameWriter::new(12).finish(),
            Self::Mending => FrameWriter::new(15).finish(),
            Self::LastGood(config) => {
                let mut w = FrameWriter::new(13);
                w.fd(config.into());
                w.finish()
            }
            Self::LogFormat(format) => {
                let mut w = FrameWriter::new(14);
                w.u8(match format {
                    LineFormat::Text => 0,
                    LineFormat::Json => 1,
                });
                w.finish()
            }
        }
    }

    pub(super) fn decode(frame: WireFrame) -> Result<Self, WireError> {
        let (kind, mut r) = FrameReader::new(frame)?;
        Ok(match kind {
            1 => Self::Listening {
                addr: r.addr()?,
                fd: r.fd()?,
            },
            2 => Self::Serving(Serving {
                stop_budget_ms: r.u64()?,
                config: r.config()?,
                listeners: r.list(FrameReader::addr)?,
            }),
            3 => Self::Replace(Replace {
                generation: r.u64()?,
                config: r.config()?,
                info: r.bytes("info", MAX_INFO_BYTES)?,
            }),
            4 => Self::StandbyReady,
            5 => Self::StandbyFailed {
                reason: r.text("reason", MAX_REASON_BYTES)?,
            },
            6 => Self::CancelReplace,
            7 => Self::Connection(r.connection()?),
            8 => Self::Released,
            9 => Self::Stopped,
            10 => Self::Fatal {
                reason: r.text("reason", MAX_REASON_BYTES)?,
                code: r.u8()?,
            },
            11 => Self::Alive,
            12 => Self::Proven,
            13 => Self::LastGood(r.config()?),
            14 => Self::LogFormat(match r.u8()? {
                1 => LineFormat::Json,
                // Also a format that only a newer worker knows.
                _ => LineFormat::Text,
            }),
            15 => Self::Mending,
            kind => return Err(WireError::UnknownKind(kind)),
        })
    }
}

struct FrameWriter(WireFrame);

impl FrameWriter {
    fn new(kind: u8) -> Self {
        Self(WireFrame {
            bytes: vec![VERSION, kind],
            fds: Vec::new(),
        })
    }

    fn u8(&mut self, value: u8) {
        self.0.bytes.push(value);
    }

    fn u32(&mut self, value: u32) {
        self.0.bytes.extend(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.bytes.extend(value.to_le_bytes());
    }

    /// Writes a count. One that does not fit makes the frame too large as well, so `finish` refuses
    /// it.
    fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).unwrap_or(u32::MAX));
    }

    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            None => self.u8(0),
            Some(value) => {
                self.u8(1);
                write(self, value);
            }
        }
    }

    fn bytes(&mut self, what: &'static str, value: &[u8], limit: usize) -> Result<(), WireError> {
        if value.len() > limit {
            return Err(WireError::TooLarge {
                what,
                size: value.len(),
                limit,
            });
        }
        self.count(value.len());
        self.0.bytes.extend(value);
        Ok(())
    }

    fn addr(&mut self, addr: &str) -> Result<(), WireError> {
        self.bytes("an address", addr.as_bytes(), MAX_ADDR_BYTES)
    }

    fn reason(&mut self, reason: &str) {
        let cut = reason.floor_char_boundary(MAX_REASON_BYTES);
        self.count(cut);
        self.0.bytes.extend(&reason.as_bytes()[..cut]);
    }

    fn cause(&mut self, cause: &StartCause) {
        match cause {
            StartCause::First => self.u8(0),
            StartCause::Planned => self.u8(1),
            StartCause::Crash { own_doing, detail } => {
                self.u8(2);
                self.u8(u8::from(*own_doing));
                self.reason(detail);
            }
            StartCause::Rollback { detail } => {
                self.u8(3);
                self.reason(detail);
            }
        }
    }

    fn fd(&mut self, fd: OwnedFd) {
        self.0.fds.push(fd);
    }

    fn connection(mut self, connection: Connection) -> Result<WireFrame, WireError> {
        self.bytes(
            "what a connection has received",
            &connection.prefix,
            MAX_PREFIX_BYTES,
        )?;
        self.addr(&connection.addr)?;
        self.fd(connection.fd);
        self.finish()
    }

    fn finish(self) -> Result<WireFrame, WireError> {
        let limits = [
            ("a frame", self.0.bytes.len(), MAX_FRAME_BYTES),
            ("a frame's descriptors", self.0.fds.len(), MAX_FRAME_FDS),
        ];
        for (what, size, limit) in limits {
            if size > limit {
                return Err(WireError::TooLarge { what, size, limit });
            }
        }
        Ok(self.0)
    }
}

struct FrameReader {
    bytes: std::vec::IntoIter<u8>,
    fds: std::vec::IntoIter<OwnedFd>,
}

impl FrameReader {
    fn new(frame: WireFrame) -> Result<(u8, Self), WireError> {
        let mut reader = Self {
            bytes: frame.bytes.into_iter(),
            fds: frame.fds.into_iter(),
        };
        match reader.u8()? {
            VERSION => Ok((reader.u8()?, reader)),
            version => Err(WireError::Version(version)),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let mut array = [0; N];
        for byte in &mut array {
            *byte = self.bytes.next().ok_or(WireError::Short)?;
        }
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8, WireError> {
        self.bytes.next().ok_or(WireError::Short)
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, WireError>,
    ) -> Result<Option<T>, WireError> {
        match self.u8()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(WireError::Invalid("option")),
        }
    }

    /// Reads a list. It grows item by item, so that a false count allocates nothing.
    fn list<T>(
        &mut self,
        read: impl Fn(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let count = self.u32()?;
        (0..count).map(|_| read(self)).collect()
    }

    fn bytes(&mut self, what: &'static str, limit: usize) -> Result<Vec<u8>, WireError> {
        let size = self.u32()? as usize;
        if size > limit {
            return Err(WireError::TooLarge { what, size, limit });
        }
        let rest = self.bytes.as_slice();
        let value = rest.get(..size).ok_or(WireError::Short)?.to_vec();
        // At least `size` bytes are left, so this skips exactly `size`.
        self.bytes.by_ref().take(size).for_each(drop);
        Ok(value)
    }

    fn text(&mut self, what: &'static str, limit: usize) -> Result<String, WireError> {
        String::from_utf8(self.bytes(what, limit)?).map_err(|_| WireError::Invalid(what))
    }

    fn addr(&mut self) -> Result<String, WireError> {
        self.text("address", MAX_ADDR_BYTES)
    }

    fn cause(&mut self) -> Result<StartCause, WireError> {
        Ok(match self.u8()? {
            0 => StartCause::First,
            1 => StartCause::Planned,
            2 => StartCause::Crash {
                own_doing: match self.u8()? {
                    0 => false,
                    1 => true,
                    _ => return Err(WireError::Invalid("own_doing")),
                },
                detail: self.text("detail", MAX_REASON_BYTES)?,
            },
            3 => StartCause::Rollback {
                detail: self.text("detail", MAX_REASON_BYTES)?,
            },
            _ => return Err(WireError::Invalid("cause")),
        })
    }

    fn fd(&mut self) -> Result<OwnedFd, WireError> {
        self.fds
            .next()
            .ok_or_else(|| WireError::Descriptor("the frame carries too few".to_owned()))
    }

    fn config(&mut self) -> Result<ConfigBytes, WireError> {
        ConfigBytes::from_fd(self.fd()?).map_err(|error| WireError::Descriptor(error.to_string()))
    }

    fn connection(&mut self) -> Result<Connection, WireError> {
        Ok(Connection {
            prefix: self.bytes("prefix", MAX_PREFIX_BYTES)?,
            addr: self.addr()?,
            fd: self.fd()?,
        })
    }
}
