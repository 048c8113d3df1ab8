//! What the next turn is notified of after stopped turns.

use proptest::prelude::*;

use super::journal::{done, ok, planned, tool};
use super::rules::{act, drive};
use super::*;

/// Returns the stopped turns of a notice.
fn stopped_turns(notice: Option<&Notice>) -> StoppedTurns {
    let stopped = notice.and_then(|notice| notice.stopped.clone());
    stopped.map_or_else(StoppedTurns::default, |stopped| stopped.turns)
}

/// Returns their calls, each with its result.
fn calls(turns: &StoppedTurns) -> Vec<(u64, &str, Option<&str>)> {
    let turns = turns.turns.iter();
    turns
        .flat_map(|stopped| {
            let shown = stopped.calls.shown.iter();
            shown.map(|made| (stopped.turn, made.call.as_str(), made.result.as_deref()))
        })
        .collect()
}

fn http(name: &str, repeatable: bool) -> Effect {
    Effect::Http {
        name: name.into(),
        repeatable,
    }
}

impl Driven {
    /// Runs a turn that places an order and is then cancelled.
    fn order_and_stop(&mut self, what: &str) {
        let turn = self.open().turn;
        self.add(planned(turn, 1, what, vec![tool(false)]));
        self.add(done(turn, 1, 0, ok("ordered")));
        self.cancel(&CancelScope::Turn).expect("it is open");
    }
}

