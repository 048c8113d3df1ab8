//! Checksums of small files beside the store, which versions of Abide that know of none read as before. A
//! file without one, of such a version, counts as whole.

/// What the JSON text of an object begins with, once it has a checksum: the CRC-32C of the text without this
/// line.
const FIELD: &str = "{\n  \"crc32c\": \"";
const FIELD_END: &str = "\",\n";
/// What the checksum of other bytes begins with, behind them: the CRC-32C of all before.
const TRAILER: &[u8] = b"\0crc32c\0";

/// The content is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its content does not fit its checksum")]
pub(crate) struct Unfit;

/// Adds a checksum to the pretty JSON text of an object with fields.
pub(crate) fn seal_json(text: &str) -> String {
    let fields = text.strip_prefix("{\n").unwrap_or(text);
    let crc = crc32c::crc32c(text.as_bytes());
    format!("{FIELD}{crc:08x}{FIELD_END}{fields}")
}

/// Fails if the text has another checksum than it should have. To its reader it is one more field.
pub(crate) fn check_json(text: &[u8]) -> Result<(), Unfit> {
    let sealed = text.strip_prefix(FIELD.as_bytes()).and_then(|rest| {
        let (crc, rest) = rest.split_at_checked(8)?;
        let fields = rest.strip_prefix(FIELD_END.as_bytes())?;
        Some((crc, fields))
    });
    let Some((crc, fields)) = sealed else {
        return Ok(());
    };
    let is_crc = crc32c::crc32c_append(crc32c::crc32c(b"{\n"), fields);
    match format!("{is_crc:08x}").as_bytes() == crc {
        true => Ok(()),
        false => Err(Unfit),
    }
}

/// Adds a checksum to bytes whose reader ignores what is behind them.
pub(crate) fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend_from_slice(TRAILER);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

/// Returns the bytes without their checksum, which must fit.
pub(crate) fn unseal(bytes: &[u8]) -> Result<&[u8], Unfit> {
    let sealed = bytes
        .split_last_chunk::<4>()
        .and_then(|(before, crc)| Some((before, crc, before.strip_suffix(TRAILER)?)));
    match sealed {
        None => Ok(bytes),
        Some((before, crc, content)) if crc32c::crc32c(before) == u32::from_le_bytes(*crc) => {
            Ok(content)
        }
        Some(_) => Err(Unfit),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_flipped_bit_of_bytes_is_noticed_or_does_no_harm() {
        let sealed = seal(b"content".to_vec());
        assert_eq!(unseal(&sealed), Ok(&b"content"[..]));
        assert_eq!(unseal(b"older"), Ok(&b"older"[..]));
        for bit in 0..8 * sealed.len() {
            let mut bytes = sealed.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = unseal(&bytes);
            assert!(
                read.is_err_and(|_| true) || bytes.starts_with(b"content"),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn a_flipped_bit_of_json_is_noticed_or_does_no_harm() {
        let value = json!({"limits": {"memory": 7}, "grants": ["a"]});
        let text = serde_json::to_string_pretty(&value).unwrap();
        let sealed = seal_json(&text);
        assert_eq!(check_json(sealed.as_bytes()), Ok(()));
        assert_eq!(check_json(text.as_bytes()), Ok(()), "an older one");
        let read: Value = serde_json::from_str(&sealed).unwrap();
        assert_eq!(read["limits"], value["limits"]);
        for bit in 0..8 * sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if check_json(&bytes).is_err() {
                continue;
            }
            // A flip in the line of the checksum itself may leave it unknown, or the text no JSON.
            if let Ok(read) = serde_json::from_slice::<Value>(&bytes) {
                assert_eq!(read["limits"], value["limits"], "bit {bit}");
                assert_eq!(read["grants"], value["grants"], "bit {bit}");
            }
        }
    }
}
