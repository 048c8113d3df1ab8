//! Scenarios of the machine, step by step.

use super::limits::{
    ALIVE_TIMEOUT_MS, BACKOFF_FIRST_MS, BACKOFF_MAX_MS, DEFAULT_STOP_BUDGET_MS, EXIT_DEADLINE_MS,
    OUTSIDE_MAX_MS, SERVE_DEADLINE_MS, SETTLED_MS, SILENT_DEADLINE_MS, START_DEADLINE_MS,
    STOP_MARGIN_MS, UNACCOUNTED_SETTLED_MS,
};
use super::*;
use crate::supervisor::message::StartCause;

/// A machine and its clock. Its actions are rendered as short texts: which message goes to whom.
pub(super) struct World {
    machine: Machine<u32>,
    pub(super) now: Millis,
}

impl World {
    pub(super) fn new() -> Self {
        let (machine, first) = Machine::new();
        assert_eq!(words(&first), ["spawn 1 Serve First none"]);
        Self { machine, now: 0 }
    }

    /// Worker 1 serves on config 10 and may take a second to stop.
    pub(super) fn serving() -> Self {
        let mut world = Self::new();
        assert_eq!(world.serves(1, 10), ["settle 1"]);
        world
    }

    /// Worker 2 is the standby of generation 7 on config 20.
    fn preparing() -> Self {
        let mut world = Self::serving();
        let spawned = world.replace(1, 7, 20);
        assert_eq!(spawned, ["spawn 2 Standby Planned 20"]);
        world
    }

    fn ready() -> Self {
        let mut world = Self::preparing();
        assert_eq!(world.says(2, WorkerMessage::StandbyReady), ["ready 7 -> 1"]);
        world
    }

    fn step(&mut self, event: MachineEvent<u32>) -> Vec<String> {
        words(&self.machine.step(self.now, event))
    }

    pub(super) fn says(&mut self, id: WorkerId, message: WorkerMessage<u32>) -> Vec<String> {
        self.step(MachineEvent::Message(id, message))
    }

    pub(super) fn serves(&mut self, id: WorkerId, config: u32) -> Vec<String> {
        let stop_budget = 1_000;
        self.says(
            id,
            WorkerMessage::Serving {
                stop_budget,
                config,
            },
        )
    }

    pub(super) fn replace(&mut self, id: WorkerId, generation: u64, config: u32) -> Vec<String> {
        let info = Vec::new();
        self.says(
            id,
            WorkerMessage::Replace(Replacement {
                generation,
                config,
                info,
            }),
        )
    }

    pub(super) fn dies(&mut self, id: WorkerId, death: ExitStatus) -> Vec<String> {
        self.step(MachineEvent::Gone(id, death))
    }

    /// Advances the clock to the next deadline, which must be `after` from now.
    pub(super) fn waits(&mut self, after: Millis) -> Vec<String> {
        assert_eq!(self.machine.next_deadline(), Some(self.now + after));
        self.now += after - 1;
        assert_eq!(self.step(MachineEvent::Tick), Vec::<String>::new());
        self.now += 1;
        self.step(MachineEvent::Tick)
    }
}

fn words<C: std::fmt::Display>(actions: &[Action<C>]) -> Vec<String> {
    let short = |cause: &StartCause| match cause {
        StartCause::First => "First".to_owned(),
        StartCause::Planned => "Planned".to_owned(),
        StartCause::Crash { own_doing, detail } => {
            format!(
                "Crash({}: {detail})",
                if *own_doing { "own" } else { "outside" }
            )
        }
        StartCause::Rollback { detail } => format!("Rollback({detail})"),
    };
    let word = |action: &Action<C>| match action {
        Action::Spawn(id, birth) => {
            let config = birth
                .config
                .as_ref()
                .map_or("none".to_owned(), C::to_string);
            format!(
                "spawn {id} {:?} {} {config}",
                birth.mode,
                short(&birth.cause)
            )
        }
        Action::Send(id, SupervisorMessage::Go(cause)) => format!("go {} -> {id}", short(cause)),
        Action::Send(id, SupervisorMessage::StandbyReady { generation }) => {
            format!("ready {generation} -> {id}")
        }
        Action::Send(id, SupervisorMessage::StandbyFailed { generation, reason }) => {
            format!("failed {generation} ({reason}) -> {id}")
        }
        Action::Send(id, SupervisorMessage::Stop) => format!("stop -> {id}"),
        Action::Send(id, SupervisorMessage::Reload) => format!("reload -> {id}"),
        Action::Relay(id) => format!("relay -> {id}"),
        Action::Settle(id) => format!("settle {id}"),
        Action::Kill(id) => format!("kill {id}"),
        Action::Sweep(id) => id.map_or("sweep".to_owned(), |id| format!("sweep {id}")),
        Action::Exit(code) => format!("exit {code}"),
        Action::Log(..) => String::new(),
    };
    let words = actions.iter().map(word);
    words.filter(|word| !word.is_empty()).collect()
}

