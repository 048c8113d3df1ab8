//! Tests on a mock host, which restores the plugin before every turn, as the daemon does.

use abide_plugin::Cause;
use abide_plugin::testing::Harness;
use serde_json::json;

use super::Session;

#[test]
fn remembers_over_a_restart() {
    let mut session = Harness::<Session>::new();
    session.open(json!({"name": "Ada"})).unwrap();
    let turn = session.say("hello").unwrap();
    assert_eq!(turn.output, [r#"Ada said 1 things: ["hello"]"#]);

    session.restart(Cause::Config);
    let turn = session.say("again").unwrap();
    assert_eq!(turn.output, [r#"Ada said 2 things: ["hello", "again"]"#]);
}

#[test]
fn refuses_args_that_it_does_not_know() {
    let args = json!({"nmae": "Ada"});
    let error = Harness::<Session>::new().open(args).unwrap_err();
    assert_eq!(error.0, "args.nmae: unknown field `nmae`, expected `name`");
}