#[test]
fn the_next_turn_is_told_once_what_a_stopped_one_did_and_why_it_was_stopped() {
    let mut driven = Driven::new();
    driven.order_and_stop("{\"n\":20}");
    let notice = driven.answer_one().expect("it is owed");
    assert_eq!(
        (notice.notice_cause(), notice.id().as_str()),
        (NoticeCause::Stopped, "s1")
    );
    let text = notice.text();
    for part in [
        "[system] Work of this session was stopped",
        "Turn 1, on the message \"hello\": the turn was cancelled on request.",
        "took effect",
        "\n- t {\"n\":20} -> ordered",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert!(!text.contains("Nobody knows"), "{text}");
    assert_eq!(driven.answer_one(), None, "it has been told");
    let notices = driven
        .events()
        .into_iter()
        .filter_map(|event| match event.body {
            EventBody::Notice { cause, text, .. } => Some((event.turn, cause, text)),
            _ => None,
        });
    let notices: Vec<_> = notices.collect();
    assert_eq!(notices, [(Some(2), NoticeCause::Stopped, text)]);
}

#[test]
fn what_was_in_flight_is_unknown_and_what_did_not_happen_is_left_out() {
    let mut driven = Driven::new();
    driven.open();
    let read = Effect::Tool {
        name: "t".into(),
        repeatable: true,
        read_only: true,
    };
    let model = Effect::Model {
        provider: "p".into(),
    };
    driven.add(planned(1, 1, "look", vec![read]));
    driven.add(done(1, 1, 0, ok("seen")));
    driven.add(planned(1, 2, "ask", vec![model]));
    driven.add(planned(1, 3, "denied", vec![tool(false)]));
    driven.add(done(1, 3, 0, Err(StepError::Denied("no".into()))));
    driven.add(planned(1, 4, "unsent", vec![tool(false)]));
    driven.add(done(1, 4, 0, Err(StepError::Unavailable("down".into()))));
    driven.add(planned(1, 5, "silent", vec![tool(false)]));
    driven.add(done(1, 5, 0, Err(StepError::UnknownOutcome("?".into()))));
    driven.add(planned(1, 6, "late", vec![tool(true)]));
    driven.add(done(1, 6, 0, Err(StepError::Timeout("slow".into()))));
    driven.add(planned(1, 7, "broken", vec![tool(false)]));
    driven.add(done(1, 7, 0, Err(StepError::Failed("tool ran".into()))));
    driven.add(planned(1, 8, "flight", vec![tool(false)]));
    driven.fail();
    let notice = driven.answer_one();
    let turns = stopped_turns(notice.as_ref());
    assert_eq!(
        calls(&turns),
        [
            (1, "t silent", None),
            (1, "t late", None),
            (1, "t broken", Some("failed: tool ran")),
            (1, "t flight", None),
        ]
    );
}

#[test]
fn requests_count_by_their_method() {
    for (name, repeatable, counts) in [
        ("GET api.example", true, false),
        ("HEAD api.example", true, false),
        ("PUT api.example", true, true),
        ("DELETE api.example", true, true),
        ("POST api.example", false, true),
        ("PATCH api.example", false, true),
    ] {
        let mut driven = Driven::new();
        driven.open();
        driven.add(planned(1, 1, "", vec![http(name, repeatable)]));
        driven.fail();
        assert_eq!(driven.answer_one().is_some(), counts, "{name}");
    }
    let mut driven = Driven::new();
    driven.open();
    driven.add(planned(1, 1, "", vec![http("POST api.example", false)]));
    let response = HttpResponse {
        status: 201,
        headers: Vec::new(),
        body: b"number\n17".to_vec(),
    };
    driven.add(done(1, 1, 0, Ok(StepResult::Http(response))));
    driven.fail();
    let text = driven.answer_one().expect("it is owed").text();
    assert!(text.contains("-> status 201, 9 bytes: number 17"), "{text}");
}

#[test]
fn calls_at_once_are_told_one_by_one() {
    let mut driven = Driven::new();
    driven.open();
    let request = StepRequest::ToolCallAll(
        ["a", "b"]
            .map(|text| ToolCall {
                name: "t".into(),
                arguments: text.into(),
            })
            .to_vec(),
    );
    let together = |parts: Vec<String>| {
        Record::Planned(Planned {
            turn: 1,
            step: 1,
            call: StepCallName::of(&request),
            effects: vec![tool(false), tool(false)],
            parts,
            about: String::new(),
            at: UnixMillis(1),
        })
    };
    driven.add(together(StepCallName::parts(&request)));
    driven.add(done(1, 1, 1, ok("B")));
    driven.fail();
    let notice = driven.answer_one();
    let expected = [(1, "t a", None), (1, "t b", Some("B"))];
    assert_eq!(calls(&stopped_turns(notice.as_ref())), expected);

    // The form in which older versions recorded it.
    let mut driven = Driven::new();
    driven.open();
    driven.add(together(Vec::new()));
    driven.fail();
    let notice = driven.answer_one();
    assert_eq!(
        calls(&stopped_turns(notice.as_ref())),
        [(1, "t", None), (1, "t", None)]
    );
}

#[test]
fn several_stopped_turns_are_told_in_order_until_one_that_was_told_commits() {
    let mut driven = Driven::new();
    driven.order_and_stop("a");
    driven.order_and_stop("b");
    let begun = driven.open();
    let expected = [(1, "t a", Some("ordered")), (2, "t b", Some("ordered"))];
    assert_eq!(calls(&stopped_turns(begun.notice.as_ref())), expected);
    driven.fail();
    let notice = driven.answer_one();
    assert_eq!(
        calls(&stopped_turns(notice.as_ref())),
        expected,
        "it is given back"
    );
    assert_eq!(driven.answer_one(), None);
}

#[test]
fn a_turn_that_did_nothing_outside_leaves_no_word() {
    let mut driven = Driven::new();
    driven.open();
    driven.add(planned(1, 1, "", vec![Effect::Local]));
    driven.add(done(1, 1, 0, ok("listed")));
    driven.cancel(&CancelScope::Turn).expect("it is open");
    assert_eq!(driven.answer_one(), None);
}

#[test]
fn with_a_restart_both_are_one_message_and_the_restarts_cause_stays() {
    let mut driven = Driven::new();
    driven.answer_one();
    driven.order_and_stop("a");
    driven.restart(Cause::Upgrade);
    let notice = driven.answer_one().expect("both are owed");
    assert_eq!(
        (notice.notice_cause(), notice.id().as_str()),
        (NoticeCause::Upgrade, "n2")
    );
    let text = notice.text();
    assert!(
        text.starts_with("[system] The daemon restarted due to an upgrade."),
        "{text}"
    );
    assert!(
        text.contains("\nWork of this session was stopped"),
        "{text}"
    );
    assert_eq!(text.matches("[system]").count(), 1, "{text}");
    assert_eq!(driven.answer_one(), None);
}

#[test]
fn a_turn_that_is_stopped_behind_a_restart_is_told_with_both() {
    let mut driven = Driven::new();
    driven.open();
    driven.add(planned(1, 1, "a", vec![tool(false)]));
    driven.restart(Cause::Crash);
    // The turn has not begun again yet: the daemon has just restarted.
    driven.cancel(&CancelScope::Turn).expect("it is open");
    assert!(driven.begin().is_none(), "it does not come back");
    let notice = driven.answer_one();
    assert_eq!(calls(&stopped_turns(notice.as_ref())), [(1, "t a", None)]);
    assert_eq!(driven.answer_one(), None);
}

#[test]
fn a_resumed_turn_keeps_the_notice_that_it_began_with() {
    let mut driven = Driven::new();
    driven.order_and_stop("a");
    let begun = driven.open();
    driven.add(planned(2, 1, "b", vec![tool(false)]));
    driven.add(done(2, 1, 0, ok("B")));
    driven.restart(Cause::Crash);
    let again = driven.begin().expect("it is open");
    assert_eq!(
        again.notice, begun.notice,
        "what the guest is a function of stays"
    );
    driven.cancel(&CancelScope::Turn).expect("it is open");
    let notice = driven.answer_one();
    let expected = [(1, "t a", Some("ordered")), (2, "t b", Some("B"))];
    assert_eq!(calls(&stopped_turns(notice.as_ref())), expected);
}

#[test]
fn what_an_attempt_that_was_given_up_may_have_done_is_told_unless_it_is_done_again() {
    for again in [false, true] {
        let mut driven = Driven::new();
        driven.open();
        driven.add(planned(1, 1, "a", vec![tool(true)]));
        driven.restart(Cause::Crash);
        assert_eq!(driven.begin().and_then(|begun| begun.resumed_in), None);
        if again {
            driven.add(planned(1, 1, "a", vec![tool(true)]));
            driven.add(done(1, 1, 0, ok("A")));
        }
        driven.fail();
        let notice = driven.answer_one();
        let expected = (1, "t a", again.then_some("A"));
        assert_eq!(
            calls(&stopped_turns(notice.as_ref())),
            [expected],
            "{again}"
        );
    }
}

#[test]
fn a_call_that_waited_for_a_human_did_not_happen() {
    let mut driven = Driven::new();
    driven.open();
    let session = SessionId::new("s").expect("it is one");
    driven.add(Record::Asked(Asked {
        id: ApprovalId::new(&session, None, 1, 1, 0),
        turn: 1,
        step: 1,
        part: 0,
        call: StepCallName::of(&StepRequest::ToolsList),
        tool: "t".into(),
        arguments: "{}".into(),
        at: UnixMillis(1),
        expires_at: UnixMillis(1000),
    }));
    driven.cancel(&CancelScope::Turn).expect("it is parked");
    assert_eq!(driven.answer_one(), None);
}

#[test]
fn a_notice_is_short_whatever_was_done() {
    let mut driven = Driven::new();
    driven.limits.inbox = 100;
    let long = "ä \n".repeat(100_000);
    for _ in 0..20 {
        let turn = driven.open().turn;
        for step in 1..=40 {
            driven.add(planned(turn, step, &long, vec![tool(false)]));
            driven.add(done(turn, step, 0, ok(&long)));
        }
        driven.add(planned(turn, 41, "in flight", vec![tool(false)]));
        let failure = TurnFailure {
            code: FailureCode::Trap,
            text: long.clone(),
        };
        let at = UnixMillis(driven.now);
        driven.add(driven.session.fail(failure, at).expect("it is open"));
    }
    let notice = driven.answer_one().expect("it is owed");
    let text = notice.text();
    assert!(text.len() < 8 << 10, "{} bytes", text.len());
    let turns = stopped_turns(Some(&notice));
    let counted: u32 = turns
        .turns
        .iter()
        .map(|stopped| stopped.calls.more + stopped.calls.shown.len() as u32)
        .sum();
    assert_eq!(counted + turns.earlier_calls, 20 * 41, "each is counted");
    let unknown = calls(&turns).iter().filter(|call| call.2.is_none()).count();
    assert_eq!(
        unknown,
        turns.turns.len(),
        "what nobody knows of is left out last"
    );
    assert!(
        text.contains("Turns before turn 15 made 574 call(s)"),
        "{text}"
    );
}

/// The form that the last version wrote and read, before notices reported stopped turns.
#[derive(serde::Deserialize)]
#[allow(dead_code, reason = "what counts is that it is read")]
struct OlderNotice {
    cause: Cause,
    generation: Generation,
    interruption: Interruption,
    #[serde(default)]
    unknown_steps: Vec<String>,
}

#[test]
fn an_older_version_reads_a_notice_without_a_restart_as_of_the_generation_that_is_known() {
    let mut driven = Driven::new();
    driven.order_and_stop("a");
    let begun = driven.open();
    let bytes = rmp_serde::to_vec_named(&begun.notice.expect("it is owed")).expect("it encodes");
    let older: OlderNotice = rmp_serde::from_slice(&bytes).expect("it is read");
    // It is notified of nothing that would advance the generation it has seen, or make it forget
    // one that it has not seen.
    assert_eq!(older.generation, begun.generation);
    assert_eq!(older.interruption, Interruption::None);
    assert_eq!(older.unknown_steps, [] as [&str; 0]);
}

/// Bytes on disk are forever.
#[test]
fn the_stored_form_of_a_stopped_turn_never_changes() {
    let mut driven = Driven::new();
    driven.open();
    driven.add(planned(1, 1, "a", vec![tool(false)]));
    driven.add(done(1, 1, 0, ok("A")));
    driven.add(planned(1, 2, "b", vec![tool(true)]));
    driven.fail();
    let notice = driven.open().notice.expect("it is owed");
    let bytes = rmp_serde::to_vec_named(&notice).expect("it encodes");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN);
    let read: Notice = rmp_serde::from_slice(&bytes).expect("it is read");
    assert_eq!(read, notice);
}

