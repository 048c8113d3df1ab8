//! Scenarios of probation: when the supervisor rolls back, and to which config.

use super::limits::{BACKOFF_FIRST_MS, SERVE_DEADLINE_MS};
use super::tests::{World, killed, signal};
use super::*;

/// Worker 2 was ordered to take over on config 20; config 10 of worker 1 has passed probation.
fn on_trial() -> World {
    let mut world = World::serving();
    assert_eq!(world.says(1, WorkerMessage::Proven), Vec::<String>::new());
    world.replace(1, 7, 20);
    world.says(2, WorkerMessage::StandbyReady);
    assert_eq!(
        world.says(1, WorkerMessage::Released),
        ["go Planned -> 2", "sweep 1"]
    );
    world
}

/// As `on_trial`, and worker 2 serves and worker 1 has exited.
fn in_probation() -> World {
    let mut world = on_trial();
    world.serves(2, 20);
    world.dies(1, ExitStatus::Exited(0));
    world
}

/// As `in_probation`, and worker 2 has passed its probation.
fn proven() -> World {
    let mut world = in_probation();
    world.says(2, WorkerMessage::Proven);
    world
}

/// As `on_trial`, and worker 1 has exited.
fn alone() -> World {
    let mut world = on_trial();
    world.dies(1, ExitStatus::Exited(0));
    world
}

/// Builds a world in a certain state.
type Reached = fn() -> World;

#[test]
fn what_a_death_by_whose_doing_leads_to_in_which_phase() {
    let aborted = || signal(6, "SIGABRT", true);
    let exited = || ExitStatus::Exited(101);
    let cases: [(Reached, ExitStatus, &str); 10] = [
        (
            alone,
            aborted(),
            "Rollback(died of SIGABRT before it served) 10",
        ),
        (
            alone,
            exited(),
            "Rollback(exited with code 101 before it served) 10",
        ),
        (
            alone,
            ExitStatus::OutOfMemory,
            "Rollback(was killed by the kernel for want of memory before it served) 10",
        ),
        // Before worker 2 has served, its configuration is not known to work.
        (
            alone,
            killed(),
            "Crash(outside: died of SIGKILL before it served) 10",
        ),
        (in_probation, aborted(), "Rollback(died of SIGABRT) 10"),
        (in_probation, exited(), "Rollback(exited with code 101) 10"),
        (in_probation, killed(), "Crash(outside: died of SIGKILL) 20"),
        (proven, aborted(), "Crash(own: died of SIGABRT) 20"),
        (proven, exited(), "Crash(own: exited with code 101) 20"),
        (proven, killed(), "Crash(outside: died of SIGKILL) 20"),
    ];
    for (reached, death, next) in cases {
        let spawned = reached().dies(2, death.clone());
        assert_eq!(
            spawned,
            ["sweep", &*format!("spawn 3 Serve {next}")],
            "{death:?}"
        );
    }
}

#[test]
fn a_worker_that_writes_its_store_anew_has_as_long_as_that_takes() {
    let mut world = alone();
    for _ in 0..10 {
        world.now += SERVE_DEADLINE_MS - 1;
        world.says(2, WorkerMessage::Mending);
    }
    assert_eq!(world.waits(SERVE_DEADLINE_MS), ["kill 2"]);
    world.dies(2, killed());
    // It is the past of another one.
    world.says(2, WorkerMessage::Mending);
}

#[test]
fn a_worker_that_hangs_before_it_serves_is_rolled_back() {
    let mut world = alone();
    assert_eq!(world.waits(SERVE_DEADLINE_MS), ["kill 2"]);
    let spawned = world.dies(2, killed());
    let detail = "did not serve in time and was ended before it served";
    assert_eq!(
        spawned,
        ["sweep", &*format!("spawn 3 Serve Rollback({detail}) 10")]
    );
}

#[test]
fn what_is_gone_back_to_is_what_runs_also_if_it_is_killed_before_it_serves() {
    let mut world = in_probation();
    world.dies(2, ExitStatus::Exited(101));
    let spawned = world.dies(3, killed());
    let detail = "outside: died of SIGKILL before it served";
    assert_eq!(
        spawned,
        ["sweep", &*format!("spawn 4 Serve Crash({detail}) 10")]
    );
}

#[test]
fn a_restart_within_a_probation_leaves_the_last_good_as_it_was() {
    let mut world = in_probation();
    world.replace(2, 8, 30);
    world.says(3, WorkerMessage::StandbyReady);
    world.says(2, WorkerMessage::Released);
    world.serves(3, 30);
    world.dies(2, ExitStatus::Exited(0));
    let spawned = world.dies(3, ExitStatus::Exited(1));
    assert_eq!(
        spawned,
        ["sweep", "spawn 4 Serve Rollback(exited with code 1) 10"]
    );
}

#[test]
fn the_first_boot_is_rolled_back_to_what_an_earlier_life_had_proven() {
    let mut world = World::new();
    world.says(1, WorkerMessage::LastGood(5));
    world.serves(1, 10);
    let spawned = world.dies(1, ExitStatus::Exited(1));
    assert_eq!(
        spawned,
        ["sweep", "spawn 2 Serve Rollback(exited with code 1) 5"]
    );
    // The config that was rolled back to fails too. There is no other one: it is retried, with a
    // growing backoff.
    world.serves(2, 5);
    let spawned = world.dies(2, ExitStatus::Exited(1));
    let detail = "own: exited with code 1";
    assert_eq!(
        spawned,
        ["sweep", &*format!("spawn 3 Serve Crash({detail}) 5")]
    );
    assert_eq!(world.dies(3, ExitStatus::Exited(1)), Vec::<String>::new());
    assert_eq!(world.waits(BACKOFF_FIRST_MS).len(), 2);
}
