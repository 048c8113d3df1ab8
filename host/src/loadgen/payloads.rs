//! The texts of messages: all different, and reproducible.

use std::fmt::Write as _;

/// The period of the filler, in bytes.
const FILLER_BYTES: usize = 4096;

/// Generates the text of any message of any session, the same each time.
#[derive(Clone, Debug)]
pub struct Texts {
    filler: String,
    bytes: usize,
}

impl Texts {
    /// Creates texts of that many bytes; longer ones if the numbers in them need more.
    pub fn new(bytes: usize) -> Self {
        // A fixed pseudo-random sequence (xorshift), in which compression finds no pattern.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let filler = (0..FILLER_BYTES + bytes).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            match state >> 59 {
                letter @ 0..26 => char::from(b'a' + letter as u8),
                _ => ' ',
            }
        });
        Self {
            filler: filler.collect(),
            bytes,
        }
    }

    /// Replaces the content of `to` with the text of a session's message. No two messages of one
    /// session have the same text.
    pub fn write(&self, session: usize, message: u64, to: &mut String) {
        to.clear();
        // Writing to a string cannot fail.
        let _ = write!(to, "{message} {session} ");
        if let Some(rest) = self.bytes.checked_sub(to.len()) {
            let from = (message as usize * 31 + session * 17) % FILLER_BYTES;
            to.push_str(&self.filler[from..from + rest]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_their_length_and_differ() {
        let texts = Texts::new(40);
        let mut seen = std::collections::HashSet::new();
        let mut text = String::new();
        for (session, message) in [(0, 1), (0, 2), (1, 1), (1, 12), (999, 123_456_789)] {
            texts.write(session, message, &mut text);
            assert_eq!(text.len(), 40, "{text}");
            let plain = |c: u8| c.is_ascii_alphanumeric() || c == b' ';
            assert!(text.bytes().all(plain), "{text}");
            assert!(seen.insert(text.clone()), "{text}");
            let mut again = String::from("what was there");
            Texts::new(40).write(session, message, &mut again);
            assert_eq!(again, text);
        }
    }

    #[test]
    fn numbers_are_never_cut() {
        let mut text = String::new();
        Texts::new(1).write(1000, 77, &mut text);
        assert_eq!(text, "77 1000 ");
    }
}
