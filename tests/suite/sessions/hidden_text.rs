//! Text that guests, clients and models choose, on its way to a terminal and to the log: no character
//! that cannot be seen arrives there.

use std::process::Output;

use abide_tests::until;
use serde_json::{Value, json};

use crate::stage::Stage;

/// Clears the screen, forges a line, reverses what follows, and hides in the middle of a word.
const HOSTILE: &str =
    "a\u{1b}[2Jb\nERROR forged\r\u{9b}c\u{202e}d\u{200b}e\u{2066}f\u{feff}g\u{2028}h";

fn is_hidden(c: char) -> bool {
    c.is_control() || HOSTILE.chars().any(|hostile| hostile == c && !c.is_ascii())
}

/// Checks what a command writes, also as JSON. Returns its text.
fn shows_nothing_hidden(stage: &Stage, args: &[&str]) -> String {
    let text = |output: Output| {
        let both = [output.stdout, output.stderr].concat();
        String::from_utf8(both).expect("it writes UTF-8")
    };
    let shown = text(stage.daemon.abide(args));
    let json = stage.daemon.abide(&[args, &["--json"]].concat());
    assert!(json.status.success(), "{args:?}: {json:?}");
    serde_json::from_slice::<Value>(&json.stdout).expect("it is JSON");
    for written in [&shown, &text(json)] {
        let hidden = written.chars().find(|c| is_hidden(*c) && *c != '\n');
        assert_eq!(hidden, None, "{args:?}: {written}");
        let forged = written
            .lines()
            .find(|line| line.starts_with("ERROR forged"));
        assert_eq!(forged, None, "{args:?}: {written}");
    }
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_write_moves_no_cursor_and_forges_no_line() {
    let stage = Stage::start(|mut setup| {
        let tools = setup.rest.last_mut().expect("the stage has tools");
        tools.push_str("\nask = [\"record\"]");
        setup
    })
    .await;
    stage
        .perform("failed", json!([{"act": "fail", "reason": HOSTILE}]))
        .await;
    let call = json!([{"act": "call", "tool": "record", "token": HOSTILE}]);
    stage.send("asked", call).await;
    until("the session to be parked", async || {
        let session = stage.client.session("s").await;
        (session["state"] == "parked").then_some(())
    })
    .await;

    for args in [
        &["status"][..],
        &["sessions", "list"],
        &["sessions", "dead", "s"],
        &["sessions", "steps", "s"],
        &["approvals"],
        &["approvals", "show", "s:2.1.0"],
    ] {
        shows_nothing_hidden(&stage, args);
    }
    // What is hidden is shown to be there.
    let session = shows_nothing_hidden(&stage, &["sessions", "show", "s"]);
    for escape in ["\\u{1b}[2J", "\\u{202e}d", "\\u{200b}e"] {
        assert!(session.contains(escape), "{escape} in {session}");
    }
    let log = stage.daemon.logged("ERROR forged").await;
    let hidden = log.chars().find(|c| is_hidden(*c) && *c != '\n');
    assert_eq!(hidden, None, "{log}");
    assert!(
        !log.lines().any(|line| line.starts_with("ERROR forged")),
        "{log}"
    );
}
