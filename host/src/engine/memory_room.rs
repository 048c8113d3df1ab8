//! Who of the guests holds how much memory, who waits for some, and who may begin. This code is pure;
//! [`GuestMemory`](super::guest_memory::GuestMemory) puts a lock and wakers around it.
//!
//! ```text
//!   0 .................................................... budget
//!   | large holders                            |  the lane (1/8) |
//!   |                                          |  small holders, |
//!   |                       <-- more small ones|  which never    |
//!   |                           where there is |  queue behind   |
//!   |                           room           |  a large one    |
//! ```
//!
//! | who asks | is admitted |
//! |---|---|
//! | a small one (at most 1/32 of the budget) | while small ones hold no more than the lane; beyond it in its turn, where there is room |
//! | a large one | in its turn, where there is room beside the lane; or if no other large one holds anything, whatever its size |
//!
//! So a session that needs little is answered while large ones wait for minutes, and one that needs
//! more than the whole budget runs, alone but for small ones. "In its turn" means in the order of the
//! requests: none that waits is overtaken, save by small ones within the lane.

use std::collections::VecDeque;

/// The share of the budget that only small holders use: one part of this many.
const LANE_PART: u64 = 8;
/// The share of the budget up to which a holder is small: one part of this many.
const SMALL_PART: u64 = 32;

/// The number of a request that waits, in the order of the requests.
pub(super) type Ticket = u64;

/// What one holder has of the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeldMemory {
    bytes: u64,
    /// Decided when it was admitted or grew: a budget that changes later does not move it.
    is_small: bool,
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub(super) struct MemoryRoom {
    budget: u64,
    small: u64,
    large: u64,
    waiting_small: VecDeque<(Ticket, u64)>,
    waiting_large: VecDeque<(Ticket, u64)>,
    next: Ticket,
}

impl HeldMemory {
    pub(super) fn bytes(self) -> u64 {
        self.bytes
    }
}

impl MemoryRoom {
    pub(super) fn new(budget: u64) -> Self {
        Self {
            budget,
            small: 0,
            large: 0,
            waiting_small: VecDeque::new(),
            waiting_large: VecDeque::new(),
            next: 0,
        }
    }

    pub(super) fn budget(&self) -> u64 {
        self.budget
    }

    pub(super) fn reserved(&self) -> u64 {
        self.small.saturating_add(self.large)
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting_small.len() + self.waiting_large.len()
    }

    /// Changes the budget. Holders keep what they have; those that wait are sorted anew.
    pub(super) fn set_budget(&mut self, budget: u64) {
        self.budget = budget;
        let small = std::mem::take(&mut self.waiting_small);
        let large = std::mem::take(&mut self.waiting_large);
        let mut all: Vec<_> = small.into_iter().chain(large).collect();
        all.sort_unstable();
        for (ticket, bytes) in all {
            self.queue(bytes).push_back((ticket, bytes));
        }
    }

