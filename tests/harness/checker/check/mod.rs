//! The checks of a run, one module per promise.

mod effects;
mod events;
mod messages;
mod notices;
mod output;
mod timers;
mod turns;

use crate::checker::{Facts, Kind, Verdict};

/// The names of all counts, in display order. The first part says how much was checked; the rest
/// must be zero.
pub const COUNTED: &[&str] = &[
    "sessions",
    "acknowledged",
    "turns",
    "calls",
    "executions",
    "unknown told",
    "events",
    "notices",
    "timers",
    "lost",
    "turns failed",
    "turns doubled",
    "executed twice",
    "ok but not executed",
    "told wrongly",
    "keys wrong",
    "events missing",
    "events doubled",
    "events changed",
    "output wrong",
    "notices missing",
    "notices doubled",
    "notices wrong",
    "timers lost",
    "timers doubled",
    "timers early",
    "made worse",
];

/// Returns the name of the count to which a kind of violation adds.
fn counted_as(kind: Kind) -> &'static str {
    match kind {
        Kind::Lost => "lost",
        Kind::Failed => "turns failed",
        Kind::DoubledTurn | Kind::TurnNumbers | Kind::Counter => "turns doubled",
        Kind::Output => "output wrong",
        Kind::ExecutedTwice => "executed twice",
        Kind::NotExecuted => "ok but not executed",
        Kind::ToldFailed | Kind::ToldUnknown => "told wrongly",
        Kind::Keys => "keys wrong",
        Kind::EventMissing => "events missing",
        Kind::EventDoubled => "events doubled",
        Kind::EventChanged => "events changed",
        Kind::NoticeMissing => "notices missing",
        Kind::NoticeDoubled => "notices doubled",
        Kind::NoticeWrong => "notices wrong",
        Kind::TimerLost => "timers lost",
        Kind::TimerDoubled => "timers doubled",
        Kind::TimerEarly => "timers early",
        Kind::Service => "made worse",
    }
}

/// Checks the facts of a run against everything that must be true.
pub fn check_history(facts: &Facts) -> Verdict {
    let mut verdict = Verdict::default();
    for name in COUNTED {
        verdict.count(name, 0);
    }
    for trouble in &facts.troubles {
        verdict.wrong(Kind::Service, trouble.clone());
    }
    verdict.count("sessions", facts.sessions.len());
    let mut calls = effects::Calls::default();
    for session in &facts.sessions {
        events::check(session, &mut verdict);
        let turns = turns::read(session, &mut verdict);
        let scripts = messages::check(session, &turns, &mut verdict);
        output::check(session, &turns, &scripts, &mut verdict);
        notices::check(session, &turns, &mut verdict);
        timers::check(session, &turns, &scripts, &mut verdict);
        calls.collect(session, &turns, &scripts);
    }
    calls.check(facts, &mut verdict);
    let kinds: Vec<_> = verdict.violations.iter().map(|wrong| wrong.kind).collect();
    for kind in kinds {
        verdict.count(counted_as(kind), 1);
    }
    verdict
}
