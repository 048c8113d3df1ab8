//! The incident that this project began with: the configuration file of an agent daemon changed
//! during a live conversation, the daemon restarted, and the conversation came back empty.

use abide_tests::{
    Account, CallState, Client, Daemon, Event, FakeModel, How, Sent, Setup, Subscriber,
};
use serde_json::json;

/// Turns of the conversation before the configuration changes.
const LONG: u64 = 20;
const SESSION: &str = "the user's conversation";

struct Incident {
    model: FakeModel,
    daemon: Daemon,
    client: Client,
    subscriber: Subscriber,
    /// Every line of the conversation so far, as the model must receive it.
    lines: Vec<String>,
    sent: Vec<Sent>,
}

impl Incident {
    /// Starts a long conversation with a subscriber.
    async fn after_a_long_conversation(grace: &str) -> Self {
        let model = FakeModel::start().await;
        let daemon = Daemon::start(Setup::default().assistant(&model).grace(grace)).await;
        let client = daemon.client();
        let created = client
            .put(
                SESSION,
                &json!({"plugin": "assistant", "args": {"system": "Remember."}}),
            )
            .await;
        created.expect("the daemon serves").expect(201);
        let subscriber = Subscriber::follow(&client, SESSION);
        let mut incident = Self {
            model,
            daemon,
            client,
            subscriber,
            lines: vec!["system: Remember.".to_owned()],
            sent: Vec::new(),
        };
        for turn in 1..=LONG {
            incident.talk(&format!("line {turn} of our talk")).await;
        }
        incident
    }

    async fn talk(&mut self, text: &str) {
        let posted = self.client.chat(SESSION, text).await;
        assert_eq!(posted.said(), [format!("re: {text}")]);
        self.spoken(text, &posted.message);
    }

    fn spoken(&mut self, text: &str, message: &str) {
        self.lines.push(format!("user: {text}"));
        self.lines.push(format!("assistant: re: {text}"));
        self.sent.push(Sent {
            message: message.to_owned(),
            text: text.to_owned(),
        });
    }

    /// Sends a message and returns once the model is working on it.
    async fn ask_and_leave_in_flight(&self, text: &str) -> String {
        let posted = self.client.say(SESSION, text, None).await;
        let posted = posted.expect("a message is accepted");
        self.model.wait_for(text, CallState::Running, 1).await;
        posted.message
    }

    /// Checks the request of the turn after the restart: the model must receive everything that was
    /// said before, and the notice of the restart if this turn is the first to receive it.
    fn check_history(&self, asked: &[String], notice: Option<&str>, text: &str) {
        let mut expected = self.lines.clone();
        expected.extend(notice.map(|notice| format!("system: {notice}")));
        expected.push(format!("user: {text}"));
        assert_eq!(asked, expected);
    }

    /// Checks that nothing is missing or duplicated, in the log and for the subscriber.
    async fn check_account(&self, notices: u64) -> Vec<Event> {
        let mut account = Account::default();
        account.take(&self.client, SESSION, &self.sent).await;
        account.assert_clean();
        assert_eq!(account.acknowledged, self.sent.len() as u64);
        assert_eq!(account.answered_once, self.sent.len() as u64);
        assert_eq!(account.notices, notices);
        let events = self.client.events(SESSION, 0).await;
        let last = self.sent.last().expect("messages were sent");
        assert_eq!(self.subscriber.wait_for_end_of(&last.message).await, events);
        self.subscriber.assert_clean();
        assert_eq!(self.subscriber.connections(), 2, "it resumed exactly once");
        assert_eq!(self.subscriber.restarts(), 1, "and was told why");
        events
    }
}

/// Returns the events of one turn, as `kind` or `kind status`.
fn shape(events: &[Event], turn: u64) -> Vec<String> {
    let of_turn = events.iter().filter(|event| event.turn == Some(turn));
    of_turn
        .map(|event| match &event.status {
            Some(status) => format!("{} {status}", event.kind),
            None => event.kind.clone(),
        })
        .collect()
}

