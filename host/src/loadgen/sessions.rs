//! What each session is known to have done, and whether an answer is its next one.

/// What is known of one session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadSession {
    /// Messages that were sent: their numbers are 1 to this.
    pub messages: u64,
    /// How many of them were acknowledged as durable.
    pub acknowledged: u64,
    /// Those that were sent and not acknowledged: they may be there or not.
    pub unknown: Vec<u64>,
    /// The number of the last turn that is known, or known to come.
    turns: u64,
    /// How many turns more there may be, by messages of which nobody knows.
    slack: u64,
}

/// How a turn's number follows the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberOrder {
    /// As it must.
    Next,
    /// So many turns that were told are there no more.
    Lost(u64),
    /// So many turns that nobody asked for.
    Doubled(u64),
}

impl LoadSession {
    /// A session that has had so many turns.
    pub fn after(turns: u64) -> Self {
        Self {
            turns,
            ..Self::default()
        }
    }

    /// The next message's number.
    pub(super) fn send(&mut self) -> u64 {
        self.messages += 1;
        self.messages
    }

    /// The last message was refused, for certain: its number is free again.
    pub(super) fn take_back(&mut self) {
        self.messages -= 1;
    }

    /// The last message's turn has that number.
    pub(super) fn ended(&mut self, turn: u64) -> NumberOrder {
        let expected = self.turns + 1;
        let order = if turn < expected {
            NumberOrder::Lost(expected - turn)
        } else if turn > expected + self.slack {
            NumberOrder::Doubled(turn - expected - self.slack)
        } else {
            NumberOrder::Next
        };
        // What went wrong is told once: it goes on from here.
        self.turns = turn;
        self.slack = 0;
        order
    }

    /// The last message's turn will come, and nobody waits for it.
    pub(super) fn left_behind(&mut self) {
        self.turns += 1;
    }

    /// Nobody knows what became of the last message.
    pub(super) fn lost_sight(&mut self) {
        self.unknown.push(self.messages);
        self.slack += 1;
    }
}

/// All sessions of a run, by number. What a run hands back can be given to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadSessions(pub Vec<LoadSession>);

impl LoadSessions {
    /// So many sessions that have had no turn.
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
        let told: Vec<NumberOrder> = [1, 2, 2, 4, 1, 2]
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
        assert_eq!(told, expected);
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
