//! Tests of the chat on the mock host.

use abide_plugin::Cause;
use abide_plugin::testing::Harness;

use super::{Chat, KEPT};

#[test]
fn the_last_messages_are_kept() {
    let mut session = Harness::<Chat>::new();
    for turn in 1..=KEPT + 5 {
        if turn == 7 {
            session.restart(Cause::Crash);
        }
        let reply = session.say(format!("message {turn}")).unwrap();
        let kept = turn.min(KEPT);
        assert_eq!(
            reply.output,
            [format!("{{\"turn\":{turn},\"kept\":{kept}}}")]
        );
    }
}