/// A notice about a turn with one call that is done and one with an unknown outcome.
const GOLDEN: &str = "84a56361757365a86f70657261746f72aa67656e65726174696f6e01ac696e746572727570746\
    96f6ea46e6f6e65a773746f7070656482a57475726e7381a57475726e739184a47475726e01a6726561736f6ea26e6f\
    a561626f7574a568656c6c6fa563616c6c7382a573686f776e9282a463616c6ca3742061a6726573756c74a14182a46\
    3616c6ca3742062aa72657065617461626c65c3a46d6f726500a9726573746172746564c2";

/// The calls in a log that no turn was notified of, computed without the fold: for each failed
/// turn, those that changed something or may have.
#[derive(Default)]
struct Reader {
    /// The turn, the call, and whether its result is known.
    owed: Vec<(u64, String, bool)>,
    open: Vec<(u32, String, bool, bool)>,
}

impl Reader {
    /// Reads the next record. Returns what a turn that begins with it must be notified of.
    fn read(&mut self, record: &Record) -> Option<Vec<(u64, String, bool)>> {
        match record {
            Record::Begun(begun) if begun.resumed_in.is_none() => {
                for call in &mut self.open {
                    // The call is of an abandoned attempt.
                    call.0 = 0;
                }
                return Some(self.owed.clone());
            }
            Record::Planned(planned) => {
                let repeatable = planned.effects[0].repeatable();
                let text = planned.call.text.clone();
                // Repeating a repeatable call settles what the first one did.
                self.open
                    .retain(|(step, of, settles, _)| *step > 0 || *of != text || !settles);
                self.open.push((planned.step, text, repeatable, false));
            }
            Record::Done(done) => {
                let call = self.open.iter_mut().find(|call| call.0 == done.step);
                call.expect("it was planned").3 = true;
            }
            Record::Ended(ended) => {
                let calls = self.open.drain(..);
                match &ended.end {
                    TurnEnd::Failed(_) => self
                        .owed
                        .extend(calls.map(|(_, call, _, known)| (ended.turn, call, known))),
                    TurnEnd::Completed { .. } => {
                        drop(calls);
                        self.owed.clear();
                    }
                }
            }
            _ => {}
        }
        None
    }
}

