//! Which timers of a session are set, by its events: a turn that commits sets them, they fire, and a rewind
//! drops and returns them.

use std::collections::{BTreeMap, BTreeSet};

use crate::Event;
use crate::checker::states::{States, replaces};
use crate::checker::{Script, ViolationKind};

/// Maximum difference between the turn's clock and the time of its first event, in milliseconds.
const CLOCK_SLACK_MS: u64 = 50;

/// A timer that a turn has set.
pub(crate) struct SetTimer {
    /// The earliest time at which it may be due.
    pub(crate) from_ms: u64,
    /// The id of its message's script.
    pub(crate) script: String,
}

/// The timers of one session; of a copy, its own.
pub(crate) struct TimerLedger {
    /// All that committed turns have set, by name.
    pub(crate) ever: BTreeMap<String, SetTimer>,
    /// What cannot be.
    pub(crate) wrong: Vec<(ViolationKind, String)>,
    /// Those that are set.
    states: States<BTreeSet<String>>,
    /// Those that have fired.
    fired: BTreeSet<String>,
    /// The scripts of all messages.
    scripts: BTreeMap<String, Script>,
    /// When the open turn started.
    started_ms: u64,
}

impl TimerLedger {
    pub(crate) fn of(events: &[Event]) -> Self {
        let mut ledger = Self {
            ever: BTreeMap::new(),
            wrong: Vec::new(),
            states: States::new(BTreeSet::new()),
            fired: BTreeSet::new(),
            scripts: BTreeMap::new(),
            started_ms: 0,
        };
        for event in events {
            ledger.take(event);
        }
        ledger
    }

    /// The names of those that are set and have not fired.
    pub(crate) fn set(&self) -> &BTreeSet<String> {
        self.states.present()
    }

    fn take(&mut self, event: &Event) {
        let is_timer = event.is_from("timer");
        if is_timer || event.is_from("user") {
            let message = event.message.clone().unwrap_or_default();
            let script = Script::read(event.said());
            self.scripts.extend(script.map(|script| (message, script)));
        }
        if is_timer {
            self.fire(event.name.as_deref().unwrap_or_default());
        } else if event.is_turn("started") {
            self.started_ms = event.at_ms();
        } else if event.is_turn("completed") {
            self.commit(event);
        } else if event.kind == "origin" {
            // Timers stay behind.
            self.ever.clear();
            self.fired.clear();
            self.states.replace(event);
            self.states.commit(event.cursor, BTreeSet::new());
        } else if replaces(event) {
            self.rewind(event);
        }
    }

    fn fire(&mut self, name: &str) {
        let was_set = self.states.present_mut().remove(name);
        let is_first = self.fired.insert(name.to_owned());
        // That it was never set, or that it has fired before, is found by whoever counts.
        if !was_set && is_first && self.ever.contains_key(name) {
            let text = format!("timer {name} came, and a rewind had dropped it");
            self.wrong.push((ViolationKind::TimerDoubled, text));
        }
    }

    fn commit(&mut self, event: &Event) {
        let mut set = self.states.present().clone();
        let consumed = event.message.iter().chain(&event.received);
        for script in consumed.filter_map(|message| self.scripts.get(message)) {
            for (name, after_ms, script) in script.timers() {
                let from_ms = (self.started_ms + after_ms).saturating_sub(CLOCK_SLACK_MS);
                let script = script.id.clone();
                self.ever
                    .insert(name.to_owned(), SetTimer { from_ms, script });
                set.insert(name.to_owned());
            }
        }
        self.states.commit(event.cursor, set);
    }

    fn rewind(&mut self, event: &Event) {
        let before = self.states.present().clone();
        if !self.states.replace(event) {
            // That is found by whoever checks where it leads to.
            return;
        }
        let point = self.states.present().clone();
        let dropped: BTreeSet<&String> = before.difference(&point).collect();
        let told: BTreeSet<&String> = event.dropped_timers.iter().collect();
        if dropped != told {
            let text = format!("a rewind has dropped the timers {told:?}, not {dropped:?}");
            self.wrong.push((ViolationKind::TimerLost, text));
        }
        let missing: BTreeSet<&String> = point.difference(&before).collect();
        for name in &event.fired_timers {
            let due_ms = self.ever.get(name).map_or(0, |set| set.from_ms);
            let is_over = self.fired.contains(name) || due_ms <= event.at_ms();
            if !missing.contains(name) || !is_over {
                let text = format!("by a rewind timer {name} has fired, and it has not");
                self.wrong.push((ViolationKind::TimerLost, text));
            }
        }
        // Those that are neither told of nor have fired are set again.
        let is_over =
            |name: &&&String| event.fired_timers.contains(**name) || self.fired.contains(**name);
        let returned = missing.iter().filter(|name| !is_over(name)).copied();
        let set = before.intersection(&point).chain(returned).cloned();
        self.states.commit(event.cursor, set.collect());
    }
}
