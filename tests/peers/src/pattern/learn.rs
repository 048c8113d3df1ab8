//! The pattern of turns of which the changes are known.

use std::path::Path;

use abide::load::Texts;

use super::{Key, Pattern, Row, Value};
use crate::chat::{KEPT, TEXT_BYTES, name};

/// A family, a key in it, and what it is set to; none removes it.
pub(super) type Change = (String, Vec<u8>, Option<Vec<u8>>);

/// Turns that are had; the last is the pattern. More than a session keeps messages.
pub(super) const TURNS: u64 = KEPT + 5;
/// What the value of the record begins with that ends a turn.
pub(super) const ENDED: [u8; 2] = [6, 0];
/// The family of records.
pub(super) const LOG: &str = "log";

/// Whether a change is the record that ends a turn.
pub(super) fn ends((family, _, value): &Change) -> bool {
    let ended = value
        .as_ref()
        .is_some_and(|value| value.starts_with(&ENDED));
    family == LOG && ended
}

/// Where a part begins.
pub(super) fn find(whole: &[u8], part: &[u8]) -> Option<usize> {
    whole.windows(part.len()).position(|window| window == part)
}

/// Learns the pattern from as many turns as [`TURNS`].
pub(super) fn learn(database: &Path, turns: &[Vec<Change>]) -> Result<Pattern, String> {
    let id = name(0);
    let number = |rows: &[Change]| {
        let ended = rows.iter().rfind(|change| ends(change));
        let key = ended.map(|(_, key, _)| key)?;
        let number = key.get(id.len() + 1..)?.first_chunk()?;
        Some(u64::from_be_bytes(*number))
    };
    let [.., before, last] = turns else {
        return Err("there are not enough turns".to_owned());
    };
    let (Some(last_number), Some(number_before)) = (number(last), number(before)) else {
        return Err("a turn has no number".to_owned());
    };
    let stride = last_number - number_before;
    let texts = Texts::new(TEXT_BYTES);
    let said: Vec<String> = (0..KEPT)
        .map(|age| {
            let mut text = String::new();
            texts.write(0, TURNS - age, &mut text);
            text
        })
        .collect();
    let rows = last.iter().map(|(family, key, value)| {
        let at = find(key, id.as_bytes()).expect("only keys with the id were kept");
        let rest = &key[at + id.len()..];
        let numbered = rest.get(1..).and_then(|rest| rest.split_first_chunk());
        let base = TURNS * stride;
        let (number, behind) = match numbered {
            Some((number, behind)) => {
                let distance = u64::from_be_bytes(*number).wrapping_sub(base);
                (Some((rest[0], distance.cast_signed())), behind)
            }
            None => (None, rest),
        };
        Row {
            family: family.clone(),
            key: Key {
                before: key[..at].to_vec(),
                number,
                behind: behind.to_vec(),
            },
            value: value.as_ref().map(|bytes| Value {
                bytes: bytes.clone(),
                texts: places(bytes, &said),
            }),
        }
    });
    Ok(Pattern {
        like: database.to_owned(),
        stride,
        rows: rows.collect(),
    })
}

/// Where in a value which message stands.
fn places(bytes: &[u8], said: &[String]) -> Vec<(usize, usize)> {
    let places = said
        .iter()
        .enumerate()
        .filter_map(|(age, text)| Some((find(bytes, text.as_bytes())?, age)));
    places.collect()
}
