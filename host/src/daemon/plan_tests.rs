//! Checks the planner against its decision table, over all combinations of inputs.

use std::collections::BTreeMap;
use std::path::Path;

use super::machine::{Trigger, UnderWay};
use super::plan::{Candidate, Decision, PlanContext, Rejection, decide};
use crate::config::{Config, Env, Observed, OnConfigChange};
use crate::domain::{Generation, Refusal};

const RULES: [(OnConfigChange, &str); 3] = [
    (OnConfigChange::Auto, "auto"),
    (OnConfigChange::Restart, "restart"),
    (OnConfigChange::Ignore, "ignore"),
];
const TRIGGERS: [Trigger; 4] = [
    Trigger::Watch,
    Trigger::Signal,
    Trigger::Operator,
    Trigger::Store,
];
const UNDER_WAY: [Option<UnderWay>; 3] = [
    None,
    Some(UnderWay::Restart(Generation(7))),
    Some(UnderWay::Stop(Generation(7))),
];

/// How a candidate differs from the running configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    Nothing,
    Hot,
    Restart,
    Both,
    Fixed,
    RemovedPlugin,
    Syntax,
}
const CHANGES: [Change; 7] = [
    Change::Nothing,
    Change::Hot,
    Change::Restart,
    Change::Both,
    Change::Fixed,
    Change::RemovedPlugin,
    Change::Syntax,
];

/// The open sessions of a plugin that is removed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sessions {
    None,
    Some,
    Unknown,
}

fn text(rule: &str, change: Change) -> String {
    let daemon = match change {
        Change::Nothing | Change::RemovedPlugin => "# the same",
        Change::Hot => "log_level = \"debug\"",
        Change::Restart => "listen = \"127.0.0.1:9\"",
        Change::Both => "log_level = \"debug\"\nlisten = \"127.0.0.1:9\"",
        Change::Fixed => "data_dir = \"elsewhere\"",
        Change::Syntax => "= 3",
    };
    let second = match change {
        Change::RemovedPlugin => "",
        _ => "[plugins.b]\npath = \"echo.wasm\"\n",
    };
    format!(
        "[daemon]\non_config_change = \"{rule}\"\n{daemon}\n[plugins.a]\npath = \"echo.wasm\"\n{second}"
    )
}

fn name(decision: &Decision) -> &'static str {
    match decision {
        Decision::Nothing => "nothing",
        Decision::Ignored { .. } => "ignored",
        Decision::Hot { .. } => "hot",
        Decision::Restart { .. } => "restart",
        Decision::Deferred => "deferred",
        Decision::Stopping => "stopping",
        Decision::Rejected(Rejection::RolledBack(_), _) => "rolled back",
        Decision::Rejected(Rejection::Invalid(_), _) => "invalid",
        Decision::Rejected(Rejection::Loses(_), _) => "loses",
        Decision::Rejected(..) => "rejected",
    }
}

/// Returns the expected decision, implemented a second time and independently, from the rows of the
/// diagram in [`super::plan`].
fn due(
    trigger: Trigger,
    under_way: Option<UnderWay>,
    rule: OnConfigChange,
    change: Change,
    sessions: Sessions,
    rolled_back: bool,
) -> &'static str {
    match under_way {
        Some(UnderWay::Restart(_)) => return "deferred",
        Some(UnderWay::Stop(_)) => return "stopping",
        None => {}
    }
    // A file that does not parse was never tried, so it cannot have been rolled back.
    if change == Change::Syntax {
        return "invalid";
    }
    if rolled_back && trigger == Trigger::Watch {
        return "rolled back";
    }
    let orphans = change == Change::RemovedPlugin && sessions != Sessions::None;
    if change == Change::Fixed || orphans {
        return "loses";
    }
    let asked = trigger != Trigger::Watch;
    match (change, trigger, rule) {
        (_, Trigger::Operator | Trigger::Store, _) => "restart",
        (Change::Nothing, _, _) => "nothing",
        (_, _, OnConfigChange::Ignore) if !asked => "ignored",
        (Change::Hot, _, OnConfigChange::Auto | OnConfigChange::Ignore) => "hot",
        _ => "restart",
    }
}