pub(super) fn signal(number: u8, name: &str, fault: bool) -> ExitStatus {
    ExitStatus::Signal {
        number,
        name: name.to_owned(),
        fault,
    }
}

pub(super) fn killed() -> ExitStatus {
    signal(9, "SIGKILL", false)
}

const NONE: [&str; 0] = [];

#[test]
fn a_planned_restart_hands_over_once_the_store_is_released() {
    let mut world = World::ready();
    assert_eq!(world.says(1, WorkerMessage::Connection), ["relay -> 2"]);
    assert_eq!(
        world.says(1, WorkerMessage::Released),
        ["go Planned -> 2", "sweep 1"]
    );
    assert_eq!(world.says(1, WorkerMessage::Connection), ["relay -> 2"]);
    assert_eq!(world.serves(2, 20), ["settle 2"]);
    assert_eq!(world.waits(EXIT_DEADLINE_MS), ["kill 1"]);
    assert_eq!(world.dies(1, killed()), NONE);
    assert_eq!(world.machine.next_deadline(), None);
    // A further restart works: its standby runs on the config of its own request.
    assert_eq!(world.replace(2, 8, 30), ["spawn 3 Standby Planned 30"]);
}

/// The message to the current worker that its standby is gone.
fn unready(how: &str) -> String {
    format!("failed 7 (the new worker {how} before it took over) -> 1")
}

#[test]
fn a_standby_that_fails_leaves_the_current_worker_alone() {
    let mut world = World::preparing();
    let reason = "port in use".to_owned();
    let actions = world.says(2, WorkerMessage::StandbyFailed { reason });
    assert_eq!(actions, ["failed 7 (port in use) -> 1"]);
    assert_eq!(world.dies(2, ExitStatus::Exited(1)), NONE);

    let mut world = World::preparing();
    let actions = world.dies(2, signal(11, "SIGSEGV", true));
    assert_eq!(actions, [unready("died of SIGSEGV")]);

    let mut world = World::ready();
    let actions = world.dies(2, killed());
    assert_eq!(actions, [unready("died of SIGKILL")]);
    // A connection that worker 1 hands over is returned to it.
    assert_eq!(world.says(1, WorkerMessage::Connection), ["relay -> 1"]);

    let mut world = World::preparing();
    assert_eq!(world.waits(START_DEADLINE_MS), ["kill 2"]);
    let actions = world.dies(2, killed());
    assert_eq!(actions, [unready("was not ready in time and was ended")]);

    // One that compiles comes further.
    let mut world = World::preparing();
    for _ in 0..20 {
        world.now += SERVE_DEADLINE_MS - 1;
        assert_eq!(world.says(2, WorkerMessage::Mending), NONE);
    }
    assert_eq!(world.waits(SERVE_DEADLINE_MS), ["kill 2"]);

    let mut world = World::preparing();
    let actions = world.dies(2, ExitStatus::NotStarted("no such file".to_owned()));
    assert_eq!(actions, [unready("could not be started: no such file")]);
}

#[test]
fn the_latest_of_two_restarts_wins_once_the_first_standby_is_gone() {
    let mut world = World::ready();
    assert_eq!(world.replace(1, 8, 30), ["kill 2"]);
    assert_eq!(world.replace(1, 9, 40), NONE);
    assert_eq!(world.dies(2, killed()), ["spawn 3 Standby Planned 40"]);
    assert_eq!(world.says(3, WorkerMessage::StandbyReady), ["ready 9 -> 1"]);
}

