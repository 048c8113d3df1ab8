//! Programs are functions of their seed, use unique names, and cover every kind of act and
//! disturbance.

use std::collections::{BTreeSet, HashSet};
use std::mem::discriminant;

use abide_tests::checker::program::{Disturbance, Means, Program, Variant, WayBackAct};
use abide_tests::checker::{Act, Script};

const TOOLS: Means = Means { tools: true };
const SEEDS: u64 = 200;

fn scripts(program: &Program) -> Vec<&Script> {
    program
        .posts()
        .flat_map(|post| post.script.family())
        .collect()
}

#[test]
fn a_seed_replays() {
    for seed in 0..20 {
        assert_eq!(Program::new(seed, TOOLS), Program::new(seed, TOOLS));
    }
    assert_ne!(Program::new(1, TOOLS), Program::new(2, TOOLS));
}

#[test]
fn names_are_unique_in_a_program() {
    for seed in 0..SEEDS {
        let program = Program::new(seed, TOOLS);
        let mut seen = BTreeSet::new();
        for script in scripts(&program) {
            assert!(seen.insert(script.id.clone()), "{seed}: {}", script.id);
            for act in &script.acts {
                for call in act.calls() {
                    assert!(seen.insert(call.token.clone()), "{seed}: {}", call.token);
                }
            }
            for (name, _, _) in script.timers() {
                assert!(seen.insert(name.to_owned()), "{seed}: {name}");
            }
        }
    }
}

#[test]
fn scripts_survive_json() {
    for script in scripts(&Program::new(3, TOOLS)) {
        assert_eq!(Script::read(&script.text()).as_ref(), Some(script));
    }
}

#[test]
fn programs_use_all_there_is() {
    let mut acts = BTreeSet::new();
    let mut disturbances = Vec::new();
    let mut kills = 0;
    for seed in 0..SEEDS {
        let program = Program::new(seed, TOOLS);
        assert!((3..=6).contains(&program.sessions.len()));
        for script in scripts(&program) {
            acts.extend(script.acts.iter().map(Act::kind));
        }
        for moment in program.rounds.iter().flat_map(|round| &round.moments) {
            kills += u64::from(moment.what.kills());
            disturbances.push(moment.what.clone());
        }
    }
    assert_eq!(acts.len(), 9, "{acts:?}");
    let kinds: HashSet<_> = disturbances.iter().map(discriminant).collect();
    assert_eq!(kinds.len(), 12);
    assert!(
        disturbances
            .iter()
            .any(|what| matches!(what, Disturbance::Fault { power: true, .. }))
    );
    // A thousand kills in two hundred seeds, even if some failpoints are never crossed.
    assert!(kills > 1200, "{kills} kills");
}

#[test]
fn programs_take_all_ways_back() {
    let programs: Vec<_> = (0..SEEDS).map(|seed| Program::new(seed, TOOLS)).collect();
    let rounds = || programs.iter().flat_map(|program| &program.rounds);
    let acts: Vec<_> = rounds()
        .flat_map(|round| &round.ways_back)
        .map(|way| way.act)
        .collect();
    let kinds: HashSet<_> = acts.iter().map(discriminant).collect();
    assert_eq!(kinds.len(), 3);
    assert!(acts.len() > 800, "{}", acts.len());
    let present = |act: &&WayBackAct| matches!(act, WayBackAct::Fork { point: None });
    assert!(acts.iter().any(|act| present(&act)));
    // Beyond the program's own sessions, copies are meant.
    let ways = || rounds().flat_map(|round| &round.ways_back);
    assert!(ways().any(|way| way.session >= 6));
    let moments = rounds().flat_map(|round| &round.moments);
    let variants: BTreeSet<_> = moments
        .filter_map(|moment| match moment.what {
            Disturbance::Component(to) => Some(Variant::as_str(to)),
            _ => None,
        })
        .collect();
    assert_eq!(variants.len(), 7, "{variants:?}");
    // Without a first probation that is over, there are none.
    let short = programs.iter().filter(|it| it.probation_ms.is_some());
    assert!(short.count() > 150);
    // A session that damage touches has other troubles.
    let is_damage = |what: &Disturbance| matches!(what, Disturbance::Damage { .. });
    let mut damaged = rounds().filter(|it| it.moments.iter().any(|it| is_damage(&it.what)));
    assert!(damaged.all(|round| round.ways_back.is_empty()));
}

#[test]
fn without_tools_nothing_asks_for_one() {
    for seed in 0..SEEDS {
        let program = Program::new(seed, Means { tools: false });
        let all = scripts(&program);
        let mut acts = all.iter().flat_map(|script| &script.acts);
        assert!(acts.all(|act| act.calls().is_empty() && *act != Act::List));
    }
}