#[test]
fn the_planner_is_its_table() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("echo.wasm"), b"\0asm\x0d\0\x01\0").expect("it is written");
    let file = folder.path().join("abide.toml");
    let env = Env::new();
    let candidate = |text: &str| {
        let seen = Observed::of(text.as_bytes().to_vec(), []);
        let draft = Config::draft(&seen.bytes, &file, &env);
        Candidate::read(&seen, draft, &env)
    };
    let mut rows = 0;
    for (rule, written) in RULES {
        let before = text(written, Change::Nothing);
        let config = Config::validate(before.as_bytes(), &file, &env).expect("it is sound");
        let loaded = Observed::of(before.into_bytes(), &config.files());
        for change in CHANGES {
            let new = text(written, change);
            let digest = candidate(&new).own.map(|own| own.digest());
            for sessions in [Sessions::None, Sessions::Some, Sessions::Unknown] {
                let count = |plugin: &str| {
                    assert_eq!(plugin, "b");
                    match sessions {
                        Sessions::None => Ok(0),
                        Sessions::Some => Ok(2),
                        Sessions::Unknown => Err(Refusal::StoreFailed("no store".to_owned())),
                    }
                };
                for (trigger, under_way, is_rolled_back) in all() {
                    let rejected: BTreeMap<_, _> = match digest.filter(|_| is_rolled_back) {
                        Some(digest) => [(digest, "it died".to_owned())].into(),
                        None => BTreeMap::new(),
                    };
                    let running = PlanContext {
                        under_way,
                        config: &config,
                        loaded: &loaded,
                        rejected: &rejected,
                        open_sessions: &count,
                    };
                    let decision = decide(trigger, &running, candidate(&new));
                    let due = due(trigger, under_way, rule, change, sessions, is_rolled_back);
                    assert_eq!(
                        name(&decision),
                        due,
                        "{trigger:?} {under_way:?} {rule:?} {change:?} {sessions:?} {is_rolled_back}"
                    );
                    rows += 1;
                }
            }
        }
    }
    assert_eq!(rows, 3 * 7 * 3 * 4 * 3 * 2);
}

fn all() -> impl Iterator<Item = (Trigger, Option<UnderWay>, bool)> {
    TRIGGERS.into_iter().flat_map(|trigger| {
        UNDER_WAY.into_iter().flat_map(move |under_way| {
            [false, true].map(|is_rolled_back| (trigger, under_way, is_rolled_back))
        })
    })
}

#[test]
fn a_rejection_names_the_key_the_reason_and_the_remedy() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("echo.wasm"), b"\0asm\x0d\0\x01\0").expect("it is written");
    let rejection = |change: Change, sessions: &dyn Fn(&str) -> Result<u64, Refusal>| {
        let rejected = decide_alone(folder.path(), change, sessions);
        let Decision::Rejected(rejection, _) = rejected else {
            panic!("{change:?} is taken");
        };
        rejection.problems().remove(0)
    };
    let removed = rejection(Change::RemovedPlugin, &|_| Ok(2));
    assert_eq!(removed.key, "plugins.b");
    assert!(removed.text.contains("open sessions (2)"), "{removed:?}");
    assert!(removed.text.contains("close them"), "{removed:?}");
    let failed = |_: &str| Err(Refusal::StoreFailed("bad disk".to_owned()));
    let unknown = rejection(Change::RemovedPlugin, &failed);
    assert!(unknown.text.contains("cannot be counted"), "{unknown:?}");
    assert!(unknown.text.contains("bad disk"), "{unknown:?}");
    let fixed = rejection(Change::Fixed, &|_| Ok(0));
    assert_eq!(fixed.key, "daemon.data_dir");
    let syntax = rejection(Change::Syntax, &|_| Ok(0));
    assert!(syntax.text.contains("abide.toml:3:"), "{syntax:?}");
}

fn decide_alone(
    folder: &Path,
    change: Change,
    open_sessions: &dyn Fn(&str) -> Result<u64, Refusal>,
) -> Decision {
    let (file, env) = (folder.join("abide.toml"), Env::new());
    let before = text("auto", Change::Nothing);
    let config = Config::validate(before.as_bytes(), &file, &env).expect("it is sound");
    let running = PlanContext {
        under_way: None,
        config: &config,
        loaded: &Observed::of(before.into_bytes(), &config.files()),
        rejected: &BTreeMap::new(),
        open_sessions,
    };
    let seen = Observed::of(text("auto", change).into_bytes(), []);
    let draft = Config::draft(&seen.bytes, &file, &env);
    decide(
        Trigger::Watch,
        &running,
        Candidate::read(&seen, draft, &env),
    )
}
