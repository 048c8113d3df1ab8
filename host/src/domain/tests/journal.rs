//! What an interrupted turn is notified of when it is resumed.

use super::*;

fn call(text: &str) -> StepCallName {
    StepCallName::of(&StepRequest::ToolCall(ToolCall {
        name: "t".into(),
        arguments: text.into(),
    }))
}

pub(super) fn tool(repeatable: bool) -> Effect {
    Effect::Tool {
        name: "t".into(),
        repeatable,
        read_only: false,
    }
}

pub(super) fn planned(turn: u64, step: u32, text: &str, effects: Vec<Effect>) -> Record {
    Record::Planned(Planned {
        turn,
        step,
        call: call(text),
        about: Planned::about(&effects, "hello"),
        effects,
        parts: Vec::new(),
        at: UnixMillis(1),
    })
}

pub(super) fn done(
    turn: u64,
    step: u32,
    part: u32,
    result: Result<StepResult, StepError>,
) -> Record {
    Record::Done(StepDone {
        turn,
        step,
        part,
        tool: (!matches!(result, Ok(StepResult::Receive(_)))).then(|| "t".into()),
        result,
        took_ms: 5,
        at: UnixMillis(2),
    })
}

pub(super) fn ok(text: &str) -> Result<StepResult, StepError> {
    Ok(StepResult::ToolCall(ToolOutcome {
        content: vec![ToolContent::Text(text.into())],
        is_error: false,
    }))
}

impl Driven {
    pub(super) fn open(&mut self) -> Begun {
        self.receive().expect("room");
        self.begin().expect("it waits")
    }

    /// Takes one step of the open turn, if a turn is open.
    pub(super) fn step(&mut self, repeatable: bool, is_done: bool) {
        let Some(open) = &self.session.progress.open else {
            return;
        };
        let (turn, step) = (open.begun.turn, open.journal.steps + 1);
        self.add(planned(
            turn,
            step,
            &step.to_string(),
            vec![tool(repeatable)],
        ));
        if is_done {
            self.add(done(turn, step, 0, ok("A")));
        }
    }

    /// The turn calls `inbox.receive` and gets this notice.
    fn tell(&mut self, turn: u64, step: u32, notice: Notice) {
        self.add(planned(turn, step, "", vec![Effect::Local]));
        let received = FromInbox {
            notice: Some(notice),
            messages: Vec::new(),
        };
        self.add(done(turn, step, 0, Ok(StepResult::Receive(received))));
    }

    fn owed(&self) -> Option<Notice> {
        self.session.owed_meanwhile(&self.restarts)
    }

    fn journal(&self) -> Journal {
        let turn = self.session.progress.last_turn;
        Journal::of(turn, self.log.iter().map(|(_, record)| record.clone()))
    }
}

#[test]
fn a_turn_with_a_step_done_goes_on_unchanged() {
    let mut driven = Driven::new();
    let first = driven.open();
    driven.add(planned(1, 1, "a", vec![tool(false)]));
    driven.add(done(1, 1, 0, ok("A")));
    driven.restart(Cause::Config);
    let again = driven.begin().expect("it is open");
    let expected = Begun {
        attempt: 2,
        resumed_in: Some(Generation(2)),
        ..first
    };
    assert_eq!(again, expected, "what the guest is a function of stays");
    assert_eq!(again.runs_in(), Generation(2));
    let notice = driven.owed().expect("it finds the notice in its inbox");
    assert_eq!(notice.interruption, Interruption::Resumed);
    assert!(notice.text().ends_with("goes on where it was."));
}

#[test]
fn a_turn_whose_only_steps_can_be_repeated_runs_anew() {
    let mut driven = Driven::new();
    driven.open();
    driven.add(planned(1, 1, "a", vec![tool(true)]));
    driven.restart(Cause::Crash);
    let again = driven.begin().expect("it is open");
    assert_eq!(again.resumed_in, None);
    assert_eq!(
        again.notice.map(|notice| notice.interruption),
        Some(Interruption::Rerun)
    );
    let journal = &driven.session.progress.open.as_ref().expect("open").journal;
    assert_eq!(*journal, Progressed::default(), "its journal begins anew");
}

#[test]
fn a_turn_that_only_asked_the_host_runs_anew_and_is_told_once() {
    let mut driven = Driven::new();
    driven.open();
    driven.add(planned(1, 1, "", vec![Effect::Local]));
    driven.add(done(1, 1, 0, ok("listed")));
    driven.restart(Cause::Crash);
    let again = driven.begin().expect("it is open");
    assert_eq!(again.resumed_in, None, "nothing outside was touched");
    assert!(again.notice.is_some());
    assert_eq!(driven.owed(), None, "it stood in front");
    driven.add(planned(1, 1, "", vec![Effect::Local]));
    driven.add(done(1, 1, 0, ok("listed")));
    assert_eq!(driven.owed(), None);
    driven.complete();
    assert_eq!(driven.answer_one(), None);
}

