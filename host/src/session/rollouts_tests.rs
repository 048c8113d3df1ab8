use super::*;

const RULE: CanaryRule = CanaryRule {
    share: Some(500),
    turns: 2,
    probation_ms: 0,
};

fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn id(n: usize) -> SessionId {
    SessionId::new(format!("s{n}")).expect("an id")
}

/// A roll-out from `old` to `new`.
fn running() -> Rollouts {
    let first = Rollout::counted("p", digest("old"), UnixMillis(0));
    let (now, to) = (UnixMillis::now(), ("p", digest("new")));
    let (_, rollout) = Rollout::follow(&[first], to, &RULE, |_| true, now);
    let rollouts = Rollouts::default();
    let ramp = Ramp {
        rollout,
        joined: HashSet::new(),
        is_written: false,
    };
    rollouts.lock().insert("p".into(), ramp);
    rollouts
}

fn runs_on(rollouts: &Rollouts, n: usize, place: Place) -> Digest {
    rollouts.component_of(("p", digest("new")), &id(n), None, place)
}

#[test]
fn the_first_ten_sessions_that_run_are_canaries() {
    let rollouts = running();
    assert_eq!(runs_on(&rollouts, 0, Place::Look), digest("old"));
    for n in 0..10 {
        assert_eq!(runs_on(&rollouts, n, Place::Take), digest("new"), "{n}");
    }
    assert_eq!(runs_on(&rollouts, 10, Place::Take), digest("old"));
    assert_eq!(
        runs_on(&rollouts, 0, Place::Look),
        digest("new"),
        "it stays one"
    );
    // One that cannot run on it makes room.
    rollouts.left("p", digest("new"), &id(3));
    assert_eq!(runs_on(&rollouts, 10, Place::Take), digest("new"));
    // One that has committed a turn still takes its place.
    rollouts.committed("p", digest("new"));
    assert_eq!(runs_on(&rollouts, 11, Place::Take), digest("old"));
    // Two of them have had a turn of late, by the count of all sessions; the others may join again.
    let mut counting = rollouts.uncounted();
    counting[0].canaries = 2;
    assert_eq!(runs_on(&rollouts, 11, Place::Take), digest("old"));
    rollouts.take_count(counting.remove(0), &RULE);
    for n in 20..28 {
        assert_eq!(runs_on(&rollouts, n, Place::Take), digest("new"), "{n}");
    }
    assert_eq!(runs_on(&rollouts, 28, Place::Take), digest("old"));
    rollouts.admit("p", digest("new"), &id(28));
    assert_eq!(runs_on(&rollouts, 28, Place::Look), digest("new"));
}

#[test]
fn it_ends_well_after_enough_turns_and_all_run_on_it() {
    let rollouts = running();
    assert!(!rollouts.end(&RULE));
    rollouts.committed("p", digest("new"));
    rollouts.committed("p", digest("new"));
    assert!(rollouts.end(&RULE));
    assert_eq!(runs_on(&rollouts, 99, Place::Look), digest("new"));
    assert_eq!(rollouts.instead_of("p", digest("new")), None);
}

#[test]
fn after_failures_in_three_sessions_none_runs_on_it() {
    let rollouts = running();
    for n in 0..3 {
        assert!(!rollouts.end(&RULE));
        assert_eq!(runs_on(&rollouts, n, Place::Take), digest("new"));
        let failure = CanaryFailure::new(id(n), Some(1), "it traps", UnixMillis::now());
        rollouts.failed("p", digest("new"), failure);
    }
    assert!(rollouts.end(&RULE));
    assert_eq!(runs_on(&rollouts, 0, Place::Take), digest("old"));
    assert_eq!(rollouts.offered("p", digest("new")), digest("old"));
    assert!(rollouts.is_wanted("p", digest("new"), digest("old")));
    assert!(!rollouts.is_wanted("p", digest("new"), digest("new")));
    // One that runs on it still may fail.
    assert_eq!(rollouts.instead_of("p", digest("new")), Some(digest("old")));
}
