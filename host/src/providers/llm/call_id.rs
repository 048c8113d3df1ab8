//! Ids of tool calls that the strictest servers accept. Mistral's servers demand nine letters and
//! digits, others demand that each id is unique in the conversation. Ids that servers assign
//! themselves satisfy neither rule.

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};

/// The length that Mistral's servers demand.
const LENGTH: usize = 9;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Derives an id that is not in `taken`, and adds it there. Given the same `taken`, the same seed
/// yields the same id, so that a repeated request is byte-identical.
pub(super) fn call_id(seed: &str, taken: &mut HashSet<String>) -> String {
    let mut collisions: u64 = 0;
    loop {
        let id = derive(seed, collisions);
        if taken.insert(id.clone()) {
            return id;
        }
        collisions += 1;
    }
}

fn derive(seed: &str, collisions: u64) -> String {
    let mut hash = Sha256::new();
    hash.update(seed);
    if collisions > 0 {
        // The suffix has a fixed length, so that no other seed yields the same bytes by ending in
        // it.
        hash.update([0]);
        hash.update(collisions.to_be_bytes());
    }
    // The modulo bias is harmless: ids need not be hard to guess.
    let letters = hash.finalize().into_iter().take(LENGTH);
    letters
        .map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_are_acceptable_unique_and_the_same_again(seeds in prop::collection::vec(".{0,20}", 0..50)) {
            let ids = || {
                let mut taken = HashSet::new();
                let ids = seeds.iter().map(|seed| call_id(seed, &mut taken));
                ids.collect::<Vec<_>>()
            };
            let first = ids();
            prop_assert_eq!(&first, &ids());
            let unique: HashSet<&String> = first.iter().collect();
            prop_assert_eq!(unique.len(), seeds.len());
            for id in &first {
                prop_assert_eq!(id.len(), LENGTH);
                prop_assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
            }
        }
    }

    #[test]
    fn an_id_that_stands_in_the_conversation_is_not_given_again() {
        let mut taken = HashSet::from([call_id("a", &mut HashSet::new())]);
        let other = call_id("a", &mut taken);
        assert_eq!(taken.len(), 2);
        assert!(taken.contains(&other));
    }
}