proptest! {
    /// Each turn begins with a notice about all that was done since the last commit, in order, and
    /// without one if nothing was done.
    #[test]
    fn nothing_that_was_done_is_forgotten(acts in prop::collection::vec(act(), 0..200)) {
        let mut reader = Reader::default();
        for (_, record) in &drive(&acts).log {
            let expected = reader.read(record);
            let (Record::Begun(begun), Some(expected)) = (record, expected) else { continue };
            let turns = stopped_turns(begun.notice.as_ref());
            prop_assert_eq!(turns.is_none(), expected.is_empty());
            let counted: u32 = turns.turns.iter()
                .map(|stopped| stopped.calls.more + stopped.calls.shown.len() as u32).sum();
            prop_assert_eq!((counted + turns.earlier_calls) as usize, expected.len());
            let shown: Vec<_> = calls(&turns).into_iter()
                .map(|(turn, call, result)| (turn, call.to_owned(), result.is_some())).collect();
            let mut rest = expected.iter();
            prop_assert!(shown.iter().all(|call| rest.any(|of| of == call)), "{:?} of {:?}", shown, expected);
        }
    }

    /// A session that is loaded from its stored form owes the same notice.
    #[test]
    fn what_is_owed_survives_the_disk(acts in prop::collection::vec(act(), 0..100)) {
        let progress = drive(&acts).session.progress;
        let bytes = rmp_serde::to_vec_named(&progress).expect("it encodes");
        let read: SessionProgress = rmp_serde::from_slice(&bytes).expect("it is read");
        prop_assert_eq!(read, progress);
    }
}
