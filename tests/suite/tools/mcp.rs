//! Tool servers as real processes: started when they are needed, restarted with a backoff, and
//! ended with everything that they left behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use abide::domain::{StepError, ToolCall, ToolServerState};
use abide::providers::ToolServers;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::tools::bench::{
    LIMIT_BYTES, PATIENCE, ToolBench, patterns, program, server, told, until,
};

/// Returns whether a process is alive.
fn lives(pid: u64) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.trim_start().chars().next());
    state.is_some_and(|state| !"ZX".contains(state))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_started_once_and_when_it_is_wanted() {
    let bench = ToolBench::new(&[], |_| {});
    assert_eq!(bench.names(&["other", "tea*"]).await, BTreeSet::new());
    assert_eq!(bench.starts(), 0);
    let (a, b, c) = tokio::join!(
        bench.call("record", json!({"token": "a"})),
        bench.call("note", json!({"token": "b"})),
        bench.call("look", json!({"token": "c"})),
    );
    for (outcome, token) in [(a, "a"), (b, "b"), (c, "c")] {
        assert_eq!(told(outcome), format!("recorded {token}"));
    }
    assert_eq!(bench.starts(), 1);
    let mut log = bench.lines("log");
    log.sort();
    assert_eq!(log, ["a\ts/1/record", "b\ts/1/note", "c\ts/1/look"]);
    assert_eq!(bench.names(&["t"]).await.len(), 8);
    let some = bench.names(&["t__f*", "t__look"]).await;
    let some: Vec<&str> = some.iter().map(String::as_str).collect();
    assert_eq!(some, ["t__fail", "t__flood", "t__look"]);
    assert_eq!(bench.starts(), 1);
    bench.servers.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_and_operators_say_what_may_be_repeated() {
    let bench = ToolBench::new(&[], |server| {
        server.repeatable = patterns(&["ha*"]);
        server.once = patterns(&["look"]);
        server.ask = patterns(&["record"]);
    });
    for (tool, expected) in [
        ("note", true),
        ("flood", true),
        ("hang", true),
        ("look", false),
        ("fail", false),
    ] {
        let call = ToolCall {
            name: format!("t__{tool}"),
            arguments: String::new(),
        };
        let look = bench
            .servers
            .classify(&call)
            .await
            .expect("there is such a tool");
        assert_eq!((look.repeatable, look.ask), (expected, None), "{tool}");
    }
    let call = ToolCall {
        name: "t__record".to_owned(),
        arguments: String::new(),
    };
    let look = bench
        .servers
        .classify(&call)
        .await
        .expect("there is such a tool");
    assert!(look.ask.is_some(), "{look:?}");
    assert!(bench.names(&["t"]).await.contains("t__record"));
    assert_eq!(bench.lines("log"), [""; 0]);
    bench.servers.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_told_apart() {
    let bench = ToolBench::new(&[], |_| {});
    let failed = bench.call("fail", json!({})).await.expect("an outcome");
    assert!(failed.is_error);
    let invalid = bench.call("record", json!({})).await;
    assert!(
        matches!(&invalid, Err(StepError::Invalid(text)) if text.contains("a token is missing"))
    );
    let unknown = bench.call("nothing", json!({})).await;
    let unknown = unknown.expect_err("no such tool").to_string();
    assert!(
        unknown.contains("has no tool `t__nothing`; it has t__crash, "),
        "{unknown}"
    );
    for bytes in [LIMIT_BYTES + 1, 9 << 20] {
        let large = bench.call("flood", json!({"bytes": bytes})).await;
        assert!(
            matches!(&large, Err(StepError::TooLarge(text)) if text.contains("`t__flood` ran")),
            "{large:?}"
        );
    }
    assert_eq!(
        told(bench.call("flood", json!({"bytes": LIMIT_BYTES})).await).len(),
        1 << 20
    );
    assert_eq!(bench.starts(), 1);
    bench.servers.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_leaves_an_unknown_outcome_and_a_pause() {
    let bench = ToolBench::new(&[], |_| {});
    let lost = bench
        .call("crash", json!({"after": true, "token": "x"}))
        .await
        .expect_err("no answer");
    let StepError::UnknownOutcome(text) = &lost else {
        panic!("{lost:?}");
    };
    for part in [
        "the call was sent to `t__crash` and no answer came",
        "it exited with status 3",
        "crashing, as it was told to",
        "may or may not have happened",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(bench.lines("log"), ["x\ts/1/crash"]);
    // The server pauses, and reports it; then it is started again.
    let down = bench.call("look", json!({"token": "y"})).await;
    assert!(
        matches!(&down, Err(StepError::Unavailable(text)) if text.contains("it is tried again in")),
        "{down:?}"
    );
    assert_eq!(bench.starts(), 1);
    until("another start", async || {
        bench.call("look", json!({"token": "y"})).await.is_ok()
    })
    .await;
    assert_eq!(bench.starts(), 2);
    bench.servers.end().await;

    let bench = ToolBench::new(&[], |server| server.repeatable = patterns(&["crash"]));
    let lost = bench.call("crash", json!({})).await;
    assert!(matches!(lost, Err(StepError::Unavailable(_))), "{lost:?}");
    bench.servers.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_server_is_not_started_over_and_over() {
    let bench = ToolBench::new(&["--broken"], |_| {});
    let begun = Instant::now();
    let mut errors = Vec::new();
    while begun.elapsed() < Duration::from_millis(1500) {
        let error = bench.call("look", json!({"token": "y"})).await;
        errors.push(error.expect_err("it is broken").to_string());
        sleep(Duration::from_millis(5)).await;
    }
    for part in [
        "tool server `t` is down: it exited with status 7",
        "nothing works here",
    ] {
        assert!(
            errors.iter().all(|error| error.contains(part)),
            "{errors:?}"
        );
    }
    // At 0, 250 and 750 ms, and at most that often if the clock is ahead.
    assert!((2..=3).contains(&bench.starts()), "{}", bench.starts());
    let status = &bench.servers.status()[0];
    assert_eq!(status.state, ToolServerState::Down, "{status:?}");
    assert_eq!(status.tools, None);
    assert!(
        status.next_try_at.is_some() && status.since.is_some(),
        "{status:?}"
    );

    let missing = ToolBench::new(&[], |server| {
        program(server).program = "./no-such-program".to_owned();
    });
    let error = missing.call("look", json!({"token": "y"})).await;
    let error = error.expect_err("there is none").to_string();
    assert!(
        error.contains("`./no-such-program` cannot be started"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_shake_hands_is_given_up() {
    let bench = ToolBench::new(&["600"], |server| {
        program(server).program = "sleep".to_owned();
        server.start_timeout = Duration::from_millis(200);
    });
    let error = bench.call("look", json!({"token": "y"})).await;
    let error = error.expect_err("it is no server").to_string();
    assert!(error.contains("it is starting"), "{error}");
    let late = "it was not ready within 2s (10 times `mcp.t.start_timeout`)";
    until("it to be given up", async || {
        let status = bench.status();
        status.state == ToolServerState::Down && status.reason.is_some_and(|why| why.contains(late))
    })
    .await;
    // Its process is gone, too.
    let left = std::fs::read_dir("/proc")
        .expect("there are processes")
        .flatten();
    let ours = left.filter(|process| {
        let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
        let mark = bench.folder.path().display().to_string();
        String::from_utf8_lossy(&environment).contains(&format!("{mark}/t-"))
    });
    assert_eq!(ours.count(), 0);
    bench.servers.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_hangs_ends_in_time_and_the_next_one_works() {
    let bench = ToolBench::new(&[], |server| {
        server.call_timeout = Duration::from_secs(2);
        server.repeatable = patterns(&["note"]);
    });
    let hung = bench.call("hang", json!({})).await;
    assert!(
        matches!(&hung, Err(StepError::UnknownOutcome(text)) if text.contains("`mcp.t.call_timeout`")),
        "{hung:?}"
    );
    // The server receives the cancellation of both calls, and performs neither.
    let late = bench
        .call("note", json!({"token": "late", "sleep_ms": 5000}))
        .await;
    assert!(matches!(late, Err(StepError::Timeout(_))), "{late:?}");
    let call = ToolCall {
        name: "t__record".to_owned(),
        arguments: json!({"token": "cut", "sleep_ms": 5000}).to_string(),
    };
    let cut = bench.servers.call(&call, "k", false, LIMIT_BYTES, PATIENCE);
    assert!(timeout(Duration::from_millis(100), cut).await.is_err());
    sleep(Duration::from_millis(5500)).await;
    assert_eq!(
        told(bench.call("record", json!({"token": "next"})).await),
        "recorded next"
    );
    assert_eq!(bench.lines("log"), ["next\ts/1/record"]);
    assert_eq!(bench.starts(), 1);
    bench.servers.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_that_come_later_are_found() {
    let bench = ToolBench::new(&["--changes"], |_| {});
    assert!(!bench.names(&["t"]).await.contains("t__extra"));
    assert_eq!(
        told(bench.call("record", json!({"token": "a"})).await),
        "recorded a"
    );
    until("the further tool", async || {
        bench.names(&["t"]).await.contains("t__extra")
    })
    .await;
    assert_eq!(told(bench.call("extra", json!({})).await), "extra");
    assert_eq!(bench.starts(), 1);
    bench.servers.end().await;
}

async fn left_behind(bench: &ToolBench) -> Vec<u64> {
    let left: Value =
        serde_json::from_str(&told(bench.call("spawn", json!({})).await)).expect("JSON");
    let pids = left["pids"].as_array().expect("process ids").iter();
    let pids: Vec<u64> = pids.filter_map(Value::as_u64).collect();
    assert_eq!(pids.len(), 4);
    assert!(pids.iter().all(|pid| lives(*pid)), "{pids:?}");
    pids
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_server_that_is_ended() {
    for args in [&[][..], &["--stubborn"]] {
        let bench = ToolBench::new(args, |_| {});
        let mut pids = left_behind(&bench).await;
        pids.push(bench.lines("starts")[0].parse().expect("a process id"));
        let begun = Instant::now();
        bench.servers.end().await;
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{:?}",
            begun.elapsed()
        );
        let alive: Vec<_> = pids.iter().filter(|pid| lives(**pid)).collect();
        assert_eq!(alive, [&0; 0], "of {pids:?}");
        // No server is started any more.
        let after = bench.call("look", json!({"token": "y"})).await;
        assert!(matches!(after, Err(StepError::Unavailable(_))), "{after:?}");
        assert_eq!(bench.starts(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_server_that_fell_or_that_nobody_has() {
    let bench = ToolBench::new(&[], |_| {});
    let pids = left_behind(&bench).await;
    let lost = bench.call("crash", json!({})).await;
    assert!(
        matches!(lost, Err(StepError::UnknownOutcome(_))),
        "{lost:?}"
    );
    assert!(!pids.iter().any(|pid| lives(*pid)), "{pids:?}");

    let bench = ToolBench::new(&[], |_| {});
    let pids = left_behind(&bench).await;
    drop(bench.servers);
    until("the end of all", async || {
        !pids.iter().any(|pid| lives(*pid))
    })
    .await;
}

#[test]
fn a_runtime_that_goes_takes_its_servers_along() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let bench = ToolBench::new(&["--stubborn"], |_| {});
    let pids = runtime.block_on(left_behind(&bench));
    runtime.shutdown_timeout(PATIENCE);
    let begun = Instant::now();
    while pids.iter().any(|pid| lives(*pid)) {
        assert!(begun.elapsed() < PATIENCE, "{pids:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_flight_when_servers_are_ended_is_unknown() {
    let bench = ToolBench::new(&[], |_| {});
    let asked = json!({"token": "a", "sleep_after_ms": 60_000});
    let (lost, ()) = tokio::join!(bench.call("record", asked), async {
        until("the effect", async || bench.lines("log").len() == 1).await;
        bench.servers.end().await;
    });
    assert!(
        matches!(&lost, Err(StepError::UnknownOutcome(text)) if text.contains("restarts or stops")),
        "{lost:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_finds_little_in_its_environment() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file: PathBuf = folder.path().join("env");
    let mut settings = server(folder.path(), &["-c", "env > env; pwd > cwd"]);
    let shell = program(&mut settings);
    shell.program = "sh".to_owned();
    shell.env.push(("TOKEN".to_owned(), "secret".to_owned()));
    let servers = ToolServers::new([("t".to_owned(), settings)].into());
    let call = ToolCall {
        name: "t__look".to_owned(),
        arguments: String::new(),
    };
    servers.classify(&call).await.expect_err("it is no server");
    let text = fs::read_to_string(&file).expect("it ran in its folder");
    let names: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0))
        .collect();
    assert!(
        names.contains("PATH") && names.contains("TOKEN"),
        "{names:?}"
    );
    // A shell adds some variables of its own.
    let known = [
        "PATH",
        "HOME",
        "LANG",
        "TMPDIR",
        "USER",
        "SHELL",
        "TZ",
        "TOKEN",
        "ABIDE_TOOLS_LOG",
        "ABIDE_TOOLS_STARTS",
        "ABIDE_TOOL_SERVER",
        "PWD",
        "OLDPWD",
        "SHLVL",
        "_",
    ];
    let strange: Vec<_> = names
        .iter()
        .filter(|name| !known.contains(name) && !name.starts_with("LC_"))
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
}
