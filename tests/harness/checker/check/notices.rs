//! Checks recovery messages: one per session and restart, none without a restart, before the
//! output. Also checks reports of stopped turns: there is none unless turns were stopped. A notice of a
//! replaced state stands in the place of a restart's, and may be about one as well.

use super::replaced::is_of_replaced;
use super::turns::Turn;
use crate::Event;
use crate::checker::{NoticeReport, SessionFacts, StoppedReport, Verdict, ViolationKind};

pub(super) fn check(session: &SessionFacts, turns: &[Turn<'_>], verdict: &mut Verdict) {
    let id = &session.id;
    // The last generation that the session was notified of.
    let mut seen = session.created_in;
    for (turn, index) in turns.iter().zip(0..) {
        let number = turn.number;
        let is_stopped = |event: &&Event| event.cause.as_deref() == Some("stopped");
        let (stopped, notices): (Vec<&Event>, Vec<&Event>) = turn.notices().partition(is_stopped);
        let failed = |event: &Event| event.is_turn("failed") && event.turn < Some(number);
        let may_be = session.events.iter().any(failed);
        told_stopped(id, turn, &stopped, may_be, verdict);
        verdict.count("notices", notices.len());
        for notice in &notices {
            let generation = notice.generation.unwrap_or_default();
            let is_news = match is_of_replaced(notice) {
                true => generation >= seen,
                false => generation > seen,
            };
            if !is_news {
                let text = format!(
                    "{id}: turn {number} is told of generation {generation}, and knew of {seen}"
                );
                verdict.wrong(ViolationKind::NoticeDoubled, text);
            }
            seen = seen.max(generation);
        }
        told(id, turn, &notices, verdict);
        let probe = session
            .probes
            .iter()
            .find(|probe| turn.consumed.contains(&probe.message.as_str()));
        let Some(generation) = probe.and_then(|probe| probe.generation) else {
            continue;
        };
        // A session without an earlier turn has nothing that could have been interrupted.
        if generation > seen && index > 0 {
            let text = format!(
                "{id}: turn {number} ran in generation {generation}, and its session was told of \
                 none behind {seen}"
            );
            verdict.wrong(ViolationKind::NoticeMissing, text);
        }
        if seen > generation {
            let text = format!(
                "{id}: turn {number} ran in generation {generation}, and its session was told of \
                 {seen}"
            );
            verdict.wrong(ViolationKind::NoticeWrong, text);
        }
        seen = seen.max(generation);
    }
    let stray = session.events.iter().filter(|event| event.kind == "notice");
    for event in stray.filter(|event| event.turn.is_none()) {
        let text = format!("{id}: the notice at {} belongs to no turn", event.cursor);
        verdict.wrong(ViolationKind::NoticeWrong, text);
    }
}

/// Checks that the guest received the reports of stopped turns that the events hold.
fn told_stopped(
    id: &str,
    turn: &Turn<'_>,
    notices: &[&Event],
    may_be: bool,
    verdict: &mut Verdict,
) {
    let by_guest: Vec<StoppedReport> = turn.told("stopped");
    let by_guest: Vec<&str> = by_guest.iter().map(|event| event.text.as_str()).collect();
    let by_host: Vec<&str> = notices.iter().map(|notice| notice.said()).collect();
    if by_guest != by_host || (!by_host.is_empty() && !may_be) {
        let number = turn.number;
        let text = format!(
            "{id}: turn {number}: its guest was told of stopped turns by {by_guest:?}, its events \
             tell of them by {by_host:?}"
        );
        verdict.wrong(ViolationKind::NoticeWrong, text);
    }
}

/// Checks that the guest received the notices of the events, and that they precede the guest's
/// output.
fn told(id: &str, turn: &Turn<'_>, notices: &[&Event], verdict: &mut Verdict) {
    let number = turn.number;
    let received: Vec<NoticeReport> = turn.told("notice");
    let by_guest: Vec<_> = received
        .iter()
        .map(|notice| {
            let further = notice.stopped.as_deref();
            (
                Some(notice.generation),
                Some(notice.cause.as_str()),
                further,
            )
        })
        .collect();
    let by_host: Vec<_> = notices
        .iter()
        .map(|notice| {
            // Guests know restarts only: a replaced state is an operator's doing.
            let cause = match is_of_replaced(notice) {
                true => Some("operator"),
                false => notice.cause.as_deref(),
            };
            let further = notice.said().split_once('\n').map(|(_, further)| further);
            (notice.generation, cause, further)
        })
        .collect();
    if by_guest != by_host {
        let text = format!(
            "{id}: turn {number}: its guest was told {by_guest:?}, its events tell of {by_host:?}"
        );
        verdict.wrong(ViolationKind::NoticeWrong, text);
    }
    for notice in &received {
        let odd = |step: &&String| !step.contains("record");
        if let Some(step) = notice.unknown_steps.iter().find(odd) {
            let text = format!("{id}: turn {number} is told that {step:?} is unknown");
            verdict.wrong(ViolationKind::ToldUnknown, text);
        }
    }
    let output = |event: &&&Event| event.kind == "custom" || event.is_from("assistant");
    let first = turn.events.iter().find(output).map(|event| event.cursor);
    for notice in notices {
        if first.is_some_and(|first| first < notice.cursor) {
            let text = format!("{id}: turn {number}: the notice stands behind the output");
            verdict.wrong(ViolationKind::NoticeWrong, text);
        }
    }
}