    /// Lines up for memory. [`MemoryRoom::admit_next`] must be called afterwards, and after each
    /// other change, until it returns nothing.
    pub(super) fn ask(&mut self, bytes: u64) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        self.queue(bytes).push_back((ticket, bytes));
        ticket
    }

    /// Admits a request that need not wait: it would be the next one that [`MemoryRoom::admit_next`]
    /// returns, provided that this has returned nothing before.
    pub(super) fn admit_at_once(&mut self, bytes: u64) -> Option<HeldMemory> {
        let is_small = self.is_small(bytes);
        let no_large_waits = self.waiting_large.is_empty();
        let begins = match is_small {
            true => {
                self.waiting_small.is_empty()
                    && (self.fits_lane(bytes) || no_large_waits && self.fits(bytes, true))
            }
            false => no_large_waits && self.fits(bytes, false),
        };
        begins.then(|| self.hold(bytes, is_small))
    }

    /// Removes a request that waits; does nothing if it was admitted.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        self.waiting_small.retain(|(waits, _)| *waits != ticket);
        self.waiting_large.retain(|(waits, _)| *waits != ticket);
    }

    /// Admits the next request that may begin, if there is one.
    pub(super) fn admit_next(&mut self) -> Option<(Ticket, HeldMemory)> {
        let (small, large) = (
            self.waiting_small.front().copied(),
            self.waiting_large.front().copied(),
        );
        if let Some((ticket, bytes)) = small {
            let in_turn = large.is_none_or(|(first, _)| ticket < first);
            if self.fits_lane(bytes) || in_turn && self.fits(bytes, true) {
                self.waiting_small.pop_front();
                return Some((ticket, self.hold(bytes, true)));
            }
        }
        // Where a small one that came earlier does not fit, neither does this one.
        if let Some((ticket, bytes)) = large
            && self.fits(bytes, false)
        {
            self.waiting_large.pop_front();
            return Some((ticket, self.hold(bytes, false)));
        }
        None
    }

    /// Extends what is held to `bytes` in all, if there is room. Those that wait need not be asked:
    /// who runs ends the sooner for it. But a small one that becomes large must not overtake the
    /// large ones that wait.
    pub(super) fn grow(&mut self, held: &mut HeldMemory, bytes: u64) -> bool {
        if bytes <= held.bytes {
            return true;
        }
        let stays_small = held.is_small && self.is_small(bytes);
        self.release(*held);
        let fits = match stays_small {
            true => self.fits_lane(bytes) || self.fits(bytes, true),
            false if held.is_small && !self.waiting_large.is_empty() => false,
            false => self.fits(bytes, false),
        };
        *held = match fits {
            true => self.hold(bytes, stays_small),
            false => self.hold(held.bytes, held.is_small),
        };
        fits
    }

    pub(super) fn release(&mut self, held: HeldMemory) {
        let sum = self.sum(held.is_small);
        *sum = sum.saturating_sub(held.bytes);
    }

    fn hold(&mut self, bytes: u64, is_small: bool) -> HeldMemory {
        let sum = self.sum(is_small);
        *sum = sum.saturating_add(bytes);
        HeldMemory { bytes, is_small }
    }

    fn sum(&mut self, is_small: bool) -> &mut u64 {
        match is_small {
            true => &mut self.small,
            false => &mut self.large,
        }
    }

    fn queue(&mut self, bytes: u64) -> &mut VecDeque<(Ticket, u64)> {
        match self.is_small(bytes) {
            true => &mut self.waiting_small,
            false => &mut self.waiting_large,
        }
    }

    fn is_small(&self, bytes: u64) -> bool {
        bytes <= self.budget / SMALL_PART
    }

    fn lane(&self) -> u64 {
        self.budget / LANE_PART
    }

    fn fits_lane(&self, bytes: u64) -> bool {
        self.small.saturating_add(bytes) <= self.lane()
    }

    fn fits(&self, bytes: u64, is_small: bool) -> bool {
        if is_small {
            return self.reserved().saturating_add(bytes) <= self.budget;
        }
        let small = self.small.max(self.lane());
        let all = self.large.saturating_add(bytes).saturating_add(small);
        all <= self.budget || self.large == 0 && self.small <= self.lane()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A room, who holds what in it, and who waits.
    struct Scene {
        room: MemoryRoom,
        held: Vec<(Ticket, HeldMemory)>,
    }

    impl Scene {
        fn new(budget: u64) -> Self {
            let room = MemoryRoom::new(budget);
            Self {
                room,
                held: Vec::new(),
            }
        }

        /// Returns those that were admitted.
        fn settle(&mut self) -> Vec<Ticket> {
            let admitted: Vec<_> = std::iter::from_fn(|| self.room.admit_next()).collect();
            self.held.extend(&admitted);
            admitted.into_iter().map(|(ticket, _)| ticket).collect()
        }

        fn ask(&mut self, bytes: u64) -> (Ticket, bool) {
            let at_once = self.room.clone().admit_at_once(bytes);
            let ticket = self.room.ask(bytes);
            let admitted = self.settle().contains(&ticket);
            let held = self.held.iter().find(|(holds, _)| *holds == ticket);
            assert_eq!(at_once, held.map(|(_, held)| *held));
            (ticket, admitted)
        }

        fn end(&mut self, ticket: Ticket) -> Vec<Ticket> {
            let at = self.held.iter().position(|(held, _)| *held == ticket);
            let (_, held) = self.held.remove(at.expect("it holds something"));
            self.room.release(held);
            self.settle()
        }

        fn grow(&mut self, ticket: Ticket, bytes: u64) -> bool {
            let held = self.held.iter_mut().find(|(held, _)| *held == ticket);
            let (_, held) = held.expect("it holds something");
            self.room.grow(held, bytes)
        }
    }

    #[test]
    fn large_ones_wait_in_their_order_and_a_small_one_finds_its_lane() {
        let mut scene = Scene::new(3200);
        let (first, admitted) = scene.ask(2000);
        assert!(admitted);
        let (second, admitted) = scene.ask(1000);
        assert!(!admitted, "the lane of 400 stays free");
        let (third, admitted) = scene.ask(500);
        assert!(!admitted, "it would overtake the second");
        for _ in 0..4 {
            assert!(scene.ask(100).1);
        }
        let (beyond, admitted) = scene.ask(100);
        assert!(!admitted, "beyond the lane it waits in its turn");
        assert_eq!(scene.room.waiting(), 3);
        assert_eq!(scene.end(first), [second, third, beyond]);
    }

    #[test]
    fn one_that_needs_more_than_the_budget_runs_alone_and_is_never_refused() {
        let mut scene = Scene::new(3200);
        let (small, _) = scene.ask(100);
        let (first, _) = scene.ask(200);
        let (huge, admitted) = scene.ask(9000);
        assert!(!admitted);
        let (later, admitted) = scene.ask(200);
        assert!(!admitted, "or the huge one might wait for ever");
        assert_eq!(scene.end(first), [huge]);
        assert!(scene.grow(huge, 90_000));
        assert!(scene.ask(100).1 && scene.grow(small, 90));
        assert_eq!(scene.end(huge), [later]);
    }

    #[test]
    fn growth_takes_the_room_that_is_there_but_a_small_one_does_not_jump_the_queue() {
        let mut scene = Scene::new(3200);
        let (large, _) = scene.ask(1000);
        let (small, _) = scene.ask(50);
        assert!(scene.grow(small, 100) && scene.grow(large, 2000));
        assert!(scene.grow(small, 300), "nobody waits");
        assert!(!scene.grow(large, 2800));
        assert!(scene.grow(large, 2500));
        assert_eq!(scene.room.reserved(), 2800);
        let (small, _) = scene.ask(50);
        let (waits, admitted) = scene.ask(1000);
        assert!(!admitted);
        assert!(!scene.grow(small, 101));
        scene.room.leave(waits);
        assert!(!scene.grow(small, 101) && scene.room.waiting() == 0);
    }

    #[test]
    fn another_budget_counts_at_once() {
        let mut scene = Scene::new(3200);
        scene.ask(2000);
        let (waits, _) = scene.ask(1500);
        scene.room.set_budget(6400);
        assert_eq!(scene.settle(), [waits]);
        scene.room.set_budget(0);
        assert!(!scene.ask(1).1);
        assert!(!scene.grow(waits, 1501) && scene.room.reserved() == 3500);
    }

    mod histories {
        use super::*;
        use proptest::prelude::*;

        #[derive(Clone, Debug)]
        enum Move {
            Ask(u64),
            Leave(usize),
            Grow(usize, u64),
            End(usize),
        }

        fn moves() -> impl Strategy<Value = Move> {
            let bytes = || prop_oneof![1..100_u64, 1..1_000_u64, 1..5_000_u64];
            prop_oneof![
                4 => bytes().prop_map(Move::Ask),
                1 => (0..9_usize).prop_map(Move::Leave),
                2 => (0..9_usize, bytes()).prop_map(|(who, by)| Move::Grow(who, by)),
                3 => (0..9_usize).prop_map(Move::End),
            ]
        }

        proptest! {
            #[test]
            fn what_is_held_keeps_to_the_budget_and_nobody_waits_for_ever(
                budget in 0..3_300_u64,
                history in proptest::collection::vec(moves(), 1..80)
            ) {
                let mut scene = Scene::new(budget);
                let mut waiting: Vec<(Ticket, u64)> = Vec::new();
                for one in history {
                    let before = scene.held.len();
                    let (mut asked, mut at_once) = (None, None);
                    match one {
                        Move::Ask(bytes) => {
                            at_once = scene.room.clone().admit_at_once(bytes);
                            let ticket = scene.room.ask(bytes);
                            asked = Some(ticket);
                            waiting.push((ticket, bytes));
                        }
                        Move::Leave(who) if who < waiting.len() => {
                            scene.room.leave(waiting.remove(who).0);
                        }
                        Move::Grow(who, by) if who < before => {
                            let (ticket, held) = scene.held[who];
                            scene.grow(ticket, held.bytes() + by);
                        }
                        Move::End(who) if who < before => {
                            let (_, held) = scene.held.remove(who);
                            scene.room.release(held);
                        }
                        _ => {}
                    }
                    let queued_large = |waiting: &[(Ticket, u64)]| {
                        waiting.iter().find(|(_, bytes)| *bytes > budget / 32).copied()
                    };
                    while let Some((ticket, held)) = scene.room.admit_next() {
                        let first = queued_large(&waiting);
                        if held.is_small {
                            let overtakes = first.is_some_and(|(first, _)| first < ticket);
                            prop_assert!(!overtakes || scene.room.small <= scene.room.lane());
                        } else {
                            prop_assert_eq!(first.map(|(first, _)| first), Some(ticket));
                        }
                        waiting.retain(|(waits, _)| *waits != ticket);
                        scene.held.push((ticket, held));
                    }
                    if let Some(asked) = asked {
                        let held = scene.held.iter().find(|(holds, _)| *holds == asked);
                        prop_assert_eq!(at_once, held.map(|(_, held)| *held));
                    }
                    let sum = |small: bool| -> u64 {
                        let held = scene.held.iter().map(|(_, held)| held);
                        held.filter(|held| held.is_small == small).map(|held| held.bytes()).sum()
                    };
                    prop_assert_eq!((sum(true), sum(false)), (scene.room.small, scene.room.large));
                    let large = scene.held.iter().filter(|(_, held)| !held.is_small).count();
                    prop_assert!(large <= 1 || scene.room.reserved() <= budget);
                    prop_assert_eq!(scene.room.waiting(), waiting.len());
                    prop_assert!(!scene.held.is_empty() || waiting.is_empty());
                }
                // Everybody who holds something ends at some time.
                while let Some((_, held)) = scene.held.pop() {
                    scene.room.release(held);
                    scene.settle();
                }
                prop_assert_eq!((scene.room.waiting(), scene.room.reserved()), (0, 0));
            }
        }
    }
}
