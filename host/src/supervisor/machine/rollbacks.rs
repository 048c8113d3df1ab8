//! Scenarios of probation: what is rolled back, and to what.

use super::limits::{BACKOFF_FIRST_MS, SERVE_DEADLINE_MS};
use super::tests::{World, killed, signal};
use super::*;

/// Worker 2 was told to take over on config 20; worker 1 had proven config 10.
fn on_trial() -> World {
    let mut world = World::serving();
    assert_eq!(world.says(1, Said::Proven), Vec::<String>::new());
    world.replace(1, 7, 20);
    world.says(2, Said::StandbyReady);
    assert_eq!(
        world.says(1, Said::Released),
        ["go Planned -> 2", "sweep 1"]
    );
    world
}

/// And serves.
fn in_probation() -> World {
    let mut world = on_trial();
    world.serves(2, 20);
    world.dies(1, Death::Exited(0));
    world
}

#[test]
fn a_worker_that_dies_within_its_probation_is_rolled_back() {
    for (death, how) in [
        (signal(6, "SIGABRT", true), "died of SIGABRT"),
        (Death::Exited(101), "exited with code 101"),
    ] {
        let mut world = in_probation();
        let spawned = world.dies(2, death);
        let rolled_back = format!("spawn 3 Serve Rollback({how}) 10");
        assert_eq!(spawned, ["sweep", &*rolled_back]);
        // What is gone back to is what runs, also if it is killed before it serves.
        let spawned = world.dies(3, killed());
        let told = "outside: died of SIGKILL before it served";
        assert_eq!(
            spawned,
            ["sweep", &*format!("spawn 4 Serve Crash({told}) 10")]
        );
    }
}

#[test]
fn a_worker_that_dies_or_hangs_before_it_serves_is_rolled_back() {
    let mut world = on_trial();
    world.dies(1, Death::Exited(0));
    let spawned = world.dies(2, Death::Exited(1));
    let told = "exited with code 1 before it served";
    assert_eq!(
        spawned,
        ["sweep", &*format!("spawn 3 Serve Rollback({told}) 10")]
    );
    let mut world = on_trial();
    world.dies(1, Death::Exited(0));
    assert_eq!(world.waits(SERVE_DEADLINE_MS), ["kill 2"]);
    let spawned = world.dies(2, killed());
    let told = "did not serve in time and was ended before it served";
    assert_eq!(
        spawned,
        ["sweep", &*format!("spawn 3 Serve Rollback({told}) 10")]
    );
}

#[test]
fn a_worker_that_is_killed_from_outside_is_not_rolled_back() {
    let mut world = in_probation();
    let spawned = world.dies(2, killed());
    let told = "outside: died of SIGKILL";
    assert_eq!(
        spawned,
        ["sweep", &*format!("spawn 3 Serve Crash({told}) 20")]
    );
}

#[test]
fn what_has_proven_itself_is_started_anew_as_it_is() {
    let mut world = in_probation();
    world.says(2, Said::Proven);
    let spawned = world.dies(2, Death::Exited(1));
    let told = "own: exited with code 1";
    assert_eq!(
        spawned,
        ["sweep", &*format!("spawn 3 Serve Crash({told}) 20")]
    );
}

#[test]
fn a_restart_within_a_probation_leaves_the_last_good_as_it_was() {
    let mut world = in_probation();
    world.replace(2, 8, 30);
    world.says(3, Said::StandbyReady);
    world.says(2, Said::Released);
    world.serves(3, 30);
    world.dies(2, Death::Exited(0));
    let spawned = world.dies(3, Death::Exited(1));
    assert_eq!(
        spawned,
        ["sweep", "spawn 4 Serve Rollback(exited with code 1) 10"]
    );
}

#[test]
fn the_first_boot_is_rolled_back_to_what_an_earlier_life_had_proven() {
    let mut world = World::new();
    world.says(1, Said::LastGood(5));
    world.serves(1, 10);
    let spawned = world.dies(1, Death::Exited(1));
    assert_eq!(
        spawned,
        ["sweep", "spawn 2 Serve Rollback(exited with code 1) 5"]
    );
    // It is no better. There is no other way back: it is tried again, ever more rarely.
    world.serves(2, 5);
    let spawned = world.dies(2, Death::Exited(1));
    let told = "own: exited with code 1";
    assert_eq!(
        spawned,
        ["sweep", &*format!("spawn 3 Serve Crash({told}) 5")]
    );
    assert_eq!(world.dies(3, Death::Exited(1)), Vec::<String>::new());
    assert_eq!(world.waits(BACKOFF_FIRST_MS).len(), 2);
}
