//! Which guests compute now. There are as many places as processors, so that the runtime, which has one
//! thread more, always has one for the host's own tasks. A guest that computes for long leaves the last
//! place to others, who need it briefly.
//!
//! ```text
//!            enter                          leave: the next of
//!   guest ----------> place free? -- yes --> [computes a time slice] --> the brief; after some of them, a long one
//!                         | no                        ^
//!                         v                           |
//!                    brief or long queue -------------+ granted, and woken
//! ```

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::thread::available_parallelism;

/// After so many brief ones in a row, a long one that waits gets the place: a steady load of brief ones does
/// not stop it for good.
const BRIEF_IN_A_ROW_MAX: u32 = 8;

/// Returns the number of processors that this process may use, at least 1. So many guests compute at a time:
/// a runtime with one thread more always has one for the host.
pub fn processors() -> usize {
    available_parallelism().map_or(1, NonZero::get)
}

/// How a guest has used its processor since it last waited for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stretch {
    /// Little: it may end, or wait for a step, at any moment.
    Brief,
    /// More than a time slice.
    Long,
}

/// The processors, and who waits for one.
pub(super) struct RunQueue(Mutex<State>);

struct State {
    places: usize,
    /// The places that guests which compute for long may take.
    places_of_long: usize,
    busy: usize,
    busy_with_long: usize,
    brief: VecDeque<Weak<Waiter>>,
    long: VecDeque<Weak<Waiter>>,
    /// The places that brief ones got in a row while a long one waited.
    passed_over: u32,
}

/// A guest that waits.
struct Waiter {
    stretch: Stretch,
    progress: Mutex<Progress>,
}

enum Progress {
    Waits(Waker),
    /// A place is kept for it.
    Granted,
}

/// A place; free again when this is dropped.
pub(super) struct Place<'a> {
    queue: &'a RunQueue,
    stretch: Stretch,
}

/// A guest's stand in the queue, given up when this is dropped.
pub(super) struct Ticket {
    queue: Arc<RunQueue>,
    waiter: Option<Arc<Waiter>>,
}

impl RunQueue {
    pub(super) fn new(processors: usize) -> Self {
        Self(Mutex::new(State {
            places: processors.max(1),
            places_of_long: (processors.saturating_sub(1)).max(1),
            busy: 0,
            busy_with_long: 0,
            brief: VecDeque::new(),
            long: VecDeque::new(),
            passed_over: 0,
        }))
    }

    /// Returns how many guests wait. Some may have given up by now.
    pub(super) fn waiting(&self) -> usize {
        let state = self.state();
        state.brief.len() + state.long.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Poisoning is harmless: no change of the state panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, stretch: Stretch) {
        let mut state = self.state();
        state.free(stretch);
        let granted = state.grant();
        drop(state);
        for waker in granted {
            waker.wake();
        }
    }
}

impl State {
    fn has_place(&self, stretch: Stretch) -> bool {
        self.busy < self.places
            && (stretch == Stretch::Brief || self.busy_with_long < self.places_of_long)
    }

    fn take(&mut self, stretch: Stretch) {
        self.busy += 1;
        self.busy_with_long += usize::from(stretch == Stretch::Long);
    }

    fn free(&mut self, stretch: Stretch) {
        self.busy -= 1;
        self.busy_with_long -= usize::from(stretch == Stretch::Long);
    }

    fn queue(&mut self, stretch: Stretch) -> &mut VecDeque<Weak<Waiter>> {
        match stretch {
            Stretch::Brief => &mut self.brief,
            Stretch::Long => &mut self.long,
        }
    }

    /// Gives the free places to those who wait. Returns whom to wake.
    fn grant(&mut self) -> Vec<Waker> {
        let mut granted = Vec::new();
        while let Some(waiter) = self.next() {
            let before = std::mem::replace(&mut *waiter.progress(), Progress::Granted);
            if let Progress::Waits(waker) = before {
                granted.push(waker);
            }
            self.take(waiter.stretch);
        }
        granted
    }

    /// Takes the next one for whom there is a place out of its queue.
    fn next(&mut self) -> Option<Arc<Waiter>> {
        let long_first = self.passed_over >= BRIEF_IN_A_ROW_MAX;
        let order = match long_first {
            true => [Stretch::Long, Stretch::Brief],
            false => [Stretch::Brief, Stretch::Long],
        };
        for stretch in order {
            if !self.has_place(stretch) {
                continue;
            }
            while let Some(waiter) = self.queue(stretch).pop_front() {
                // Those who have given up are gone.
                let Some(waiter) = waiter.upgrade() else {
                    continue;
                };
                let passed_over = stretch == Stretch::Brief && !self.long.is_empty();
                self.passed_over = if passed_over { self.passed_over + 1 } else { 0 };
                return Some(waiter);
            }
        }
        None
    }
}

