//! One seed: its program, run on a daemon of its own and checked.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use abide_tests::checker::program::{self, Program, Round};
use abide_tests::checker::{Verdict, ViolationKind, check_history};
use tokio::task::JoinHandle;

use crate::clients::{MessageResult, talk};
use crate::operator::Operator;
use crate::scene::Scene;
use crate::stage::{ChaosParts, ChaosStage, GLANCE, StageSettings};

/// The outcome of a seed.
pub(crate) struct SeedOutcome {
    pub(crate) seed: u64,
    pub(crate) verdict: Verdict,
    /// How often each disturbance was applied, by name.
    pub(crate) done: BTreeMap<&'static str, u64>,
    pub(crate) took: Duration,
    /// The folder of the run; removed if nothing is wrong.
    pub(crate) folder: Option<PathBuf>,
}

/// Runs a seed. A panic (for example because the daemon never came up) is recorded as a trouble.
pub(crate) async fn run(seed: u64, means: ChaosParts) -> SeedOutcome {
    let started = Instant::now();
    match tokio::spawn(perform(seed, means)).await {
        Ok(outcome) => outcome,
        Err(error) => {
            let panic = error.into_panic();
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_else(|| "a panic without words".to_owned());
            let mut verdict = Verdict::default();
            verdict.wrong(ViolationKind::Service, text);
            verdict.count("made worse", 1);
            SeedOutcome {
                seed,
                verdict,
                done: BTreeMap::new(),
                took: started.elapsed(),
                folder: None,
            }
        }
    }
}

async fn perform(seed: u64, means: ChaosParts) -> SeedOutcome {
    let started = Instant::now();
    let tools = means.tools.is_some();
    let program = Program::new(seed, program::Means { tools });
    let name = format!("chaos-{seed}");
    let settings = StageSettings {
        grace_ms: program.grace_ms,
        probation_ms: program.probation_ms,
        cuts: program.cuts_power(),
    };
    let stage = ChaosStage::new(&name, settings, &means).await;
    let mut scene = Scene::open(stage, &program.sessions).await;
    for round in program.rounds {
        if !play(&mut scene, round).await {
            break;
        }
    }
    let (mut stage, facts) = scene.end().await;
    let verdict = check_history(&facts);
    let done = std::mem::take(&mut stage.done);
    let folder = stage.folder.clone();
    let folder = match verdict.violations.is_empty() {
        true => {
            stage.clean();
            None
        }
        false => Some(folder),
    };
    SeedOutcome {
        seed,
        verdict,
        done,
        took: started.elapsed(),
        folder,
    }
}

/// Runs one round. Returns whether the daemon became idle after it.
async fn play(scene: &mut Scene, round: Round) -> bool {
    let ids: Vec<_> = scene.sessions.iter().map(|it| it.id.clone()).collect();
    let clients: Vec<JoinHandle<Vec<MessageResult>>> = round
        .clients
        .into_iter()
        .map(|posts| {
            // Each client has connections of its own.
            let client = scene.stage.daemon.client();
            tokio::spawn(talk(client, ids.clone(), posts))
        })
        .collect();
    let operator = Operator::new(scene.stage.daemon.client(), ids.clone(), scene.next_copy);
    let operator = tokio::spawn(operator.take(round.ways_back));
    for moment in &round.moments {
        scene.stage.tend(moment.after_ms).await;
        scene.stage.disturb(&moment.what).await;
    }
    for client in clients {
        while !client.is_finished() {
            scene.stage.look().await;
            tokio::time::sleep(GLANCE).await;
        }
        match client.await {
            Ok(results) => scene.said(results),
            Err(error) => scene.stage.trouble(format!("a client: {error}")),
        }
    }
    while !operator.is_finished() {
        scene.stage.look().await;
        tokio::time::sleep(GLANCE).await;
    }
    match operator.await {
        Ok((operated, next_copy)) => scene.operated(operated, next_copy),
        Err(error) => scene.stage.trouble(format!("the operator: {error}")),
    }
    // An armed failpoint may still fire as long as there is work.
    let finished = scene.finish().await;
    scene.stage.disarm();
    let rests = finished && scene.stage.at_rest().await.is_some();
    // It may have fired at the last moment.
    let well = rests && scene.finish().await;
    if well {
        scene.probe().await;
    }
    well
}
