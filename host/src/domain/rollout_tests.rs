use super::*;
use crate::domain::{Created, Generation, Moved, Record, Session};

const RULE: CanaryRule = CanaryRule {
    share: Some(500),
    turns: 3,
    probation_ms: 1000,
};
const AT: UnixMillis = UnixMillis(5_000);

fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn follow(
    last: Option<&Rollout>,
    component: &str,
    rule: &CanaryRule,
) -> (Option<Rollout>, Rollout) {
    let known: Vec<_> = last.into_iter().cloned().collect();
    Rollout::follow(&known, ("p", digest(component)), rule, |_| true, AT)
}

fn running() -> Rollout {
    let first = Rollout::counted("p", digest("old"), UnixMillis(0));
    let (ended, next) = follow(Some(&first), "new", &RULE);
    assert_eq!((ended, next.status), (None, RolloutStatus::Running));
    next
}

fn failure(session: &str, at: u64) -> CanaryFailure {
    let session = SessionId::new(session).expect("an id");
    CanaryFailure::new(session, Some(7), "it traps", UnixMillis(at))
}

#[test]
fn five_percent_are_canaries_and_at_least_ten() {
    for (sessions, canaries) in [(0, 10), (7, 10), (200, 10), (201, 11), (100_000, 5_000)] {
        assert_eq!(RULE.canaries(sessions), canaries, "{sessions}");
    }
    let all = CanaryRule {
        share: Some(10_000),
        ..RULE
    };
    assert_eq!(all.canaries(u64::MAX), u64::MAX);
}

#[test]
fn a_plugins_first_component_is_the_proven_one() {
    let (ended, first) = follow(None, "old", &RULE);
    assert_eq!(ended, None);
    assert_eq!(first.status, RolloutStatus::Completed);
    assert_eq!(first.component_of(false), digest("old"));
    assert_eq!(follow(Some(&first), "old", &RULE), (None, first));
}

#[test]
fn canaries_run_on_a_new_component_and_the_others_on_the_proven_one() {
    let rollout = running();
    assert_eq!(rollout.component_of(true), digest("new"));
    assert_eq!(rollout.component_of(false), digest("old"));
    assert_eq!(rollout.instead_of(digest("new")), Some(digest("old")));
    assert_eq!(rollout.instead_of(digest("old")), None);
    assert!(rollout.began_at > UnixMillis(0));
}

#[test]
fn it_has_proven_itself_after_enough_turns_and_the_probation() {
    let mut rollout = running();
    rollout.committed();
    rollout.committed();
    let late = UnixMillis(AT.0 + 1000);
    assert_eq!(rollout.verdict(&RULE, late), None, "too few turns");
    rollout.committed();
    let early = UnixMillis(AT.0 + 999);
    assert_eq!(rollout.verdict(&RULE, early), None, "too early");
    assert_eq!(rollout.verdict(&RULE, late), Some(RolloutStatus::Completed));
    let done = rollout.ended(RolloutStatus::Completed, late);
    assert_eq!(
        (done.proven, done.instead_of(digest("new"))),
        (digest("new"), None)
    );
    assert_eq!(done.component_of(false), digest("new"));
}

#[test]
fn a_failure_begins_the_count_anew_and_those_of_three_sessions_end_it() {
    let mut rollout = running();
    rollout.committed();
    assert!(rollout.failed(failure("a", 5_500)));
    assert_eq!((rollout.turns, rollout.clean_since), (0, UnixMillis(5_500)));
    rollout.committed();
    assert!(!rollout.failed(failure("a", 5_600)));
    assert_eq!((rollout.turns, rollout.clean_since), (1, UnixMillis(5_500)));
    assert!(rollout.failed(failure("b", 5_700)));
    assert_eq!(rollout.failures.len(), 2, "a session counts once");
    assert_eq!(rollout.verdict(&RULE, UnixMillis(9_000)), None);
    rollout.failed(failure("c", 5_800));
    let verdict = rollout.verdict(&RULE, UnixMillis(5_800));
    assert_eq!(verdict, Some(RolloutStatus::RolledBack));
    let back = rollout.ended(RolloutStatus::RolledBack, UnixMillis(5_800));
    assert_eq!(back.component_of(true), digest("old"));
    // A turn that runs on it still may fail.
    assert_eq!(back.instead_of(digest("new")), Some(digest("old")));
    let found = back.finding().expect("a finding");
    for part in ["3 of 3", "`a`: it traps", "`c`: it traps"] {
        assert!(found.reason.contains(part), "{part}: {}", found.reason);
    }
    assert_eq!(found.since, UnixMillis(5_800));
}