#[test]
fn what_may_have_happened_is_unknown_and_said_so() {
    let mut driven = Driven::new();
    driven.open();
    driven.add(planned(
        1,
        1,
        "a",
        vec![tool(false), tool(true), tool(false)],
    ));
    driven.add(done(1, 1, 2, ok("C")));
    driven.restart(Cause::Crash);
    driven.begin().expect("it is open");
    let mut replay = Replay::new(driven.journal());
    let StepPath::Recorded(parts) = replay.next(&call("a")) else {
        panic!("the journal knows it");
    };
    assert_eq!(parts[0], Recorded::Unknown(tool(false)));
    assert_eq!(parts[1], Recorded::Again(tool(true)));
    assert!(matches!(&parts[2], Recorded::Done(done) if done.result == ok("C")));
    assert_eq!(replay.next(&call("b")), StepPath::Live);
    let notice = driven.owed().expect("owed");
    assert_eq!(notice.unknown_steps, ["tools.call t"]);

    // The result is the same however often the turn is interrupted, and whether that is recorded or
    // not.
    let unknown = Err(unknown_outcome("tools.call t"));
    driven.add(done(1, 1, 0, unknown.clone()));
    driven.restart(Cause::Crash);
    driven.begin().expect("it is open");
    let StepPath::Recorded(parts) = Replay::new(driven.journal()).next(&call("a")) else {
        panic!("the journal knows it");
    };
    assert!(matches!(&parts[0], Recorded::Done(done) if done.result == unknown));
    assert_eq!(driven.owed().expect("owed").unknown_steps, ["tools.call t"]);
}

#[test]
fn a_guest_that_does_something_else_diverges() {
    let mut driven = Driven::new();
    driven.open();
    driven.add(planned(1, 1, "a", vec![tool(false)]));
    driven.add(done(1, 1, 0, ok("A")));
    let mut replay = Replay::new(driven.journal());
    let ended_early = replay.left_out().expect("a step is left").to_string();
    assert!(ended_early.contains("`tools.call t a`") && ended_early.contains("turn's end"));
    let StepPath::Diverged(diverged) = replay.next(&call("b")) else {
        panic!("another call");
    };
    let text = diverged.to_string();
    assert!(text.contains("`tools.call t a`") && text.contains("`tools.call t b`"));
    assert_eq!(TurnFailure::from(diverged).code, FailureCode::Divergence);
    assert!(matches!(replay.next(&call("a")), StepPath::Recorded(_)));
    assert_eq!(replay.left_out(), None);
}

#[test]
fn a_turn_that_never_looks_into_its_inbox_has_the_next_one_told() {
    let mut driven = Driven::new();
    driven.open();
    driven.add(planned(1, 1, "a", vec![tool(false)]));
    driven.restart(Cause::Upgrade);
    driven.begin().expect("it is open");
    driven.add(done(1, 1, 0, Err(unknown_outcome("tools.call t"))));
    driven.complete();
    let notice = driven.answer_one().expect("nobody was told yet");
    assert_eq!(
        (notice.cause, notice.interruption, notice.unknown_steps),
        (
            Cause::Upgrade,
            Interruption::Completed,
            vec!["tools.call t".to_owned()]
        )
    );
    assert_eq!(driven.answer_one(), None);
}

#[test]
fn a_turn_that_finds_the_notice_in_its_inbox_has_nobody_else_told() {
    let mut driven = Driven::new();
    driven.open();
    driven.add(planned(1, 1, "a", vec![tool(false)]));
    driven.add(done(1, 1, 0, ok("A")));
    driven.restart(Cause::Config);
    driven.begin().expect("it is open");
    let notice = driven.owed().expect("owed");
    driven.tell(1, 2, notice.clone());
    assert_eq!(driven.owed(), None, "it has been told");
    driven.restart(Cause::Operator);
    driven.begin().expect("it is open");
    let later = driven.owed().expect("of a later one it has not");
    assert_eq!(later.unknown_steps, [] as [&str; 0], "nothing since");
    driven.restarts.pop();
    driven.further_notices.push(notice);
    driven.complete();
    let kinds: Vec<_> = driven.events().iter().map(|e| e.body.kind()).collect();
    assert_eq!(
        kinds,
        [
            "message", "turn", "tool", "tool", "notice", "message", "turn"
        ]
    );
    driven.further_notices.clear();
    assert_eq!(driven.answer_one(), None);
}

#[test]
fn a_completed_step_forgives_deaths_and_a_retry_of_what_it_did_needs_force() {
    let mut driven = Driven::new();
    driven.open();
    driven.add(planned(1, 1, "a", vec![tool(false)]));
    let deaths = |driven: &mut Driven| {
        let open = driven.session.progress.open.as_mut().expect("open");
        std::mem::replace(&mut open.begun.deaths, 2)
    };
    deaths(&mut driven);
    driven.add(done(1, 1, 0, ok("A")));
    assert_eq!(deaths(&mut driven), 0);
    driven.fail();
    let Some((_, Record::Ended(ended))) = driven.log.last().cloned() else {
        panic!("it has failed");
    };
    assert_eq!(ended.effects, 1);
    let letter = DeadLetter {
        message: Message {
            id: ended.message,
            from: Role::User,
            name: None,
            text: "hello".into(),
            at: UnixMillis(1),
            due: None,
        },
        reason: TurnFailure {
            code: FailureCode::Guest,
            text: "no".into(),
        },
        turn: Some(1),
        effects: ended.effects,
        at: UnixMillis(1),
    };
    let retry = |force| {
        let at = UnixMillis(9);
        driven
            .session
            .retry(letter.clone(), force, &driven.limits, at)
    };
    assert_eq!(retry(false), Err(Refusal::NeedsForce { calls: 1 }));
    assert!(retry(true).is_ok());
}

