//! What a streaming client has received of an answer, and what it still lacks.

use crate::domain::Delta;

/// Separates a text that has become void from its replacement: what was sent cannot be taken back.
const ANEW: &str = "\n\n[the answer begins anew]\n\n";
/// Separates the texts of two model calls of a turn, and two messages of an output.
pub(super) const BETWEEN: &str = "\n\n";

/// The state of one streamed answer.
#[derive(Default)]
pub(super) struct StreamState {
    /// Everything that was sent.
    all: String,
    /// Where the text of the last model call begins in `all`.
    block: usize,
    /// The attempt, step and request that the latest delta belongs to.
    speaker: Option<(u32, u32, u32)>,
    /// Their text so far.
    text: String,
}

impl StreamState {
    /// Takes a delta. Returns the text to send for it.
    pub(super) fn delta(&mut self, delta: &Delta) -> String {
        let speaker = (delta.attempt, delta.step, delta.request);
        if self.speaker != Some(speaker) {
            let goes_on = self
                .speaker
                .is_some_and(|(attempt, step, _)| attempt == delta.attempt && step < delta.step);
            self.speaker = Some(speaker);
            self.text.clear();
            if goes_on && self.block < self.all.len() {
                self.text.push_str(&delta.text);
                let sent = format!("{BETWEEN}{}", delta.text);
                self.all.push_str(&sent);
                self.block = self.all.len() - delta.text.len();
                return sent;
            }
        }
        self.text.push_str(&delta.text);
        let shown = &self.all[self.block..];
        if shown.starts_with(&self.text) {
            // A new attempt repeats what was sent before.
            return String::new();
        }
        let sent = match self.text.strip_prefix(shown) {
            Some(more) => more.to_owned(),
            None => format!("{ANEW}{}", self.text),
        };
        self.all.push_str(&sent);
        if sent.starts_with(ANEW) && sent.len() == ANEW.len() + self.text.len() {
            self.block = self.all.len() - self.text.len();
        }
        sent
    }

    /// Returns the text to send at the end of a turn with this output.
    pub(super) fn end(&self, output: &str) -> String {
        let block = &self.all[self.block..];
        if let Some(more) = output.strip_prefix(self.all.as_str()) {
            more.to_owned()
        } else if let Some(more) = output.strip_prefix(block) {
            more.to_owned()
        } else if output.is_empty() || output.ends_with(block) {
            String::new()
        } else {
            format!("{ANEW}{output}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what a client sees of these deltas and this output.
    fn seen(deltas: &[(u32, u32, &str)], output: &str) -> String {
        let mut state = StreamState::default();
        let mut seen = String::new();
        for (attempt, step, text) in deltas {
            seen += &state.delta(&Delta {
                text: (*text).to_owned(),
                turn: 1,
                attempt: *attempt,
                step: *step,
                request: 1,
            });
        }
        seen + &state.end(output)
    }

    #[test]
    fn one_model_call_is_shown_as_the_output() {
        assert_eq!(seen(&[], "abc"), "abc");
        assert_eq!(seen(&[(1, 1, "a"), (1, 1, "bc")], "abc"), "abc");
        assert_eq!(seen(&[(1, 1, "a")], "abc"), "abc");
        // Deltas that were lost to a lag are missing; the end contains them.
        assert_eq!(seen(&[(1, 1, "a"), (1, 1, "b")], "abc"), "abc");
    }

    #[test]
    fn a_new_attempt_goes_on_where_it_says_the_same() {
        let same = [(1, 1, "abc"), (2, 1, "a"), (2, 1, "bcd")];
        assert_eq!(seen(&same, "abcd"), "abcd");
        let other = [(1, 1, "abc"), (2, 1, "a"), (2, 1, "x"), (2, 1, "y")];
        assert_eq!(seen(&other, "axy"), format!("abc{ANEW}axy"));
    }

    #[test]
    fn each_model_call_of_a_turn_is_shown() {
        let calls = [(1, 1, "look"), (1, 3, "a"), (1, 3, "b")];
        assert_eq!(seen(&calls, "ab"), format!("look{BETWEEN}ab"));
        assert_eq!(seen(&calls, "look\n\nab"), "look\n\nab");
        assert_eq!(seen(&calls, "else"), format!("look\n\nab{ANEW}else"));
    }
}