#[test]
fn a_restart_that_is_given_up_ends_its_standby() {
    let mut world = World::ready();
    assert_eq!(world.says(1, WorkerMessage::CancelReplace), ["kill 2"]);
    assert_eq!(world.dies(2, killed()), NONE);
    assert_eq!(world.replace(1, 8, 30), ["spawn 3 Standby Planned 30"]);
}

#[test]
fn only_the_serving_worker_is_replaced() {
    let mut world = World::ready();
    for asking in [world.replace(2, 8, 30), {
        world.says(1, WorkerMessage::Released);
        world.replace(2, 8, 30)
    }] {
        assert!(
            asking[0].starts_with("failed 8 (only the worker that serves"),
            "{asking:?}"
        );
    }
}

#[test]
fn a_crash_is_followed_by_a_worker_on_the_running_config() {
    let mut world = World::preparing();
    assert_eq!(world.dies(1, signal(11, "SIGSEGV", true)), ["kill 2"]);
    let reborn = "spawn 3 Serve Crash(own: died of SIGSEGV) 10";
    assert_eq!(world.dies(2, killed()), ["sweep", reborn]);

    let mut world = World::serving();
    let reborn = "spawn 2 Serve Crash(outside: died of SIGKILL) 10";
    assert_eq!(world.dies(1, killed()), ["sweep", reborn]);

    let mut world = World::serving();
    world.serves(1, 11); // A hot reload.
    let reborn = "spawn 2 Serve Crash(own: exited with code 0) 11";
    assert_eq!(world.dies(1, ExitStatus::Exited(0)), ["sweep", reborn]);
}

#[test]
fn a_crash_during_the_drain_goes_to_the_ready_standby() {
    let mut world = World::ready();
    let actions = world.dies(1, signal(6, "SIGABRT", true));
    assert_eq!(actions, ["go Crash(own: died of SIGABRT) -> 2", "sweep"]);
    assert_eq!(world.serves(2, 20), ["settle 2"]);
}

#[test]
fn a_successor_that_dies_before_it_serves_is_followed_by_the_last_good_config() {
    let mut world = World::ready();
    world.says(1, WorkerMessage::Released);
    // Worker 1, which has released the store, must be gone as well.
    assert_eq!(world.dies(2, ExitStatus::Exited(3)), ["kill 1"]);
    let reborn = "spawn 3 Serve Rollback(exited with code 3 before it served) 10";
    assert_eq!(world.dies(1, killed()), ["sweep", reborn]);

    // The standby dies just before the store is released for it.
    let mut world = World::ready();
    world.dies(2, killed());
    assert_eq!(world.says(1, WorkerMessage::Released), NONE);
    let reborn = world.dies(1, ExitStatus::Exited(0));
    assert_eq!(reborn.len(), 2);
    assert!(reborn[1].starts_with("spawn 3 Serve Crash(own: ") && reborn[1].ends_with(" 10"));
}

#[test]
fn failed_starts_are_spaced_out_and_forgotten_once_one_has_settled() {
    let mut world = World::serving();
    let mut id = 1;
    let mut pauses = Vec::new();
    for _ in 0..12 {
        let before = world.now;
        let mut out = world.dies(id, ExitStatus::Exited(1));
        if out.is_empty() {
            out = world.waits(world.machine.next_deadline().unwrap() - world.now);
        }
        pauses.push(world.now - before);
        id += 1;
        assert!(
            out[1].starts_with(&format!("spawn {id} Serve Crash")),
            "{out:?}"
        );
    }
    let doubled = (0..11).map(|n| (BACKOFF_FIRST_MS << n).min(BACKOFF_MAX_MS));
    assert_eq!(pauses, [0].into_iter().chain(doubled).collect::<Vec<_>>());
    world.serves(id, 10);
    world.now += SETTLED_MS;
    assert_eq!(world.dies(id, ExitStatus::Exited(1)).len(), 2);
}