#[test]
fn a_failed_turn_that_was_told_has_the_next_one_told() {
    // No commit is recent enough for a notice on that account.
    let mut driven = Driven::new();
    driven.open();
    driven.add(planned(1, 1, "a", vec![tool(false)]));
    driven.restart(Cause::Crash);
    driven.begin().expect("it is open");
    let notice = driven.owed().expect("owed");
    driven.tell(1, 2, notice);
    driven.fail();
    let notice = driven.answer_one().expect("what was told is undone");
    assert_eq!(notice.interruption, Interruption::Failed);
    assert_eq!(notice.unknown_steps, ["tools.call t"]);
    assert_eq!(driven.answer_one(), None);
}

#[test]
fn what_is_unknown_is_told_though_the_turn_that_was_to_hear_it_ran_again() {
    let mut driven = Driven::new();
    driven.open();
    driven.add(planned(1, 1, "a", vec![tool(false), tool(false)]));
    driven.restart(Cause::Crash);
    driven.begin().expect("it is open");
    driven.complete();
    driven.open();
    driven.restart(Cause::Config);
    let again = driven.begin().expect("it is open");
    let notice = again.notice.expect("its turn was open");
    assert_eq!(notice.interruption, Interruption::Rerun);
    let both = ["tools.call t", "tools.call t"];
    assert_eq!(notice.unknown_steps, both, "two calls of one tool are two");
}

#[test]
fn only_what_was_done_outside_forgives_deaths() {
    let mut driven = Driven::new();
    driven.open();
    let deaths = |driven: &mut Driven| {
        let open = driven.session.progress.open.as_mut().expect("open");
        std::mem::replace(&mut open.begun.deaths, 2)
    };
    deaths(&mut driven);
    driven.add(planned(1, 1, "", vec![Effect::Local]));
    driven.add(done(1, 1, 0, ok("listed")));
    assert_eq!(deaths(&mut driven), 2, "the host can be asked for ever");
    driven.add(planned(1, 2, "a", vec![tool(false)]));
    driven.add(done(1, 2, 0, Err(unknown_outcome("t"))));
    assert_eq!(deaths(&mut driven), 2, "nobody knows of any progress");
    driven.add(planned(1, 3, "b", vec![tool(false)]));
    driven.add(done(1, 3, 0, Err(StepError::Unavailable("down".into()))));
    driven.fail();
    let Some((_, Record::Ended(ended))) = driven.log.last() else {
        panic!("it has failed");
    };
    assert_eq!(ended.effects, 1, "one may have happened, the other has not");
}

/// Bytes on disk are forever: after an upgrade, open turns are compared by these digests.
#[test]
fn the_digest_of_a_call_never_changes() {
    let chat = StepRequest::Llm(ChatRequest {
        provider: None,
        model: Some("m".into()),
        messages: vec![ChatMessage {
            role: ChatRole::User,
            content: "hi".into(),
            tool_calls: vec![ModelToolCall {
                id: "1".into(),
                name: "t".into(),
                arguments: "{}".into(),
            }],
            tool_call_id: Some("1".into()),
        }],
        tools: vec![ToolDefinition {
            name: "t".into(),
            description: "d".into(),
            parameters: "{}".into(),
        }],
        max_tokens: Some(1),
        temperature: Some(0.5),
    });
    let call = ToolCall {
        name: "t".into(),
        arguments: "{}".into(),
    };
    let http = StepRequest::Http(HttpRequest {
        method: "GET".into(),
        url: "http://x".into(),
        headers: vec![("a".into(), "b".into())],
        body: vec![1],
    });
    let digests: Vec<_> = [
        chat,
        StepRequest::ToolsList,
        StepRequest::ToolCall(call.clone()),
        StepRequest::ToolCallAll(vec![call]),
        http,
        StepRequest::Receive,
    ]
    .iter()
    .map(|request| StepCallName::of(request).digest.short())
    .collect();
    assert_eq!(
        digests,
        [
            "a078891fc196",
            "c8406ac33055",
            "7db5cfa48b60",
            "32661a014f9a",
            "ea34f30a6267",
            "00169507e9d3",
        ]
    );
}

#[test]
fn a_call_is_known_by_all_that_the_guest_gave() {
    let same = call("{\"a\":1}");
    assert_eq!(same, call("{\"a\":1}"));
    assert_ne!(same.digest, call("{\"a\":2}").digest);
    let long = call(&"ä".repeat(1000));
    assert!(long.text.len() < 600 && long.text.ends_with('…'));
    assert_ne!(long.digest, call(&"ä".repeat(1001)).digest);
}