fn notice(events: &[Event]) -> &Event {
    let notice = events.iter().find(|event| event.kind == "notice");
    notice.expect("a guest was told of the restart")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_incident_config_overwritten_during_a_live_conversation() {
    let mut incident = Incident::after_a_long_conversation("30s").await;
    let old = incident.daemon.generation().await;
    let text = "what did I say first? [hold=answer]";
    let message = incident.ask_and_leave_in_flight(text).await;

    incident.daemon.edit(How::Rename, |setup| setup.spare += 1);
    let client = incident.client.clone();
    let draining = abide_tests::until("the drain", async || {
        let status = incident.daemon.status().await;
        (!status["drain"].is_null()).then_some(status)
    })
    .await;
    assert_eq!(draining["generation"], old, "the old worker still serves");
    // A message during the drain is accepted and held.
    let held = client.say(SESSION, "are you there?", None).await;
    let held = held.expect("messages are accepted during a drain");
    assert_eq!(held.status, 202);

    // The model answers within the grace period.
    incident.model.release("answer");
    let generation = incident.daemon.after_generation(old).await;
    incident.spoken(text, &message);
    let events = client.events_once_ended(SESSION, &held.message).await;
    let calls = incident.model.calls_about("are you there?");
    assert_eq!(calls.len(), 1);
    let notice = notice(&events);
    assert_eq!(notice.cause.as_deref(), Some("config"));
    assert_eq!(notice.generation, Some(generation));
    assert_eq!(
        notice.said(),
        "[system] The daemon restarted due to a configuration change. Your session state has \
         been recovered from the last checkpoint."
    );
    assert_eq!(
        notice.turn,
        Some(LONG + 2),
        "the first turn after the restart"
    );
    incident.check_history(&calls[0].messages, Some(notice.said()), "are you there?");
    incident.lines.push(format!("system: {}", notice.said()));
    incident.spoken("are you there?", &held.message);

    incident.talk("and one more").await;
    let events = incident.check_account(1).await;
    assert_eq!(
        shape(&events, LONG + 1),
        ["turn started", "message", "turn completed"]
    );
    assert_eq!(
        shape(&events, LONG + 2),
        ["turn started", "notice", "message", "turn completed"]
    );
    // The drain waited for the turn in flight, which was not run twice.
    assert_eq!(incident.model.calls_about("first?").len(), 1);
    let record = incident.daemon.restart_record(generation).await;
    let record = record.expect("the restart left a record");
    assert_eq!(record["cause"], "config");
    assert_eq!(record["drain"]["waited_for"], 1, "{record}");
    assert_eq!(record["drain"]["cut"], 0, "{record}");
    assert_eq!(record["drain"]["held"], 1, "{record}");
    assert_eq!(incident.client.tally.troubles(), 0, "{}", client.tally);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_incident_with_a_model_that_outlasts_the_grace_period() {
    let mut incident = Incident::after_a_long_conversation("300ms").await;
    let old = incident.daemon.generation().await;
    let text = "think hard [hold=thought]";
    let waiting = {
        let client = incident.client.clone();
        tokio::spawn(async move { client.ask(SESSION, text, None).await })
    };
    incident.model.wait_for(text, CallState::Running, 1).await;

    incident
        .daemon
        .edit(How::Truncate, |setup| setup.spare += 1);
    // Aborted at the end of the grace period: the model sees its caller hang up, and is asked
    // again.
    incident.model.wait_for(text, CallState::Cancelled, 1).await;
    let generation = incident.daemon.after_generation(old).await;
    let again = incident.model.wait_for(text, CallState::Running, 1).await;
    incident.model.release("thought");

    // The client that waited for the answer received a cursor to follow; the answer is among the
    // events.
    let posted = waiting.await.expect("the client does not panic");
    let posted = posted.expect("a waiting client gets its acknowledgement");
    let events = incident
        .client
        .events_once_ended(SESSION, &posted.message)
        .await;
    let notice = notice(&events);
    assert_eq!(notice.generation, Some(generation));
    assert_eq!(
        notice.turn,
        Some(LONG + 1),
        "in front of the turn that was cut"
    );
    assert!(
        notice.said().starts_with(
            "[system] The daemon restarted due to a configuration change. Your session state \
             has been recovered from the last checkpoint."
        ) && notice.said().contains("run again"),
        "{}",
        notice.said()
    );
    incident.check_history(&again[0].messages, Some(notice.said()), text);
    assert_eq!(
        shape(&events, LONG + 1),
        ["turn started", "notice", "message", "turn completed"],
        "started once, whatever the attempts"
    );
    incident.lines.push(format!("system: {}", notice.said()));
    incident.spoken(text, &posted.message);

    incident.talk("and one more").await;
    let last = incident.model.calls_about("and one more");
    let history = incident.lines[..incident.lines.len() - 2].to_vec();
    assert_eq!(last[0].messages[..history.len()], history);
    incident.check_account(1).await;
    let record = incident.daemon.restart_record(generation).await;
    let record = record.expect("the restart left a record");
    assert_eq!(record["drain"]["cut"], 1, "{record}");
    assert_eq!(record["relaunch"]["resumed_turns"], 1, "{record}");
    assert_eq!(record["relaunch"]["faulted"], 0, "{record}");
    assert_eq!(incident.client.tally.troubles(), 0);
}
