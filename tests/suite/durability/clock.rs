//! A wall clock that is set by hours under a running daemon: timers and approvals keep their
//! distance, idempotency keys outlive it, restarts find the sessions that were active, and the
//! watchdog tells.

use std::time::{Duration, Instant};

use abide_tests::{Event, FakeClock, Posted, until};
use serde_json::{Value, json};

use crate::stage::{Stage, notices};

const HOUR: i64 = 3600;
/// In how long a test's timers and approvals are due.
const SOON: Duration = Duration::from_secs(4);
/// By how much they may be late: tests share the machine.
const LATE: Duration = Duration::from_secs(10);
/// The steps that each test goes through, in hours ahead of the right time.
const STEPS: [i64; 3] = [25, -5, 3];

async fn stage(clock: &FakeClock, tools: &str) -> Stage {
    Stage::start(|mut setup| {
        setup.env.extend(clock.env());
        let last = setup.rest.last_mut().expect("the stage has tools");
        last.push_str(tools);
        setup
    })
    .await
}

/// Sets a timer of the session `s`. Returns when.
async fn set_timer(stage: &Stage, name: &str) -> Instant {
    let after_ms = SOON.as_millis() as u64;
    let fired = json!({"id": format!("{name} fired"), "acts": []});
    let act = json!([{"act": "timer", "name": name, "after_ms": after_ms, "script": fired}]);
    let began = Instant::now();
    stage.perform(name, act).await;
    began
}

fn has_fired(events: &[Event], name: &str) -> bool {
    let mut timers = events.iter().filter(|e| e.name.as_deref() == Some("timer"));
    timers.any(|event| event.data.as_ref().is_some_and(|data| data["name"] == name))
}

/// Waits for the timer, which must fire at its distance.
async fn fires_in_time(stage: &Stage, name: &str, began: Instant) {
    stage
        .events_when(&format!("the timer {name}"), |events| {
            let fired = has_fired(events, name);
            let since = began.elapsed();
            assert!(!fired || since >= SOON, "{name} fired after {since:?}");
            assert!(fired || since < SOON + LATE, "{name} is late");
            fired
        })
        .await;
}