#[test]
fn kills_from_outside_cost_little_until_they_go_on_and_on() {
    let mut world = World::serving();
    world.dies(1, killed());
    let grown = [200, 400, 800, 1_600, 3_200, OUTSIDE_MAX_MS, OUTSIDE_MAX_MS];
    let pauses = [BACKOFF_FIRST_MS; 9].into_iter().chain(grown);
    let mut last = 1;
    for (id, pause) in (2..).zip(pauses) {
        world.serves(id, 10);
        assert_eq!(world.dies(id, killed()), NONE);
        assert_eq!(world.waits(pause).len(), 2, "{id}");
        last = id;
    }
    // One that has served for a while ends the row.
    world.serves(last + 1, 10);
    world.now += SETTLED_MS;
    assert_eq!(world.dies(last + 1, killed()).len(), 2);
    world.serves(last + 2, 10);
    world.dies(last + 2, killed());
    assert_eq!(world.waits(BACKOFF_FIRST_MS).len(), 2);
}

#[test]
fn kills_from_nobody_knows_where_are_backed_off_and_told() {
    let mut world = World::serving();
    let mut at = Vec::new();
    for id in 1..=10 {
        world.serves(id, 10);
        let mut out = world.dies(id, ExitStatus::Unaccounted);
        let before = world.now;
        if out.is_empty() {
            out = world.waits(world.machine.next_deadline().unwrap() - world.now);
        }
        at.push(world.now - before);
        let next = format!(
            "spawn {} Serve Crash(outside: {KILLED_BY_UNKNOWN}) 10",
            id + 1
        );
        assert_eq!(out, ["sweep", &*next]);
    }
    let pauses = [
        0, 100, 100, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000,
    ];
    assert_eq!(at, pauses);
    // A kill that is known to be from outside, or a worker that has served for long, ends the row.
    world.serves(11, 10);
    world.now += UNACCOUNTED_SETTLED_MS;
    assert_eq!(world.dies(11, ExitStatus::Unaccounted).len(), 2);
    for id in 12..14 {
        world.serves(id, 10);
        world.dies(id, ExitStatus::Unaccounted);
        world.waits(BACKOFF_FIRST_MS);
    }
    world.serves(14, 10);
    assert_eq!(world.dies(14, killed()), NONE);
    world.waits(BACKOFF_FIRST_MS);
    world.serves(15, 10);
    assert_eq!(world.dies(15, ExitStatus::Unaccounted), NONE);
    world.waits(BACKOFF_FIRST_MS);
}

#[test]
fn a_worker_that_the_supervisor_ended_was_killed_by_nobody_else() {
    let mut world = World::serving();
    world.says(1, WorkerMessage::Alive);
    assert_eq!(world.waits(ALIVE_TIMEOUT_MS), ["kill 1"]);
    let detail = "own: gave no sign of life and was ended";
    assert_eq!(
        world.dies(1, ExitStatus::Unaccounted),
        ["sweep", &*format!("spawn 2 Serve Crash({detail}) 10")]
    );
}

#[test]
fn a_first_boot_that_fails_ends_with_the_workers_code() {
    let code = |death| World::new().dies(1, death);
    assert_eq!(code(ExitStatus::Exited(78)), ["sweep", "exit 78"]);
    assert_eq!(code(signal(11, "SIGSEGV", true)), ["sweep", "exit 139"]);
    assert_eq!(
        code(ExitStatus::NotStarted(String::new())),
        ["sweep", "exit 1"]
    );
    let mut world = World::new();
    let reason = "port in use".to_owned();
    world.says(1, WorkerMessage::Fatal { reason, code: 2 });
    assert_eq!(world.dies(1, ExitStatus::Exited(0)), ["sweep", "exit 2"]);
}

#[test]
fn a_stop_is_a_drain_with_a_deadline() {
    let mut world = World::serving();
    assert_eq!(world.step(MachineEvent::Terminate), ["stop -> 1"]);
    assert_eq!(world.says(1, WorkerMessage::Stopped), NONE);
    assert_eq!(world.dies(1, ExitStatus::Exited(0)), ["sweep", "exit 0"]);
    assert_eq!(world.step(MachineEvent::Terminate), NONE);

    let mut world = World::serving();
    world.step(MachineEvent::Terminate);
    assert_eq!(world.waits(1_000 + STOP_MARGIN_MS), ["kill 1"]);
    assert_eq!(world.dies(1, killed()), ["sweep", "exit 1"]);

    let mut world = World::serving();
    world.step(MachineEvent::Terminate);
    assert_eq!(
        world.step(MachineEvent::Terminate),
        ["kill 1", "sweep", "exit 1"]
    );
}

