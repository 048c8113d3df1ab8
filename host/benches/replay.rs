//! Benchmarks a turn whose steps are answered from the journal: the difference between step counts
//! is the cost of a step.

use abide::domain::{
    Effect, FromInbox, Journal, Planned, Record, Recorded, Replay, Snapshot, StepCallName,
    StepDone, StepPath, StepRequest, StepResult, UnixMillis,
};
use abide::engine::{Engine, GuestJob, Product, StepAnswer, StepCall};
use criterion::{BenchmarkId, Criterion};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::wasm::{Bench, message, snapshot};

/// Numbers of steps in a turn.
const STEPS: [u32; 3] = [0, 10, 100];
const TURN: u64 = 1;

pub(crate) fn bench(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("threads can be started");
    let mut group = criterion.benchmark_group("replay");
    let bench = Bench::new();
    let job = bench.job("scripted");
    let opened = runtime.block_on(bench.engine.open(&job)).expect("it opens");
    let before = snapshot(&job, &opened);
    for steps in STEPS {
        let acts = vec![r#"{"act":"receive"}"#; steps as usize].join(",");
        let script = format!("{{\"id\":\"r\",\"acts\":[{acts}]}}");
        let journal = journal(steps);
        group.bench_function(BenchmarkId::new("steps", steps), |bencher| {
            bencher
                .iter(|| runtime.block_on(replay(&bench.engine, &job, &before, &script, &journal)));
        });
    }
    group.finish();
}

/// Returns the journal of a turn that called `receive` `steps` times and received nothing.
fn journal(steps: u32) -> Journal {
    let at = UnixMillis(1);
    let records = (1..=steps).flat_map(|step| {
        let planned = Planned {
            turn: TURN,
            step,
            call: StepCallName::of(&StepRequest::Receive),
            effects: vec![Effect::Local],
            parts: Vec::new(),
            about: String::new(),
            at,
        };
        let done = StepDone {
            turn: TURN,
            step,
            part: 0,
            tool: None,
            result: Ok(StepResult::Receive(FromInbox {
                notice: None,
                messages: Vec::new(),
            })),
            took_ms: 0,
            at,
        };
        [Record::Planned(planned), Record::Done(done)]
    });
    Journal::of(TURN, records)
}

async fn replay(
    engine: &Engine,
    job: &GuestJob,
    before: &Snapshot,
    script: &str,
    journal: &Journal,
) -> Product {
    let (calls, mut asked) = mpsc::channel::<Box<StepCall>>(1);
    let guest = engine.turn(job, before, None, vec![message(script)], calls);
    tokio::pin!(guest);
    let mut replay = Replay::new(journal.clone());
    loop {
        let asked = tokio::select! {
            ended = &mut guest => return ended.expect("the script can be done"),
            Some(asked) = asked.recv() => asked,
        };
        let StepPath::Recorded(parts) = replay.next(&asked.call) else {
            panic!("the journal has no step {}", asked.step);
        };
        let [Recorded::Done(done)] = &parts[..] else {
            panic!("step {} has no outcome", asked.step);
        };
        let answer = StepAnswer {
            result: done.result.clone(),
            took_ms: done.took_ms,
        };
        // An error means that the guest has ended.
        let _ = asked.reply.send(answer);
    }
}