impl Waiter {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        // Poisoning is harmless: each change is one assignment.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    pub(super) fn new(queue: Arc<RunQueue>) -> Self {
        Self {
            queue,
            waiter: None,
        }
    }

    /// Returns a place if there is one; else the waker is woken as soon as one is kept for this ticket.
    pub(super) fn poll_place(&mut self, stretch: Stretch, waker: &Waker) -> Option<Place<'_>> {
        let queue = &*self.queue;
        let Some(waiter) = &self.waiter else {
            let mut state = queue.state();
            if state.has_place(stretch) {
                state.take(stretch);
                return Some(Place { queue, stretch });
            }
            let waiter = Arc::new(Waiter {
                stretch,
                progress: Mutex::new(Progress::Waits(waker.clone())),
            });
            state.queue(stretch).push_back(Arc::downgrade(&waiter));
            self.waiter = Some(waiter);
            return None;
        };
        if let Progress::Waits(kept) = &mut *waiter.progress() {
            kept.clone_from(waker);
            return None;
        }
        let stretch = waiter.stretch;
        self.waiter = None;
        Some(Place { queue, stretch })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Some(waiter) = self.waiter.take() else {
            return;
        };
        // Under the queue's lock, under which places are granted: either it has one by now, or it will
        // never have one.
        let state = self.queue.state();
        let granted = matches!(*waiter.progress(), Progress::Granted);
        let stretch = waiter.stretch;
        drop(waiter);
        drop(state);
        if granted {
            self.queue.leave(stretch);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.queue.leave(self.stretch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guest that computes as long as this is kept.
    struct Guest(Ticket, Stretch);

    impl Guest {
        fn new(queue: &Arc<RunQueue>, stretch: Stretch) -> Self {
            Self(Ticket::new(queue.clone()), stretch)
        }

        fn poll(&mut self) -> Option<Place<'_>> {
            self.0.poll_place(self.1, Waker::noop())
        }
    }

    fn guests<const N: usize>(queue: &Arc<RunQueue>, stretch: Stretch) -> [Guest; N] {
        std::array::from_fn(|_| Guest::new(queue, stretch))
    }

    #[test]
    fn a_place_stays_for_those_who_need_it_briefly() {
        let queue = Arc::new(RunQueue::new(3));
        let [mut a, mut b, mut c] = guests(&queue, Stretch::Long);
        let [mut brief, mut late] = guests(&queue, Stretch::Brief);
        let places = [a.poll(), b.poll(), brief.poll()];
        assert!(places.iter().all(Option::is_some));
        assert!(c.poll().is_none() && late.poll().is_none());
        let [_a, _b, of_brief] = places;
        drop(of_brief);
        assert!(c.poll().is_none(), "two long ones compute");
        assert!(late.poll().is_some());
    }

    #[test]
    fn one_processor_is_shared_by_all() {
        let queue = Arc::new(RunQueue::new(1));
        let [mut long] = guests(&queue, Stretch::Long);
        let [mut brief] = guests(&queue, Stretch::Brief);
        let place = long.poll();
        assert!(place.is_some() && brief.poll().is_none());
        drop(place);
        assert!(long.poll().is_none(), "the place is kept for the brief one");
        assert!(brief.poll().is_some());
        assert!(long.poll().is_some());
    }

    #[test]
    fn brief_ones_come_first_but_never_for_good() {
        let queue = Arc::new(RunQueue::new(1));
        let [mut holder] = guests(&queue, Stretch::Long);
        let mut long: [_; 2] = guests(&queue, Stretch::Long);
        let mut brief: [_; 20] = guests(&queue, Stretch::Brief);
        let place = holder.poll();
        for guest in long.iter_mut().chain(&mut brief) {
            assert!(guest.poll().is_none());
        }
        drop(place);
        let mut order = String::new();
        let mut waiting: Vec<_> = brief.iter_mut().chain(&mut long).collect();
        while !waiting.is_empty() {
            let granted = waiting.iter_mut().position(|guest| guest.poll().is_some());
            let guest = waiting.remove(granted.expect("somebody always has the place"));
            order.push(if guest.1 == Stretch::Long { 'L' } else { 'b' });
        }
        assert_eq!(order, "bbbbbbbbLbbbbbbbbLbbbb");
    }

    #[test]
    fn who_gives_up_leaves_no_place_behind() {
        let queue = Arc::new(RunQueue::new(1));
        let [mut first, mut second, mut third] = guests(&queue, Stretch::Brief);
        let place = first.poll();
        assert!(second.poll().is_none() && third.poll().is_none());
        drop(second);
        drop(place);
        let kept = matches!(
            *third.0.waiter.as_ref().unwrap().progress(),
            Progress::Granted
        );
        assert!(kept, "the place is kept for the next who has not given up");
        drop(third);
        assert!(
            first.poll().is_some(),
            "a place that was kept is free again"
        );
        let state = queue.state();
        assert_eq!((state.busy, state.busy_with_long), (0, 0));
    }
}
