//! Turns of guests, and their results.

use std::time::Duration;

use abide::domain::{
    Cause, Completion, FailureCode, FinishReason, Generation, Interruption, Notice, Output,
    Patterns, Snapshot, StepRequest, StepResult, TimerOp, UnixMillis,
};
use abide::engine::{CheckFailure, GuestFailure, GuestJob, LogLevel, StepAnswer, StepCall};
use futures::FutureExt as _;
use tokio::sync::mpsc;

use super::{EngineBench, message, snapshot, text, turn};

#[tokio::test]
async fn every_misbehaviour_has_its_own_failure() {
    let bench = EngineBench::new(4);
    let mut job = bench.job("hostile");
    let patient = job.limits.turn_timeout;
    for (act, code, part) in [
        ("trap", FailureCode::Trap, "unreachable"),
        ("panic at the disco", FailureCode::Trap, "at the disco"),
        ("exit", FailureCode::Trap, "exited with status"),
        ("fail because", FailureCode::Guest, "because"),
        (
            "loop",
            FailureCode::Timeout,
            "plugins.tried.limits.turn_timeout",
        ),
        ("alloc", FailureCode::Limit, "plugins.tried.limits.memory"),
        ("events 1001", FailureCode::Guest, "limits.events"),
        ("say 300000", FailureCode::Guest, "limits.event"),
        (
            "snapshot 1048577",
            FailureCode::Limit,
            "plugins.tried.limits.snapshot",
        ),
    ] {
        // Whatever else a busy machine delays must not end by this limit first.
        job.limits.turn_timeout = match code {
            FailureCode::Timeout => Duration::from_millis(700),
            _ => patient,
        };
        let failure = turn(&bench.engine, &job, act).await;
        let Err(GuestFailure::Failed(failure)) = failure else {
            panic!("{act}: {failure:?}");
        };
        assert_eq!(failure.code, code, "{act}: {failure}");
        assert!(failure.text.contains(part), "{act}: {failure}");
    }
    let failed = turn(&bench.engine, &job, "trap").await.expect_err("a trap");
    assert!(
        failed.to_string().contains(" in "),
        "names functions: {failed}"
    );
    let Err(GuestFailure::Failed(failure)) = turn(&bench.engine, &job, "recurse").await else {
        panic!("endless recursion ended");
    };
    assert!(
        matches!(failure.code, FailureCode::Limit | FailureCode::Trap),
        "{failure}"
    );
    let logged = turn(&bench.engine, &job, "logs 250")
        .await
        .expect("logs are no error");
    assert_eq!((logged.logs.len(), logged.logs_dropped), (200, 50));
    let well = turn(&bench.engine, &job, "hello")
        .await
        .expect("others go on");
    assert_eq!(text(&well), "ok hello");
}

#[tokio::test]
async fn a_guest_that_computes_without_end_holds_up_nobody() {
    let bench = EngineBench::new(2);
    let mut job = bench.job("hostile");
    job.limits.turn_timeout = Duration::from_secs(3);
    // Both run on the one thread of this test.
    let (endless, other) = tokio::join!(biased;
        turn(&bench.engine, &job, "loop"),
        turn(&bench.engine, &job, "hello"),
    );
    assert!(matches!(endless, Err(GuestFailure::Failed(f)) if f.code == FailureCode::Timeout));
    assert_eq!(text(&other.expect("the other turn ends")), "ok hello");
}

#[tokio::test]
async fn a_turn_is_a_function_of_its_job() {
    let bench = EngineBench::new(2);
    let job = bench.job("hostile");
    for act in ["random", "time", "env", "stdout said"] {
        let first = turn(&bench.engine, &job, act).await.expect(act);
        let again = turn(&bench.engine, &job, act).await.expect(act);
        assert_eq!(first, again, "{act}");
    }
    let other = GuestJob {
        seed: 43,
        ..job.clone()
    };
    let (one, two) = (
        turn(&bench.engine, &job, "random").await.expect("a turn"),
        turn(&bench.engine, &other, "random").await.expect("a turn"),
    );
    assert_ne!(text(&one), text(&two));

    let time = turn(&bench.engine, &job, "time").await.expect("a turn");
    let hour_later = job.now.0 + 3_600_000;
    let expected = format!("before={} after={hour_later} elapsed=3600000", job.now.0);
    assert_eq!(text(&time), expected);

    let env = turn(&bench.engine, &job, "env").await.expect("a turn");
    assert!(
        text(&env).starts_with("env=0 args=0 file=failed"),
        "{}",
        text(&env)
    );
    assert!(!text(&env).contains("opened"), "{}", text(&env));

    let logs = turn(&bench.engine, &job, "stdout said")
        .await
        .expect("a turn")
        .logs;
    let logs: Vec<_> = logs.iter().map(|l| (l.level, l.text.as_str())).collect();
    assert_eq!(logs, [(LogLevel::Info, "said"), (LogLevel::Warn, "said")]);
}

#[tokio::test]
async fn a_notice_stands_in_front() {
    let bench = EngineBench::new(1);
    let job = bench.job("echo");
    let opened = bench.engine.open(&job).await.expect("echo opens");
    let notice = Notice {
        cause: Cause::Config,
        generation: Generation(3),
        interruption: Interruption::None,
        unknown_steps: vec![],
        stopped: None,
        cut: None,
        replaced: None,
        timeline: None,
    };
    let (steps, _calls) = mpsc::channel(1);
    let input = vec![message("hello")];
    let product = bench
        .engine
        .turn(&job, &snapshot(&job, &opened), Some(&notice), input, steps)
        .await
        .expect("echo answers");
    let expected = [
        Output::Text(format!("#1 system: {}", notice.text())),
        Output::Text("#1 user: hello".into()),
    ];
    assert_eq!(product.outputs, expected);
}

