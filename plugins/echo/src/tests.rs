//! Tests of the echo plugin on the mock host.

use abide_plugin::testing::Harness;
use abide_plugin::{Cause, Role};
use proptest::prelude::*;

use super::Echo;

#[test]
fn one_number_per_turn_over_restarts() {
    let mut session = Harness::<Echo>::new();
    assert_eq!(
        session.say("hi  there\n").unwrap().output,
        ["#1 user: hi  there\n"]
    );
    session.restart(Cause::Config);
    assert_eq!(
        session.say("").unwrap().output,
        [
            "#2 system: [system] The daemon restarted due to a configuration change. Your \
             session state has been recovered from the last checkpoint.",
            "#2 user: ",
        ]
    );
    for (number, role) in [(3, Role::Timer), (4, Role::Webhook), (5, Role::Approval)] {
        let message = session.message(role, Some("x".to_owned()), "y".to_owned());
        let expected = format!("#{number} {role}: y");
        assert_eq!(session.deliver(message).unwrap().output, [expected]);
    }
}

proptest! {
    #[test]
    fn every_state_round_trips(texts in prop::collection::vec(".*", 0..200)) {
        let mut session = Harness::<Echo>::new();
        session.open(serde_json::Value::Null).unwrap();
        for (turn, text) in texts.iter().enumerate() {
            let result = session.say(text.as_str()).unwrap();
            prop_assert_eq!(result.output, [format!("#{} user: {text}", turn + 1)]);
        }
        let snapshot = session.snapshot().unwrap().clone();
        let again = Harness::<Echo>::from_snapshot(snapshot.clone()).unwrap();
        prop_assert_eq!(again.snapshot(), Some(&snapshot));
    }
}
