//! The known state of each session, and the check whether an answer's turn is its next one.

/// The known state of one session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadSession {
    /// The number of messages sent: they are numbered from 1 to this.
    pub messages: u64,
    /// The number of messages acknowledged as durable.
    pub acknowledged: u64,
    /// Messages that were sent but not acknowledged: they may have been accepted or not.
    pub unknown: Vec<u64>,
    /// The number of the last turn that is known, or is known to follow.
    turns: u64,
    /// The maximum number of further turns, from messages whose outcome is unknown.
    slack: u64,
}

/// How a turn's number relates to that of the turn before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberOrder {
    /// It is the next number.
    Next,
    /// That many turns that were reported are missing.
    Lost(u64),
    /// That many turns were not requested.
    Doubled(u64),
}

impl LoadSession {
    /// Creates a session that has had that many turns.
    pub fn after(turns: u64) -> Self {
        Self {
            turns,
            ..Self::default()
        }
    }

    /// Returns the number of the next message, and counts it as sent.
    pub(super) fn send(&mut self) -> u64 {
        self.messages += 1;
        self.messages
    }

    /// Records that the last message was definitely refused: its number is free again.
    pub(super) fn take_back(&mut self) {
        self.messages -= 1;
    }

    /// Records the number of the last message's turn, and returns whether it is the expected one.
    pub(super) fn ended(&mut self, turn: u64) -> NumberOrder {
        let expected = self.turns + 1;
        let order = if turn < expected {
            NumberOrder::Lost(expected - turn)
        } else if turn > expected + self.slack {
            NumberOrder::Doubled(turn - expected - self.slack)
        } else {
            NumberOrder::Next
        };
        // Each deviation is reported once: counting goes on from here.
        self.turns = turn;
        self.slack = 0;
        order
    }

    /// Records that the last message's turn will follow without being waited for.
    pub(super) fn left_behind(&mut self) {
        self.turns += 1;
    }

    /// Records that the outcome of the last message is unknown.
    pub(super) fn lost_sight(&mut self) {
        self.unknown.push(self.messages);
        self.slack += 1;
    }
}

/// All sessions of a run, by number. The sessions that one run returns can be passed to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadSessions(pub Vec<LoadSession>);

impl LoadSessions {
    /// Creates that many sessions without turns.
    pub fn fresh(count: usize) -> Self {
        Self(vec![LoadSession::default(); count])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_numbered_without_gaps() {
        let mut session = LoadSession::default();
        let orders: Vec<NumberOrder> = [1, 2, 2, 4, 1, 2]
            .map(|turn| {
                session.send();
                session.ended(turn)
            })
            .into();
        let expected = [
            NumberOrder::Next,
            NumberOrder::Next,
            NumberOrder::Lost(1),
            NumberOrder::Doubled(1),
            NumberOrder::Lost(4),
            NumberOrder::Next,
        ];
        assert_eq!(orders, expected);
        assert_eq!(session.messages, 6);
    }

    #[test]
    fn a_message_of_which_nobody_knows_may_have_had_its_turn() {
        for (turn, order) in [
            (5, NumberOrder::Lost(1)),
            (6, NumberOrder::Next),
            (7, NumberOrder::Next),
            (8, NumberOrder::Doubled(1)),
        ] {
            let mut session = LoadSession::after(5);
            session.send();
            session.lost_sight();
            session.send();
            assert_eq!(session.ended(turn), order, "{turn}");
            assert_eq!(session.unknown, [1]);
            session.send();
            assert_eq!(
                session.ended(turn + 2),
                NumberOrder::Doubled(1),
                "known again"
            );
        }
    }

    #[test]
    fn turns_that_nobody_waits_for_are_counted() {
        let mut session = LoadSession::default();
        session.send();
        session.left_behind();
        session.send();
        assert_eq!(session.ended(2), NumberOrder::Next);
    }
}
