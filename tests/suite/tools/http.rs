//! Tool servers over HTTP: called with JSON answers and with streams, reconnected when they forget
//! the session, and with failures distinguished by whether the call may have happened.

use std::sync::atomic::Ordering;
use std::time::Duration;

use abide::domain::{StepError, ToolServerKind, ToolServerState};
use abide::providers::{Endpoint, ToolServer, ToolServerAt};
use serde_json::json;
use tokio::time::timeout;

use crate::tools::bench::{PATIENCE, ToolBench, at, patterns, told, until};
use crate::tools::web::{Answers, Web};

const BOTH: [Answers; 2] = [Answers::Json, Answers::Events];

fn bench(web: &Web, token: Option<&str>, change: impl FnOnce(&mut ToolServer)) -> ToolBench {
    let mut server = at(ToolServerAt::Url(Endpoint {
        url: web.url(),
        token: token.map(str::to_owned),
        headers: Vec::new(),
    }));
    change(&mut server);
    ToolBench::with(tempfile::tempdir().expect("a temporary folder"), server)
}

/// Starts a server that has answered a call, `a`.
async fn served(answers: Answers) -> (Web, ToolBench) {
    let web = Web::start(answers, None);
    let bench = bench(&web, None, |_| {});
    assert_eq!(
        told(bench.call("record", json!({"token": "a"})).await),
        "done"
    );
    (web, bench)
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_are_listed_and_called_in_json_and_in_streams() {
    for answers in BOTH {
        let web = Web::start(answers, None);
        let bench = bench(&web, None, |_| {});
        assert_eq!(bench.status().state, ToolServerState::Idle);
        let names = bench.names(&["t__rec*", "t__note"]).await;
        assert_eq!(
            names.into_iter().collect::<Vec<_>>(),
            ["t__note", "t__record"]
        );
        let (a, b) = tokio::join!(
            bench.call("record", json!({"token": "a", "sleep_ms": 50})),
            bench.call("note", json!({"token": "b"})),
        );
        assert_eq!((told(a), told(b)), ("done".to_owned(), "done".to_owned()));
        assert_eq!(web.executions("a"), ["s/1/record"]);
        assert_eq!(web.executions("b"), ["s/1/note"]);
        assert_eq!(web.world.initialized.load(Ordering::SeqCst), 1);
        let status = bench.status();
        assert_eq!(
            (status.kind, status.state, status.tools),
            (ToolServerKind::Url, ToolServerState::Up, Some(14))
        );
        // The server receives the end of the session.
        bench.servers.end().await;
        assert_eq!(web.world.goodbyes.load(Ordering::SeqCst), 1, "{answers:?}");
        let after = bench.call("note", json!({"token": "c"})).await;
        assert!(matches!(after, Err(StepError::Unavailable(_))), "{after:?}");
        assert_eq!(web.executions("c"), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_call_that_was_turned_away_has_certainly_not_happened() {
    for answers in BOTH {
        for tool in ["stall", "chatter"] {
            let web = Web::start(answers, None);
            let bench = bench(&web, None, |server| {
                server.call_timeout = Duration::from_secs(1);
            });
            let error = bench.call(tool, json!({"token": tool})).await;
            assert!(
                matches!(&error, Err(StepError::UnknownOutcome(why)) if why.contains("nothing within 1s")),
                "{tool}, {answers:?}: {error:?}"
            );
            assert_eq!(web.executions(tool).len(), 1, "{tool}, {answers:?}");
            // The session with the server works as before, at once or a little later.
            until("the next call", async || {
                let next = bench.call("record", json!({"token": "next"})).await;
                next.is_ok()
            })
            .await;
            assert_eq!(web.world.initialized.load(Ordering::SeqCst), 1);
            bench.servers.end().await;
        }
        let web = Web::start(answers, None);
        let bench = bench(&web, None, |_| {});
        for (tool, expected, executions, part) in [
            ("fall", "unknown", 1, "broke off"),
            ("mangle", "unknown", 1, "no answer came"),
            ("misnumber", "unknown", 1, "no answer came"),
            ("cut", "unknown", 1, "no answer came"),
            ("overload", "unknown", 1, "it failed (503): too much"),
            ("page", "unknown", 1, "text/html"),
            ("burst", "too-large", 1, "`t__burst` ran"),
            (
                "refuse",
                "unavailable",
                0,
                "refused the request (400): not like this",
            ),
            ("redirect", "unavailable", 0, "redirect (307)"),
        ] {
            let error = bench.call(tool, json!({"token": tool})).await;
            let error = error.expect_err(tool);
            let kind = match &error {
                StepError::UnknownOutcome(_) => "unknown",
                StepError::TooLarge(_) => "too-large",
                StepError::Unavailable(_) => "unavailable",
                _ => "another",
            };
            assert_eq!(kind, expected, "{tool}, {answers:?}: {error}");
            assert!(
                error.to_string().contains(part),
                "{tool}, {answers:?}: {error}"
            );
            assert_eq!(
                web.executions(tool).len(),
                executions,
                "{tool}, {answers:?}"
            );
            // The session with the server works as before.
            let next = bench.call("record", json!({"token": "next"})).await;
            assert_eq!(told(next), "done", "after {tool}, {answers:?}");
        }
        assert_eq!(web.world.initialized.load(Ordering::SeqCst), 1);
        assert_eq!(web.world.strayed.load(Ordering::SeqCst), 0);
        bench.servers.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_repeated_is_never_unknown() {
    let web = Web::start(Answers::Json, None);
    let with = |patience| {
        bench(&web, None, move |server| {
            server.call_timeout = patience;
            server.repeatable = patterns(&["*"]);
        })
    };
    let bench = with(PATIENCE);
    for tool in ["fall", "overload", "misnumber"] {
        let error = bench.call(tool, json!({"token": tool})).await;
        assert!(matches!(error, Err(StepError::Unavailable(_))), "{error:?}");
    }
    let impatient = with(Duration::from_secs(1));
    let late = impatient.call("stall", json!({"token": "late"})).await;
    assert!(matches!(late, Err(StepError::Timeout(_))), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_waits_for_ends_on_the_wire() {
    let web = Web::start(Answers::Json, None);
    let bench = bench(&web, None, |_| {});
    let asked = json!({"token": "cut", "sleep_ms": 500});
    let cut = timeout(Duration::from_millis(100), bench.call("record", asked));
    assert!(cut.await.is_err());
    // The tests' server does nothing for a caller that has hung up.
    let after = bench
        .call("record", json!({"token": "after", "sleep_ms": 1000}))
        .await;
    assert_eq!(told(after), "done");
    assert_eq!(web.executions("cut"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgot_the_session_is_gone_back_to_at_once() {
    for answers in BOTH {
        let (web, bench) = served(answers).await;
        web.world.forget();
        web.world.extra.lock().expect("no panic").push("later");
        assert_eq!(
            told(bench.call("record", json!({"token": "b"})).await),
            "done"
        );
        assert_eq!(web.executions("b").len(), 1);
        assert_eq!(web.world.initialized.load(Ordering::SeqCst), 2);
        assert!(bench.names(&["t"]).await.contains("t__later"));
        // Its tools are listed before anything is called there.
        web.world.forget();
        web.world.gone.lock().expect("no panic").push("record");
        let gone = bench.call("record", json!({"token": "c"})).await;
        assert!(
            matches!(&gone, Err(StepError::Invalid(text)) if text.contains("has no tool `t__record`")),
            "{gone:?}"
        );
        assert_eq!(web.executions("c"), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_between_two_calls_goes_unnoticed() {
    for answers in BOTH {
        let (web, bench) = served(answers).await;
        web.go();
        web.come();
        // The old connection may be closing during the write.
        until("the next call", async || {
            bench.call("note", json!({"token": "b"})).await.is_ok()
        })
        .await;
        assert_eq!(web.executions("b").len(), 1);
        assert_eq!(web.world.initialized.load(Ordering::SeqCst), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_that_change_are_listed_again() {
    // With a notification, if the server can send one.
    let web = Web::start(Answers::Events, None);
    let told_of = bench(&web, None, |_| {});
    assert!(!told_of.names(&["t"]).await.contains("t__later"));
    web.world.extra.lock().expect("no panic").push("later");
    until("somebody to listen", async || web.world.tell_of_change()).await;
    until("the further tool", async || {
        told_of.names(&["t"]).await.contains("t__later")
    })
    .await;
    assert_eq!(web.world.initialized.load(Ordering::SeqCst), 1);

    // Without a notification: the call of a missing tool is refused, and then the list is read
    // again.
    let web = Web::start(Answers::Json, None);
    let silent = bench(&web, None, |_| {});
    assert!(silent.names(&["t"]).await.contains("t__note"));
    web.world.gone.lock().expect("no panic").push("note");
    let gone = silent.call("note", json!({"token": "a"})).await;
    assert!(
        matches!(&gone, Err(StepError::Invalid(text)) if text.contains("there is no tool note")),
        "{gone:?}"
    );
    assert!(!silent.names(&["t"]).await.contains("t__note"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_shown_to_its_server_and_to_nobody_else() {
    let web = Web::start(Answers::Json, Some("hunter2"));
    let right = bench(&web, Some("hunter2"), |_| {});
    assert_eq!(
        told(right.call("record", json!({"token": "a"})).await),
        "done"
    );
    // The token is not repeated, whatever the server says.
    let blurted = right.call("blurt", json!({})).await.expect_err("an error");
    assert!(
        blurted.to_string().contains("you showed Bearer [token]"),
        "{blurted}"
    );
    let redirected = right.call("redirect", json!({})).await;
    assert!(
        matches!(redirected, Err(StepError::Unavailable(_))),
        "{redirected:?}"
    );
    assert_eq!(web.world.strayed.load(Ordering::SeqCst), 0);

    for (token, part) in [
        (Some("hunter3"), "it refused the bearer token (401)"),
        (None, "it wants a bearer token (401)"),
    ] {
        let wrong = bench(&web, token, |_| {});
        let error = wrong.call("record", json!({"token": "b"})).await;
        let error = error.expect_err("it is refused").to_string();
        for part in [
            part,
            "tool server `t` is down",
            "`mcp.t.token_env`",
            "`mcp.t.token_file`",
        ] {
            assert!(error.contains(part), "{part} in {error}");
        }
        assert!(!error.contains("hunter"), "{error}");
        let tools = wrong.tools(&["t__record"]).await;
        assert_eq!(tools.len(), 1);
        assert_eq!(tools[0].name, "t__unavailable");
        let status = wrong.status();
        assert_eq!(status.state, ToolServerState::Down);
        assert!(
            !format!("{status:?} {tools:?}").contains("hunter"),
            "{status:?}"
        );
    }
    assert_eq!(web.executions("b"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_is_missed_and_found_again() {
    for answers in BOTH {
        let (web, bench) = served(answers).await;
        web.go();
        until("its absence to be noticed", async || {
            let call = bench.call("record", json!({"token": "b"})).await;
            matches!(call, Err(StepError::Unavailable(text)) if text.contains("cannot be reached"))
        })
        .await;
        assert_eq!(web.executions("b"), [""; 0]);
        until("the status to tell", async || {
            bench.status().state == ToolServerState::Down
        })
        .await;
        let status = bench.status();
        assert_eq!(status.tools, Some(14), "those that it had last");
        let reason = status.reason.expect("a reason");
        assert!(
            reason.contains("check that it runs and that `mcp.t.url` is right"),
            "{reason}"
        );
        let tools = bench.tools(&["t__record"]).await;
        assert_eq!(tools.len(), 1);
        assert!(
            tools[0]
                .description
                .starts_with("[unavailable now: http://127.0.0.1:")
                && tools[0].description.ends_with("] Does record."),
            "{tools:?}"
        );
        web.come();
        until("its return to be noticed", async || {
            bench.call("record", json!({"token": "c"})).await.is_ok()
        })
        .await;
        assert_eq!(web.executions("c").len(), 1);
        assert_eq!(bench.status().state, ToolServerState::Up);
        let tools = bench.tools(&["t__record"]).await;
        assert_eq!(tools[0].description, "Does record.");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tool_stands_for_a_server_that_was_never_there() {
    let web = Web::away(Answers::Json, None);
    let bench = bench(&web, None, |_| {});
    assert_eq!(bench.names(&["other"]).await.len(), 0);
    let tools = bench.tools(&["t__rec*"]).await;
    assert_eq!(tools.len(), 1);
    assert_eq!(tools[0].name, "t__unavailable");
    for part in [
        "`t` cannot be reached now",
        "Connection refused",
        "`mcp.t.url`",
    ] {
        assert!(tools[0].description.contains(part), "{tools:?}");
    }
    for tool in ["unavailable", "record"] {
        let error = bench.call(tool, json!({})).await;
        assert!(
            matches!(&error, Err(StepError::Unavailable(text)) if text.contains("is down")),
            "{error:?}"
        );
    }
    web.come();
    until("the server to be found", async || {
        bench.names(&["t__rec*"]).await.contains("t__record")
    })
    .await;
    let error = bench.call("unavailable", json!({})).await;
    assert!(
        matches!(&error, Err(StepError::Invalid(text)) if text.contains("it is up again")),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_where_no_such_server_is_says_so() {
    let web = Web::start(Answers::Json, None);
    // A server that accepts the connection and never replies.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("http://{}/mcp", deaf.local_addr().expect("it is bound"));
    let elsewhere = web.url().replace("/mcp", "/elsewhere");
    for (url, part) in [
        (
            silent,
            "it is starting, for 0s by now, and goes on in the background for up to 3s",
        ),
        (
            elsewhere,
            "in place of JSON or an event stream; check `mcp.t.url`",
        ),
        (
            "http://no-such-host.invalid/mcp".to_owned(),
            "cannot be reached",
        ),
    ] {
        let bench = bench(&web, None, |server| {
            server.start_timeout = Duration::from_millis(300);
            server.at = ToolServerAt::Url(Endpoint {
                url,
                token: None,
                headers: Vec::new(),
            });
        });
        let error = bench.call("record", json!({})).await;
        let error = error.expect_err("it is no server").to_string();
        assert!(
            error.contains(part) || error.contains("start_timeout"),
            "{part} in {error}"
        );
    }
}