#[test]
fn a_stop_comes_through_in_every_phase() {
    // While the first worker boots.
    let mut world = World::new();
    assert_eq!(world.step(MachineEvent::Terminate), ["stop -> 1"]);
    assert_eq!(
        world.machine.next_deadline(),
        Some(DEFAULT_STOP_BUDGET_MS + STOP_MARGIN_MS)
    );
    assert_eq!(world.serves(1, 10), ["settle 1"]);
    assert_eq!(world.machine.next_deadline(), Some(1_000 + STOP_MARGIN_MS));
    assert_eq!(world.dies(1, ExitStatus::Exited(0)), ["sweep", "exit 0"]);

    // While a standby prepares, and once it is ready.
    for mut world in [World::preparing(), World::ready()] {
        assert_eq!(world.step(MachineEvent::Terminate), ["kill 2", "stop -> 1"]);
        assert_eq!(world.dies(2, killed()), NONE);
        // Worker 1 releases the store before it receives `Stop`.
        assert_eq!(world.says(1, WorkerMessage::Released), NONE);
        assert_eq!(world.dies(1, ExitStatus::Exited(0)), ["sweep", "exit 0"]);
    }

    // Past the point of no return: the new worker opens the store, then stops.
    let mut world = World::ready();
    world.says(1, WorkerMessage::Released);
    assert_eq!(world.step(MachineEvent::Terminate), ["stop -> 2"]);
    world.serves(2, 20);
    world.says(2, WorkerMessage::Stopped);
    assert_eq!(world.dies(2, ExitStatus::Exited(0)), NONE);
    assert_eq!(world.dies(1, ExitStatus::Exited(0)), ["sweep", "exit 0"]);

    // Between a crash and the next worker.
    let mut world = World::preparing();
    world.dies(1, killed());
    assert_eq!(world.step(MachineEvent::Terminate), NONE);
    assert_eq!(world.dies(2, killed()), ["sweep", "exit 0"]);
}

#[test]
fn a_worker_may_stop_the_daemon_itself() {
    let mut world = World::ready();
    assert_eq!(world.says(1, WorkerMessage::Stopped), ["kill 2"]);
    assert_eq!(world.waits(EXIT_DEADLINE_MS), ["kill 1"]);
    assert_eq!(world.dies(1, killed()), NONE);
    assert_eq!(world.dies(2, killed()), ["sweep", "exit 0"]);
}

#[test]
fn hangs_are_ended_and_are_the_workers_own_doing() {
    let mut world = World::serving();
    world.says(1, WorkerMessage::Alive);
    world.now += 5;
    world.says(1, WorkerMessage::Alive);
    assert_eq!(world.waits(ALIVE_TIMEOUT_MS), ["kill 1"]);
    // Messages after the kill are ignored.
    assert_eq!(world.serves(1, 99), NONE);
    let reborn = "spawn 2 Serve Crash(own: gave no sign of life and was ended) 10";
    assert_eq!(world.dies(1, killed()), ["sweep", reborn]);

    let mut world = World::serving();
    assert_eq!(world.step(MachineEvent::Closed(1)), NONE);
    assert_eq!(world.waits(SILENT_DEADLINE_MS), ["kill 1"]);

    let mut world = World::serving();
    assert_eq!(
        world.step(MachineEvent::Broken(1, "why".to_owned())),
        ["kill 1"]
    );
}

#[test]
fn a_worker_killed_from_outside_closes_its_link_first_and_is_not_blamed() {
    let mut world = World::serving();
    assert_eq!(world.step(MachineEvent::Closed(1)), NONE);
    let reborn = "spawn 2 Serve Crash(outside: died of SIGKILL) 10";
    assert_eq!(world.dies(1, killed()), ["sweep", reborn]);
}

#[test]
fn a_hangup_is_for_the_worker_in_charge() {
    let mut world = World::ready();
    assert_eq!(world.step(MachineEvent::Hangup), ["reload -> 1"]);
    world.says(1, WorkerMessage::Released);
    assert_eq!(world.step(MachineEvent::Hangup), ["reload -> 2"]);
}
