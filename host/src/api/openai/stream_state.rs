//! What a streaming client has been shown of an answer, and what it still lacks.

use crate::domain::Delta;

/// Stands between a text that is void and the one that takes its place: what was sent cannot be
/// taken back.
const ANEW: &str = "\n\n[the answer begins anew]\n\n";
/// Stands between what two model calls of a turn say, and between two messages of an output.
pub(super) const BETWEEN: &str = "\n\n";

/// What was shown so far.
#[derive(Default)]
pub(super) struct StreamState {
    /// All of it.
    all: String,
    /// Where in it the text of the last model call begins.
    block: usize,
    /// The attempt, step and request that speak now.
    speaker: Option<(u32, u32, u32)>,
    /// What they have said.
    text: String,
}

impl StreamState {
    /// What to show of a delta.
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
            // A new attempt repeats what was shown.
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

    /// What to show at the end of a turn with this output.
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

    /// What a client sees of these deltas and that output.
    fn seen(deltas: &[(u32, u32, &str)], output: &str) -> String {
        let mut said = StreamState::default();
        let mut seen = String::new();
        for (attempt, step, text) in deltas {
            seen += &said.delta(&Delta {
                text: (*text).to_owned(),
                turn: 1,
                attempt: *attempt,
                step: *step,
                request: 1,
            });
        }
        seen + &said.end(output)
    }

    #[test]
    fn one_model_call_is_shown_as_the_output() {
        assert_eq!(seen(&[], "abc"), "abc");
        assert_eq!(seen(&[(1, 1, "a"), (1, 1, "bc")], "abc"), "abc");
        assert_eq!(seen(&[(1, 1, "a")], "abc"), "abc");
        // Deltas behind a lag are missing; the end has them.
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
