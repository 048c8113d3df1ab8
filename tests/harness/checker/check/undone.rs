//! Checks that nothing outside is forgotten: what turns have done and the present state does not know of,
//! as they were undone, were cancelled, or came after the point of a copy, is told to the next turn that
//! commits.

use std::collections::{BTreeMap, BTreeSet};

use super::keys::turn_of;
use super::messages::Scripts;
use super::turns::{CancelledTurn, Turn, Turns};
use crate::Event;
use crate::checker::states::{States, own, replaces};
use crate::checker::{ActReport, Facts, ScriptedCall, SessionFacts, Verdict, ViolationKind};

/// How a notice says that it does not show all calls, behind their number.
const NOT_SHOWN: &str = "call(s) that took effect, or may have, and are not shown";

/// The tokens of calls.
type Tokens = BTreeSet<String>;

/// What the sessions of a run have done outside, and what their states know of it.
pub(super) struct Knowledge<'a> {
    /// The tokens that the turns of each session have executed.
    executed: BTreeMap<(&'a str, u64), BTreeSet<&'a str>>,
    sessions: BTreeMap<&'a str, SessionKnowledge>,
}

#[derive(Default)]
struct SessionKnowledge {
    /// The calls, each with the cursor from which on it is done.
    done: Vec<(u64, String)>,
    /// The calls that each state knows of, by its cursor.
    known: BTreeMap<u64, Tokens>,
}

impl SessionKnowledge {
    /// Returns the calls that were done by then.
    fn until(&self, cursor: u64) -> impl Iterator<Item = &String> {
        let done = self.done.iter().filter(move |(at, _)| *at <= cursor);
        done.map(|(_, token)| token)
    }
}

impl<'a> Knowledge<'a> {
    pub(super) fn new(facts: &'a Facts) -> Self {
        let mut executed: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for execution in &facts.executions {
            if let Some(turn) = turn_of(&execution.key) {
                let tokens = executed.entry(turn).or_default();
                tokens.insert(execution.token.as_str());
            }
        }
        Self {
            executed,
            sessions: BTreeMap::new(),
        }
    }

    /// Checks a session; those that it was copied from were checked before.
    pub(super) fn check(
        &mut self,
        session: &'a SessionFacts,
        turns: &Turns<'_>,
        scripts: &Scripts<'_>,
        verdict: &mut Verdict,
    ) {
        let by_end: BTreeMap<u64, &Turn<'_>> =
            turns.own().iter().map(|turn| (turn.end, turn)).collect();
        let cancelled: BTreeMap<u64, &CancelledTurn<'_>> = turns
            .own_cancelled()
            .iter()
            .map(|turn| (turn.end, turn))
            .collect();
        let calls = calls(scripts);
        let mut mine = SessionKnowledge::default();
        let mut done = Tokens::new();
        let mut states = States::new(Tokens::new());
        for event in own(&session.events) {
            let cursor = event.cursor;
            if event.kind == "origin" {
                let (known, outside) = self.inherited(session, event);
                states.commit(cursor, known);
                mine.done
                    .extend(outside.iter().map(|token| (cursor, token.clone())));
                done = outside;
            } else if replaces(event) {
                states.replace(event);
            } else if let Some(turn) = by_end.get(&cursor) {
                let untold: Tokens = done.difference(states.present()).cloned().collect();
                told(&session.id, turn, &untold, verdict);
                let made = made(turn, &calls);
                mine.done
                    .extend(made.iter().map(|token| (cursor, token.clone())));
                let known = states.present().iter().chain(&untold).chain(&made);
                let known: Tokens = known.cloned().collect();
                states.commit(cursor, known);
                done.extend(made);
            } else if let Some(turn) = cancelled.get(&cursor) {
                let executed = self.executed.get(&(session.id.as_str(), turn.number));
                let executed = executed.into_iter().flatten();
                // A repeatable call is made before its plan is on disk: it can be forgotten.
                let once = executed.filter(|token| {
                    let call = calls.get(**token);
                    call.is_some_and(|call| !call.is_repeatable())
                });
                let once: Tokens = once.map(|&token| token.to_owned()).collect();
                mine.done
                    .extend(once.iter().map(|token| (cursor, token.clone())));
                done.extend(once);
                continue;
            } else {
                continue;
            }
            mine.known.insert(cursor, states.present().clone());
        }
        self.sessions.insert(&session.id, mine);
    }

    /// Returns the calls that a copy's first state knows of, and all that its source had surely done by
    /// then.
    fn inherited(&self, session: &SessionFacts, origin: &Event) -> (Tokens, Tokens) {
        let copy = session.copy_of.as_ref();
        let source = copy.and_then(|copy| self.sessions.get(copy.source.as_str()));
        let (Some(copy), Some(source)) = (copy, source) else {
            // Nothing is known of what damage has touched.
            return (Tokens::new(), Tokens::new());
        };
        let point = origin.cursor - 1;
        let known = source.known.get(&point).cloned().unwrap_or_default();
        let done = source.until(copy.present.max(point)).cloned();
        let done = done.chain(known.iter().cloned()).collect();
        (known, done)
    }
}

/// Returns all calls that messages ask for, by token.
fn calls<'s>(scripts: &'s Scripts<'_>) -> BTreeMap<&'s str, &'s ScriptedCall> {
    let acts = scripts.values().flat_map(|script| &script.acts);
    acts.flat_map(|act| act.calls())
        .map(|call| (call.token.as_str(), call))
        .collect()
}

/// Returns the calls of a completed turn that have changed something outside, or may have.
fn made(turn: &Turn<'_>, calls: &BTreeMap<&str, &ScriptedCall>) -> Tokens {
    let acts: Vec<ActReport> = turn.told("act");
    let took_effect = |act: &ActReport| matches!(act.result.as_str(), "ok" | "unknown");
    let acts = acts.into_iter().filter(took_effect);
    acts.filter_map(|act| act.token)
        .filter(|token| {
            let call = calls.get(token.as_str());
            call.is_some_and(|call| call.has_effect())
        })
        .collect()
}

/// Checks that a turn was told of calls that its state did not know of.
fn told(id: &str, turn: &Turn<'_>, untold: &Tokens, verdict: &mut Verdict) {
    verdict.count("effects told", untold.len());
    let texts: Vec<&str> = turn.notices().map(Event::said).collect();
    let is_shown = |token: &str| {
        let argument = format!("\"token\":\"{token}\"");
        // Other lines show messages, which ask for calls.
        let mut lines = texts.iter().flat_map(|text| text.lines());
        lines.any(|line| line.starts_with("- ") && line.contains(&argument))
    };
    let missing: Vec<&String> = untold.iter().filter(|token| !is_shown(token)).collect();
    // A notice shows the latest ones, and the number of the others.
    let hidden: usize = texts.iter().map(|text| not_shown(text)).sum();
    if missing.len() > hidden {
        let text = format!(
            "{id}: turn {} is not told of {missing:?}, which were done outside and are not in its \
             state, but of {texts:?}",
            turn.number
        );
        verdict.wrong(ViolationKind::Untold, text);
    }
}

/// Returns how many calls a notice mentions and does not show.
fn not_shown(text: &str) -> usize {
    let places = text.match_indices(NOT_SHOWN);
    places
        .filter_map(|(at, _)| {
            let before = text[..at].trim_end();
            let before = before.strip_suffix(" more").unwrap_or(before);
            before.rsplit(' ').next()?.parse::<usize>().ok()
        })
        .sum()
}