/// Waits until the watchdog tells of so many steps. Returns the findings.
async fn steps_told(stage: &Stage, count: usize) -> Vec<Value> {
    until("the step to be told", async || {
        let status = stage.daemon.status().await;
        let all = status["watchdog"].as_array().expect("a list").iter();
        let steps = all.filter(|finding| finding["kind"] == "clock_stepped");
        let steps: Vec<_> = steps.cloned().collect();
        (steps.len() == count).then_some(steps)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_keep_their_distance() {
    let clock = FakeClock::new();
    let stage = stage(&clock, "").await;
    for hours in STEPS {
        let (before, name) = (format!("before {hours}"), format!("after {hours}"));
        let began = set_timer(&stage, &before).await;
        clock.set(hours * HOUR);
        // The one before the step, and one after it.
        let after = set_timer(&stage, &name).await;
        fires_in_time(&stage, &before, began).await;
        fires_in_time(&stage, &name, after).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_keeps_its_distance_from_a_turn_in_which_the_clock_is_set() {
    const CALL: Duration = Duration::from_secs(2);
    let clock = FakeClock::new();
    let stage = stage(&clock, "").await;
    for (turn, hours) in (1..).zip(STEPS) {
        let name = format!("t{hours}");
        let fired = json!({"id": format!("{name} fired"), "acts": []});
        let (sleep_ms, after_ms) = (CALL.as_millis() as u64, SOON.as_millis() as u64);
        let acts = json!([
            {"act": "call", "tool": "record", "token": name, "sleep_ms": sleep_ms},
            {"act": "timer", "name": name, "after_ms": after_ms, "script": fired},
        ]);
        let message = stage.send(&name, acts).await;
        stage.tools("started", turn).await;
        let called = Instant::now();
        clock.set(hours * HOUR);
        stage.end_of(&message).await;
        assert!(
            called.elapsed() > CALL / 2,
            "the clock was set after the call"
        );
        fires_in_time(&stage, &name, called).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_of_an_earlier_worker_goes_by_the_clock() {
    let clock = FakeClock::new();
    let stage = stage(&clock, "").await;
    let fired = json!({"id": "fired", "acts": []});
    let timer = json!([{"act": "timer", "name": "t", "after_ms": 7_200_000, "script": fired}]);
    stage.perform("sets", timer).await;
    clock.set(3 * HOUR);
    steps_told(&stage, 1).await;
    assert!(!has_fired(&stage.client.events("s", 0).await, "t"));
    stage.daemon.kill_worker().await;
    let events = stage
        .events_when("the timer", |events| has_fired(events, "t"))
        .await;
    assert!(has_fired(&events, "t"));
}

#[tokio::test(flavor = "multi_thread")]
async fn approvals_keep_their_distance() {
    let clock = FakeClock::new();
    let asks = format!(
        "\nask = [\"record\"]\nask_timeout = \"{}s\"",
        SOON.as_secs()
    );
    let stage = stage(&clock, &asks).await;
    let call = |token: &str| json!([{"act": "call", "tool": "record", "token": token}]);
    for (turn, hours) in (1..).zip(STEPS) {
        let token = format!("t{turn}");
        let began = Instant::now();
        let message = stage.send(&token, call(&token)).await;
        until("the session to be parked", async || {
            (stage.client.session("s").await["state"] == "parked").then_some(())
        })
        .await;
        clock.set(hours * HOUR);
        let approval = format!("s:{turn}.1.0");
        match hours > 0 {
            // It has not expired, although the clock says so.
            true => {
                let yes = json!({"decision": "approve"});
                let reply = stage
                    .client
                    .decide(&approval, &yes)
                    .await
                    .expect("an answer");
                assert_eq!(reply.expect(200)["status"], "approved");
                stage.end_of(&message).await;
                assert_eq!(stage.executions(&token).len(), 1);
            }
            // It expires, although the clock says that there are hours left.
            false => {
                let events = stage.end_of(&message).await;
                assert!(began.elapsed() >= SOON && began.elapsed() < SOON + LATE);
                let expired = |e: &Event| e.status.as_deref() == Some("expired");
                assert!(events.iter().any(expired), "{events:?}");
                assert_eq!(stage.executions(&token).len(), 0);
            }
        }
    }
}

async fn send_again(stage: &Stage, key: &str) -> Posted {
    let script = json!({"id": key, "acts": []}).to_string();
    // A worker that was killed takes its connections with it.
    until("an acknowledgement", async || {
        stage.client.say("s", &script, Some(key)).await.ok()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotency_keys_outlive_a_clock_that_is_set_forward() {
    let clock = FakeClock::new();
    let mut stage = stage(&clock, "").await;
    let first = send_again(&stage, "key").await;
    assert!(!first.duplicate);
    let file = stage.daemon.folder().join("data/CLOCK");
    until("the clock's history", async || file.exists().then_some(())).await;
    let is_known = async |stage: &Stage| {
        let again = send_again(stage, "key").await;
        assert!(
            again.duplicate && again.message == first.message,
            "{again:?}"
        );
    };
    // At once, before the daemon can have noticed.
    clock.set(25 * HOUR);
    is_known(&stage).await;
    stage.daemon.kill_worker().await;
    is_known(&stage).await;
    let told = steps_told(&stage, 1).await;
    let text = |key: &str| told[0][key].as_str().unwrap_or_default();
    assert!(text("reason").contains("forward by 1day 1h"), "{told:?}");
    assert!(text("remedy").contains("NTP"), "{told:?}");
    stage.daemon.stop().await;
    stage.daemon.start_again().await;
    is_known(&stage).await;
    // While no worker runs.
    stage.daemon.stop().await;
    clock.set(75 * HOUR);
    stage.daemon.start_again().await;
    is_known(&stage).await;
    steps_told(&stage, 2).await;
    clock.set(0);
    let told = steps_told(&stage, 3).await;
    assert!(told.iter().any(|step| step.to_string().contains("back by")));
    is_known(&stage).await;
    stage.daemon.kill_worker().await;
    is_known(&stage).await;
    assert_eq!(stage.client.session("s").await["turns"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_finds_the_sessions_that_were_active() {
    let clock = FakeClock::new();
    let mut stage = stage(&clock, "").await;
    for hours in STEPS {
        let say = json!([{"act": "say", "text": "hello"}]);
        stage.perform(&format!("before {hours}"), say.clone()).await;
        clock.set(hours * HOUR);
        let generation = stage.daemon.restart_by_edit().await;
        let relaunched = |record: &Value| record["relaunch"]["restored"] == 1;
        stage
            .daemon
            .restart_record_when(generation, relaunched)
            .await;
        let events = stage.perform(&format!("after {hours}"), say).await;
        assert_eq!(notices(&events).len(), 1, "{hours}: {events:?}");
    }
}
