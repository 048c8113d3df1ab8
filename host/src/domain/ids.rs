//! Identifiers, each validated where it enters the daemon.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest session id, in bytes.
pub const SESSION_ID_MAX_BYTES: usize = 256;
/// The longest plugin, provider, timer or event name, in bytes.
pub const NAME_MAX_BYTES: usize = 128;

/// A session's id: chosen by the client, 1 to 256 bytes of UTF-8 without control characters, and
/// neither `.` nor `..` (both vanish from a URL's path). It may contain `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[serde(transparent)]
#[schema(
    value_type = String,
    min_length = 1,
    max_length = 256,
    // All but control characters, and neither `.` nor `..`.
    pattern = r"^([^\x00-\x1f\x7f-\x9f]*[^.\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*|\.{3,})$"
)]
pub struct SessionId(Arc<str>);

/// Why a text is no valid session id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSessionId {
    /// It is empty.
    #[error("a session id cannot be empty; choose one of 1 to {SESSION_ID_MAX_BYTES} bytes")]
    Empty,
    /// It is longer than [`SESSION_ID_MAX_BYTES`].
    #[error(
        "a session id of {bytes} bytes is too long; at most {SESSION_ID_MAX_BYTES} are allowed"
    )]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// It is `.` or `..`.
    #[error(
        "`{0}` cannot be a session id, since it has a meaning of its own in URLs; choose another"
    )]
    Dots(String),
    /// It contains a control character.
    #[error("a session id cannot hold control characters (there is one at byte {at}); remove it")]
    Control {
        /// The byte offset of the character.
        at: usize,
    },
}

impl SessionId {
    /// Validates a session id.
    pub fn new(id: impl Into<String>) -> Result<Self, BadSessionId> {
        let id = id.into();
        if id.is_empty() {
            return Err(BadSessionId::Empty);
        }
        if id.len() > SESSION_ID_MAX_BYTES {
            return Err(BadSessionId::TooLong { bytes: id.len() });
        }
        if id == "." || id == ".." {
            return Err(BadSessionId::Dots(id));
        }
        if let Some((at, _)) = id.char_indices().find(|(_, c)| c.is_control()) {
            return Err(BadSessionId::Control { at });
        }
        Ok(Self(id.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// The number of a worker's lifetime: 1 at the first boot, and one more at each restart, whatever
/// its cause. Numbers are never reused; a restart that was refused leaves a gap.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(transparent)]
#[schema(value_type = u64)]
pub struct Generation(pub u64);

impl Generation {
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of characters of a timeline's name.
const TIMELINE_NAME_CHARS: usize = 8;
/// The characters of a timeline's name, without those that are mistaken for others. The letters
/// come first: a name begins with one, so that it is never mistaken for a number.
const TIMELINE_ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstvwxyz0123456789";
const TIMELINE_LETTERS: u64 = 22;

/// The name of a timeline of a session: what follows a cut of its history. It is drawn, not
/// counted: two restores of one backup begin different timelines.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, pattern = "^[a-hjkmnp-tv-z][a-hjkmnp-tv-z0-9]{7}$")]
pub struct TimelineName(String);

impl TimelineName {
    /// Makes a name of 64 random bits.
    pub fn draw(random: u64) -> Self {
        let mut rest = random / TIMELINE_LETTERS;
        let later = (1..TIMELINE_NAME_CHARS).map(|_| {
            let index = rest % 32;
            rest /= 32;
            index
        });
        let indices = std::iter::once(random % TIMELINE_LETTERS).chain(later);
        Self(
            indices
                .map(|index| char::from(TIMELINE_ALPHABET[index as usize]))
                .collect(),
        )
    }

    /// Parses a name; none if no timeline can have it.
    pub fn parse(text: &str) -> Option<Self> {
        let known = |byte: u8| TIMELINE_ALPHABET.contains(&byte);
        let fits = text.len() == TIMELINE_NAME_CHARS
            && text.bytes().all(known)
            && text.starts_with(|first: char| first.is_ascii_lowercase());
        fits.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TimelineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TimelineName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no timeline's name")))
    }
}

/// The id of a message within its session: `m` and the cursor of its event, so that it is unique
/// without randomness. On a later timeline than the first, the timeline's name stands before it, for
/// the same cursor may have been used in the history that was lost: `T.m7`.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(transparent)]
#[schema(value_type = String, pattern = r"^([a-hjkmnp-tv-z][a-hjkmnp-tv-z0-9]{7}\.)?m[0-9]{1,18}$")]
pub struct MessageId(Arc<str>);

impl MessageId {
    /// Returns the id of the message whose event has this cursor on a timeline; `None` is the first.
    pub fn on(timeline: Option<&TimelineName>, cursor: u64) -> Self {
        let text = match timeline {
            None => format!("m{cursor}"),
            Some(timeline) => format!("{timeline}.m{cursor}"),
        };
        Self(text.into())
    }

    /// Returns the cursor that the id contains, if it has the form of [`MessageId::on`]. Within one
    /// log it identifies the message; an id from outside may be of history that was lost.
    pub fn cursor(&self) -> Option<u64> {
        let number = match self.0.split_once('.') {
            None => &*self.0,
            Some((timeline, number)) => {
                TimelineName::parse(timeline)?;
                number
            }
        };
        number.strip_prefix('m')?.parse().ok()
    }

    /// Takes an id that a client sent; there may be no such message.
    pub fn from_client(text: impl Into<String>) -> Self {
        Self(text.into().into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A SHA-256 digest: of a component's bytes, or of the configuration file's. It is hexadecimal for
/// humans, 32 bytes in records.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, utoipa::ToSchema)]
#[schema(value_type = String, min_length = 64, max_length = 64)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Computes the digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Takes a digest that was computed elsewhere.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Parses 64 hexadecimal digits; none if `text` is anything else.
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// Returns the first 12 hexadecimal digits: enough for a human to distinguish digests.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DigestVisitor;
        impl serde::de::Visitor<'_> for DigestVisitor {
            type Value = Digest;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a SHA-256, as 64 hexadecimal digits or 32 bytes")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Digest, E> {
                Digest::from_hex(text)
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Digest, E> {
                let bytes = bytes
                    .try_into()
                    .map_err(|_| E::invalid_length(bytes.len(), &self))?;
                Ok(Digest(bytes))
            }
        }
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(DigestVisitor)
        } else {
            deserializer.deserialize_bytes(DigestVisitor)
        }
    }
}
