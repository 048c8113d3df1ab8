//! The checks of a run, one module per promise.

mod copies;
mod counter;
mod dead_letters;
mod effects;
mod events;
mod keys;
mod messages;
mod notices;
mod output;
mod replaced;
mod rewinds;
mod timers;
mod turns;
mod undone;

use crate::checker::{Facts, Verdict, ViolationKind};

/// The names of all counts, in display order. The first part says how much was checked, and how many
/// sessions were not, since damage has touched them; the rest
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
    "rewinds",
    "copies",
    "effects told",
    "touched",
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
    "effects untold",
    "rewinds wrong",
    "copies wrong",
    "timers lost",
    "timers doubled",
    "timers early",
    "made worse",
];

/// Returns the name of the count to which a kind of violation adds.
fn counted_as(kind: ViolationKind) -> &'static str {
    match kind {
        ViolationKind::Lost => "lost",
        ViolationKind::Failed => "turns failed",
        ViolationKind::DoubledTurn | ViolationKind::TurnNumbers | ViolationKind::Counter => {
            "turns doubled"
        }
        ViolationKind::Output => "output wrong",
        ViolationKind::ExecutedTwice => "executed twice",
        ViolationKind::NotExecuted => "ok but not executed",
        ViolationKind::ToldFailed | ViolationKind::ToldUnknown => "told wrongly",
        ViolationKind::Keys => "keys wrong",
        ViolationKind::EventMissing => "events missing",
        ViolationKind::EventDoubled => "events doubled",
        ViolationKind::EventChanged => "events changed",
        ViolationKind::NoticeMissing => "notices missing",
        ViolationKind::NoticeDoubled => "notices doubled",
        ViolationKind::NoticeWrong => "notices wrong",
        ViolationKind::Untold => "effects untold",
        ViolationKind::Rewind => "rewinds wrong",
        ViolationKind::Copy => "copies wrong",
        ViolationKind::TimerLost => "timers lost",
        ViolationKind::TimerDoubled => "timers doubled",
        ViolationKind::TimerEarly => "timers early",
        ViolationKind::Service => "made worse",
    }
}

/// Checks the facts of a run against everything that must be true.
pub fn check_history(facts: &Facts) -> Verdict {
    let mut verdict = Verdict::default();
    for name in COUNTED {
        verdict.count(name, 0);
    }
    for trouble in &facts.troubles {
        verdict.wrong(ViolationKind::Service, trouble.clone());
    }
    verdict.count("sessions", facts.sessions.len());
    let mut calls = effects::ToolCalls::default();
    let mut knowledge = undone::Knowledge::new(facts);
    for session in &facts.sessions {
        if session.touched.is_some() {
            verdict.count("touched", 1);
            calls.pass_over(session);
            continue;
        }
        events::check(session, &mut verdict);
        let turns = turns::read(session, &mut verdict);
        let scripts = messages::read(session, &mut verdict);
        messages::check(session, &turns, &scripts, &mut verdict);
        dead_letters::check(session, &turns, &mut verdict);
        output::check(session, turns.own(), &scripts, &mut verdict);
        counter::check(session, &turns, &mut verdict);
        notices::check(session, turns.own(), &mut verdict);
        replaced::check(session, &turns, &mut verdict);
        timers::check(session, turns.own(), &scripts, &mut verdict);
        rewinds::check(session, &mut verdict);
        copies::check(session, facts, &mut verdict);
        knowledge.check(session, &turns, &scripts, &mut verdict);
        calls.collect(session, &turns, &scripts);
    }
    calls.check(facts, &mut verdict);
    let kinds: Vec<_> = verdict.violations.iter().map(|wrong| wrong.kind).collect();
    for kind in kinds {
        verdict.count(counted_as(kind), 1);
    }
    verdict
}
