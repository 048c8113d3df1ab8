//! Why a message between the supervisor and a worker cannot be read or written.

use std::fmt;

/// The version of the protocol.
pub(super) const VERSION: u8 = 1;

/// The reason why a message could not be encoded, or a frame could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireError {
    /// A part of the message is larger than its limit.
    TooLarge {
        /// The name of the part.
        what: &'static str,
        /// Its size, in bytes or items.
        size: usize,
        limit: usize,
    },
    /// The frame ends within a field.
    Short,
    /// The frame has another version of the protocol.
    Version(u8),
    /// The kind of the message is unknown to this version. The message can be ignored.
    UnknownKind(u8),
    /// The field of this name has an invalid value.
    Invalid(&'static str),
    /// A descriptor is missing, or is not of the expected type.
    Descriptor(String),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { what, size, limit } => {
                write!(
                    f,
                    "{what} has a size of {size}, more than the {limit} allowed"
                )
            }
            Self::Short => write!(f, "the frame ends within a field"),
            Self::Version(version) => write!(
                f,
                "the frame speaks version {version} of the supervisor's protocol, this side \
                 {VERSION}; restart the daemon as a whole"
            ),
            Self::UnknownKind(kind) => write!(f, "kind {kind} is not known"),
            Self::Invalid(field) => write!(f, "the field {field} holds what it cannot"),
            Self::Descriptor(reason) => write!(f, "a descriptor is missing or wrong: {reason}"),
        }
    }
}

impl std::error::Error for WireError {}