#[test]
fn bytes_that_were_rolled_back_are_not_tried_again_and_others_are() {
    let back = running().ended(RolloutStatus::RolledBack, AT);
    assert_eq!(follow(Some(&back), "new", &RULE), (None, back.clone()));
    let (ended, newer) = follow(Some(&back), "newer", &RULE);
    assert_eq!(ended, None);
    assert_eq!(
        (newer.status, newer.proven, newer.component),
        (RolloutStatus::Running, digest("old"), digest("newer"))
    );
}

#[test]
fn bytes_that_were_rolled_back_stay_so_when_others_came_between() {
    let first = Rollout::counted("p", digest("old"), UnixMillis(0));
    let back = running().ended(RolloutStatus::RolledBack, AT);
    let (_, other) = follow(Some(&back), "other", &RULE);
    let known = [first, back.clone(), other.clone()];
    let (ended, again) = Rollout::follow(&known, ("p", digest("new")), &RULE, |_| true, AT);
    assert_eq!(ended.map(|it| it.component), Some(digest("other")));
    assert_eq!(
        (again.status, again.failures),
        (RolloutStatus::RolledBack, back.failures)
    );
    assert!(again.began_at > other.began_at);
}

#[test]
fn newer_bytes_replace_unproven_ones_and_the_proven_ones_stay() {
    let (ended, newer) = follow(Some(&running()), "newer", &RULE);
    assert_eq!(ended.map(|it| it.status), Some(RolloutStatus::Replaced));
    assert_eq!(
        (newer.proven, newer.status),
        (digest("old"), RolloutStatus::Running)
    );
    let (ended, again) = follow(Some(&running()), "old", &RULE);
    assert_eq!(ended.map(|it| it.status), Some(RolloutStatus::Replaced));
    assert_eq!(
        (again.proven, again.status),
        (digest("old"), RolloutStatus::Completed)
    );
}

#[test]
fn without_canaries_or_a_way_back_a_component_counts_at_once() {
    let off = CanaryRule {
        share: None,
        ..RULE
    };
    let running = running();
    for last in [
        running.clone(),
        running.clone().ended(RolloutStatus::RolledBack, AT),
    ] {
        let (_, present) = follow(Some(&last), "new", &off);
        assert_eq!(
            (present.status, present.proven),
            (RolloutStatus::Completed, digest("new"))
        );
    }
    let (_, next) = follow(Some(&running), "newer", &off);
    assert_eq!(
        (next.status, next.proven),
        (RolloutStatus::Completed, digest("newer"))
    );
    let gone = |_| false;
    let (_, next) = Rollout::follow(&[running], ("p", digest("new")), &RULE, gone, AT);
    assert_eq!(
        (next.status, next.proven),
        (RolloutStatus::Completed, digest("new"))
    );
}

#[test]
fn a_session_has_reached_it_by_its_state_or_by_what_it_refused() {
    let rollout = running();
    let session = |component: &str| {
        Session::create(&Record::Created(Created {
            plugin: "p".into(),
            args: "null".into(),
            labels: Default::default(),
            generation: Generation(1),
            component: digest(component),
            schema: 1,
            outputs: Vec::new(),
            timers: Vec::new(),
            at: AT,
        }))
        .expect("a first record")
    };
    assert!(rollout.has_reached(&session("new").progress));
    let mut other = session("old");
    assert!(!rollout.has_reached(&other.progress));
    // One that is idle leaves its place to another.
    let mut new = session("new").progress;
    let late = UnixMillis(AT.0 + CANARY_IDLE_MS);
    assert!(rollout.takes_place(&new, AT, AT));
    assert!(!rollout.takes_place(&new, AT, late));
    new.last_commit = Some(UnixMillis(AT.0 + 1));
    assert!(rollout.takes_place(&new, AT, late));
    assert!(!rollout.takes_place(&other.progress, AT, AT));
    other.apply(&Record::Moved(Moved {
        component: digest("old"),
        refused: Some(digest("new")),
        reason: "it traps".into(),
        takes_over: Some(4),
        at: UnixMillis(AT.0 + 9),
    }));
    assert!(rollout.has_reached(&other.progress));
    let id = SessionId::new("s").expect("an id");
    let failure = rollout
        .failure_of(&id, &other.progress)
        .expect("its turn was taken over");
    assert_eq!((failure.turn, failure.at), (Some(4), UnixMillis(AT.0 + 9)));
}