#[tokio::test]
async fn steps_are_denied_unless_granted() {
    let bench = EngineBench::new(1);
    let mut job = bench.job("hostile");
    for (act, part) in [
        ("llm hi", "plugins.tried.capabilities.llm"),
        (
            "call read {}",
            "add read to plugins.tried.capabilities.tools",
        ),
        (
            "http http://a.example/",
            "add http://a.example to plugins.tried.capabilities.http",
        ),
    ] {
        let product = turn(&bench.engine, &job, act).await.expect(act);
        assert!(text(&product).contains(part), "{act}: {}", text(&product));
    }
    job.grants.llm = Patterns(vec!["local".into()]);
    let opened = bench.engine.open(&job).await.expect("hostile opens");
    let (steps, mut calls) = mpsc::channel(1);
    let (snapshot, input) = (snapshot(&job, &opened), vec![message("llm hi")]);
    let turn = bench.engine.turn(&job, &snapshot, None, input, steps);
    let answer = async {
        let StepCall {
            request,
            step,
            reply,
            refused,
            ..
        } = *calls.recv().await.expect("a step");
        let StepRequest::Llm(request) = request else {
            panic!("{request:?}");
        };
        assert_eq!((step, request.provider.as_deref()), (1, Some("local")));
        assert_eq!(refused, [None]);
        let completion = Completion {
            content: "hi there".into(),
            tool_calls: vec![],
            finish: FinishReason::Stop,
            usage: None,
            model: "m".into(),
        };
        let result = Ok(StepResult::Llm(completion));
        let sent = reply.send(StepAnswer { result, took_ms: 0 });
        assert!(sent.is_ok());
    };
    let (product, ()) = tokio::join!(turn, answer);
    assert_eq!(text(&product.expect("the turn ends")), "hi there");
}

#[tokio::test]
async fn turns_wait_for_their_share_and_a_cut_turn_gives_it_back() {
    let bench = EngineBench::new(1);
    let mut job = bench.job("hostile");
    job.grants.llm = Patterns(vec!["local".into()]);
    let opened = bench.engine.open(&job).await.expect("hostile opens");
    let snapshot = snapshot(&job, &opened);
    let (steps, mut calls) = mpsc::channel(1);
    let input = vec![message("llm hi")];
    let mut waiting = Box::pin(bench.engine.turn(&job, &snapshot, None, input, steps));
    let call = tokio::select! {
        call = calls.recv() => call.expect("a step"),
        ended = &mut waiting => panic!("ended without an answer: {ended:?}"),
    };
    let mut queued = Box::pin(bench.engine.restore(&job, &snapshot));
    assert!((&mut queued).now_or_never().is_none(), "the pool holds one");
    // Dropping the call without a reply is an abort, of which the guest must not learn.
    drop(call);
    assert!((&mut waiting).now_or_never().is_none());
    drop(waiting);
    queued.await.expect("the next has its share");
}

#[tokio::test]
async fn refused_snapshots_say_why() {
    let bench = EngineBench::new(1);
    let mut job = bench.job("hostile");
    let opened = bench.engine.open(&job).await.expect("hostile opens");
    let good = snapshot(&job, &opened);
    let newer = Snapshot {
        schema: 7,
        ..good.clone()
    };
    let refusal = bench.engine.restore(&job, &newer).await;
    assert!(
        matches!(
            refusal,
            Err(GuestFailure::Restore {
                newer_schema: Some(7),
                ..
            })
        ),
        "{refusal:?}"
    );
    for args in [r#"{"refuse":"no"}"#, r#"{"trap_in":"restore"}"#] {
        job.context.args = args.into();
        let refusal = bench.engine.restore(&job, &good).await;
        assert!(
            matches!(
                refusal,
                Err(GuestFailure::Restore {
                    newer_schema: None,
                    ..
                })
            ),
            "{args}: {refusal:?}"
        );
        let check = bench.engine.check(&job).await;
        assert!(
            matches!(check, Err(CheckFailure::Restore(_))),
            "{args}: {check:?}"
        );
    }
    job.context.args = r#"{"fail":"not today"}"#.into();
    let refusal = bench.engine.open(&job).await;
    assert!(
        matches!(&refusal, Err(GuestFailure::Failed(f)) if f.text == "not today"),
        "{refusal:?}"
    );
}

#[tokio::test]
async fn guests_of_ours_pass_the_check() {
    let bench = EngineBench::new(1);
    for name in ["echo", "hostile"] {
        bench.engine.check(&bench.job(name)).await.expect(name);
    }
}

#[tokio::test]
async fn timers_are_buffered() {
    let bench = EngineBench::new(1);
    let mut job = bench.job("hostile");
    let product = turn(&bench.engine, &job, "timer tea 3000 drink")
        .await
        .expect("a turn");
    match product.timers.as_slice() {
        [TimerOp::Set(timer)] => {
            assert_eq!((timer.name.as_str(), timer.text.as_str()), ("tea", "drink"));
            assert_eq!(timer.due, UnixMillis(job.now.0 + 3000));
        }
        other => panic!("{other:?}"),
    }
    job.limits.timers = 1;
    job.timers = vec!["other".into()];
    let refused = turn(&bench.engine, &job, "timer tea 3000 drink").await;
    assert!(
        matches!(&refused, Err(GuestFailure::Failed(f)) if f.text.contains("limits.timers")),
        "{refused:?}"
    );
}
