//! Derives the pattern from turns whose changes are known.

use std::path::Path;

use abide::loadgen::Texts;

use super::{Key, Pattern, Row, Value};
use crate::chat::{KEPT, TEXT_BYTES, name};

/// A column family, a key in it, and the new value; `None` deletes the key.
pub(super) type KeyChange = (String, Vec<u8>, Option<Vec<u8>>);

/// Number of turns to take; the last one becomes the pattern. More turns than a session keeps
/// messages, so that the state has reached its full size.
pub(super) const TURNS: u64 = KEPT + 5;
/// The first bytes of the record that ends a turn.
pub(super) const ENDED: [u8; 2] = [6, 0];
/// The column family of records.
pub(super) const LOG: &str = "log";

/// Returns whether a change is the record that ends a turn.
pub(super) fn ends((family, _, value): &KeyChange) -> bool {
    let ended = value
        .as_ref()
        .is_some_and(|value| value.starts_with(&ENDED));
    family == LOG && ended
}

/// Returns the offset of `part` in `whole`.
pub(super) fn find(whole: &[u8], part: &[u8]) -> Option<usize> {
    whole.windows(part.len()).position(|window| window == part)
}

/// Splits what follows the id in a key: the byte that terminates the id, up to two numbers, and the
/// rest.
fn numbers(mut behind: &[u8]) -> (Option<u8>, Vec<u64>, &[u8]) {
    let mut numbers = Vec::new();
    let end = match behind {
        [end, rest @ ..] if rest.len() >= 8 => {
            behind = rest;
            Some(*end)
        }
        _ => None,
    };
    while let Some((number, rest)) = behind.split_first_chunk()
        && end.is_some()
        && numbers.len() < 2
    {
        numbers.push(u64::from_be_bytes(*number));
        behind = rest;
    }
    (end, numbers, behind)
}

/// Derives the pattern from [`TURNS`] turns.
pub(super) fn learn(database: &Path, turns: &[Vec<KeyChange>]) -> Result<Pattern, String> {
    let id = name(0);
    let position = |rows: &[KeyChange]| -> Option<[u64; 2]> {
        let (_, key, _) = rows.iter().rfind(|change| ends(change))?;
        numbers(&key[id.len()..]).1.first_chunk().copied()
    };
    let [.., before, last] = turns else {
        return Err("there are not enough turns".to_owned());
    };
    let (Some(now), Some(then)) = (position(last), position(before)) else {
        return Err("a turn has no position".to_owned());
    };
    let strides = [now[0] - then[0], now[1] - then[1]];
    let texts = Texts::new(TEXT_BYTES);
    let messages: Vec<String> = (0..KEPT)
        .map(|age| {
            let mut text = String::new();
            texts.write(0, TURNS - age, &mut text);
            text
        })
        .collect();
    let rows = last.iter().map(|(family, key, value)| {
        let at = find(key, id.as_bytes()).expect("only keys with the id were kept");
        let (end, counted, behind) = numbers(&key[at + id.len()..]);
        let bases = counted.iter().zip(strides);
        Row {
            family: family.clone(),
            key: Key {
                before: key[..at].to_vec(),
                end,
                numbers: bases
                    .map(|(number, stride)| number.wrapping_sub(TURNS * stride).cast_signed())
                    .collect(),
                behind: behind.to_vec(),
            },
            value: value.as_ref().map(|bytes| Value {
                bytes: bytes.clone(),
                texts: places(bytes, &messages),
            }),
        }
    });
    Ok(Pattern {
        like: database.to_owned(),
        strides,
        rows: rows.collect(),
    })
}

/// Returns the offset in a value of each message that it contains, with the message's age.
fn places(bytes: &[u8], said: &[String]) -> Vec<(usize, usize)> {
    let places = said
        .iter()
        .enumerate()
        .filter_map(|(age, text)| Some((find(bytes, text.as_bytes())?, age)));
    places.collect()
}
