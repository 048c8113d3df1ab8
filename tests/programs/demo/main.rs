//! The demo: what a configuration change does to twenty live sessions. It reports what a client
//! observes from outside, and fails if anything was lost.

mod story;

use std::process::ExitCode;
use std::time::Duration;

use abide_tests::{
    Account, CallState, Client, Daemon, FakeModel, How, Prober, Sent, Setup, Subscriber, until,
};
use serde_json::Value;

use crate::story::Story;

/// Number of sessions of each plugin.
const EACH: usize = 10;
/// Numbers of model calls that end within the grace period, and that do not.
const SLOW: usize = 4;
const TOO_SLOW: usize = 2;
const GRACE: &str = "3s";
const SLOW_MARK: &str = "[delay=1500]";
const TOO_SLOW_MARK: &str = "[delay=6000]";
/// The session that a prober sends messages to.
const PROBED: &str = "prober";
/// Pause between two requests of a prober.
const PROBE_PAUSE: Duration = Duration::from_millis(2);

/// One session and the messages that were sent to it.
struct Talk {
    id: String,
    sent: Vec<Sent>,
    subscriber: Subscriber,
}

impl Talk {
    async fn say(&mut self, client: &Client, text: &str) {
        let posted = client.say(&self.id, text, None).await;
        let posted = posted.unwrap_or_else(|no| panic!("{}: {text:?}: {no:?}", self.id));
        self.sent.push(Sent {
            message: posted.message,
            text: text.to_owned(),
        });
    }

    async fn answered(&self) {
        if let Some(last) = self.sent.last() {
            self.subscriber.wait_for_end_of(&last.message).await;
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut story = Story::new();
    let model = FakeModel::start().await;
    let mut daemon = Daemon::start(Setup::default().assistant(&model).grace(GRACE)).await;
    let client = daemon.client();
    let old = daemon.generation().await;
    story.chapter("A daemon with live sessions");
    story.tell(format!(
        "abide serves on 127.0.0.1:{}, store in {}",
        daemon.setup.port,
        daemon.folder().join("data").display()
    ));
    story.tell(format!(
        "a language model of ours serves {}, slow on purpose; grace period {GRACE}",
        model.base_url()
    ));
    let mut talks = open(&client).await;
    story.tell(format!(
        "{} sessions opened ({EACH} echo, {EACH} assistant), each with a conversation and a \
         subscriber",
        talks.len()
    ));
    let (echoes, assistants) = talks.split_at_mut(EACH);
    for (n, talk) in assistants.iter_mut().take(SLOW + TOO_SLOW).enumerate() {
        let mark = if n < SLOW { SLOW_MARK } else { TOO_SLOW_MARK };
        talk.say(&client, &format!("a hard question {mark}")).await;
    }
    model
        .wait_for("a hard question", CallState::Running, SLOW + TOO_SLOW)
        .await;
    story.tell(format!(
        "{} model calls are in flight: {SLOW} take 1.5 s, {TOO_SLOW} take 6 s",
        SLOW + TOO_SLOW
    ));
    client.open(PROBED, "echo").await;
    let keeps = probe_messages(daemon.client());
    let opens = Prober::on_new_connections(daemon.setup.port, "/healthz", PROBE_PAUSE);

    story.chapter("abide.toml is rewritten, as an editor does: a new file, renamed over it");
    story.restart_clock();
    daemon.edit(How::Rename, |setup| setup.spare += 1);
    let (generation, record) = planned(&daemon, old).await;
    story.tell(format!(
        "change seen, validated, planned as generation {generation}: {}",
        text(&record["trigger"])
    ));
    until("the drain", async || {
        (!daemon.status().await["drain"].is_null()).then_some(())
    })
    .await;
    story.tell("standby ready; draining: no new turn begins, messages are accepted and held");
    for talk in echoes.iter_mut().take(3) {
        talk.say(&client, "are you still there?").await;
    }
    story.tell("3 messages sent into the drain: 3 accepted");
    daemon.after_generation(old).await;
    story.tell(format!("generation {generation} serves"));
    for talk in &talks {
        talk.answered().await;
    }
    story.tell("every message that was in flight or held is answered");

    story.chapter("What the daemon says of it");
    let record = daemon
        .restart_record_when(generation, |record| {
            !record["relaunch"]["restored"].is_null() && record["status"] != "running"
        })
        .await;
    report(&mut story, &record);

    story.chapter("What the sessions say");
    for talk in &mut talks {
        talk.say(&client, "what did I miss?").await;
    }
    for talk in &talks {
        talk.answered().await;
    }
    let mut account = Account::default();
    for talk in &talks {
        account.take(&client, &talk.id, &talk.sent).await;
    }
    check_notices(&mut story, &mut account, &talks);
    check_subscribers(&mut story, &mut account, &client, &talks).await;
    check_histories(&mut story, &mut account, &model);
    story.tell(format!(
        "{} messages acknowledged, {} answered exactly once",
        account.acknowledged, account.answered_once
    ));

    story.chapter("What a client saw meanwhile");
    story.tell(check_probes(keeps, opens, &client, &mut account).await);

    if account.wrong.is_empty() {
        story.chapter("Nothing was lost.");
        ExitCode::SUCCESS
    } else {
        story.chapter("SOMETHING WAS LOST");
        account.wrong.iter().for_each(|wrong| story.tell(wrong));
        eprintln!("--- the daemon's log ---\n{}", daemon.log());
        ExitCode::FAILURE
    }
}

async fn open(client: &Client) -> Vec<Talk> {
    let mut talks = Vec::new();
    for plugin in ["echo", "assistant"] {
        for n in 1..=EACH {
            let id = format!("{plugin}-{n}");
            client.open(&id, plugin).await;
            let subscriber = Subscriber::follow(client, &id);
            let sent = Vec::new();
            talks.push(Talk {
                id,
                sent,
                subscriber,
            });
        }
    }
    for line in ["my name is Ada", "and I like long conversations"] {
        for talk in &mut talks {
            talk.say(client, line).await;
        }
        for talk in &talks {
            talk.answered().await;
        }
    }
    talks
}

/// Waits for the record of the restart that follows generation `old`.
async fn planned(daemon: &Daemon, old: u64) -> (u64, Value) {
    until("the change to be seen", async || {
        let list = daemon.client().get("/v1/daemon/restarts").await.ok()?.body;
        let items = list["items"].as_array()?;
        items.iter().find_map(|record| {
            let generation = record["generation"].as_u64()?;
            (generation > old).then(|| (generation, record.clone()))
        })
    })
    .await
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn report(story: &mut Story, record: &Value) {
    let drain = &record["drain"];
    story.tell(format!(
        "drained: {} sessions active, {} idle, {} turns waited for, {} cut at the end of the \
         grace period, {} messages held",
        record["active"], drain["idle"], drain["waited_for"], drain["cut"], drain["held"]
    ));
    let phases = &record["phases"];
    story.tell(format!(
        "restarted: standby {} ms, drain {} ms, hand-over {} ms; pause {} ms",
        phases["standby_ms"], phases["drain_ms"], phases["handover_ms"], phases["pause_ms"]
    ));
    let relaunch = &record["relaunch"];
    story.tell(format!(
        "relaunched: {} sessions restored, {} interrupted turns run again, {} faulted, {} ms",
        relaunch["restored"], relaunch["resumed_turns"], relaunch["faulted"], phases["relaunch_ms"]
    ));
}

/// Every session was active, so every guest must have received exactly one recovery message.
fn check_notices(story: &mut Story, account: &mut Account, talks: &[Talk]) {
    let mut notified = 0;
    let mut example = None;
    for talk in talks {
        let events = talk.subscriber.events();
        let notices: Vec<_> = events
            .iter()
            .filter(|event| event.kind == "notice")
            .collect();
        match notices[..] {
            [notice] => {
                notified += 1;
                example.get_or_insert_with(|| notice.said().to_owned());
            }
            _ => account.wrong.push(format!(
                "{}: {} recovery messages instead of 1",
                talk.id,
                notices.len()
            )),
        }
    }
    story.tell(format!(
        "recovery message seen exactly once by {notified} of {} active guests:",
        talks.len()
    ));
    story.quote(&example.unwrap_or_default());
}

async fn check_subscribers(
    story: &mut Story,
    account: &mut Account,
    client: &Client,
    talks: &[Talk],
) {
    let mut resumed = 0;
    let mut events = 0;
    for talk in talks {
        let stored = client.events(&talk.id, 0).await;
        events += stored.len();
        if talk.subscriber.events() != stored {
            account.wrong.push(format!(
                "{}: its subscriber saw other events than there are",
                talk.id
            ));
        }
        resumed += u64::from(talk.subscriber.connections() == 2);
    }
    story.tell(format!(
        "{resumed} of {} subscribers resumed at their cursor: {events} events, none missing, \
         none doubled",
        talks.len()
    ));
}

/// Checks that the last model request of each conversation still contains its beginning.
fn check_histories(story: &mut Story, account: &mut Account, model: &FakeModel) {
    let calls = model.calls_about("what did I miss?");
    let whole = calls.iter().filter(|call| {
        call.messages
            .first()
            .is_some_and(|line| line == "user: my name is Ada")
    });
    let whole = whole.count();
    if whole != EACH || calls.len() != EACH {
        account.wrong.push(format!(
            "{whole} of {EACH} assistants remember their whole conversation"
        ));
    }
    let cut = model.calls_about(TOO_SLOW_MARK);
    let cancelled = cut
        .iter()
        .filter(|call| call.state == CallState::Cancelled)
        .count();
    story.tell(format!(
        "{whole} of {EACH} assistants remember their whole conversation; {cancelled} model calls \
         were cut and made again"
    ));
    if cancelled != TOO_SLOW || cut.len() != 2 * TOO_SLOW {
        account.wrong.push(format!(
            "{TOO_SLOW} model calls should have been cut and made again, not {cancelled} of {}",
            cut.len()
        ));
    }
}

/// Starts sending messages over one connection.
fn probe_messages(client: Client) -> Prober<Sent> {
    // Slower than the other prober: during a drain all messages are held, and an inbox has a limit.
    Prober::start(20 * PROBE_PAUSE, move |n| {
        let client = client.clone();
        async move {
            let text = format!("probe {n}");
            match client.say(PROBED, &text, None).await {
                Ok(posted) => Ok(Sent {
                    message: posted.message,
                    text,
                }),
                Err(refused) => Err(format!("{text}: {refused:?}")),
            }
        }
    })
}

/// Stops both probers, checks the messages that were sent, and returns a summary.
async fn check_probes(
    keeps: Prober<Sent>,
    opens: Prober<()>,
    client: &Client,
    account: &mut Account,
) -> String {
    let (keeps, opens) = (keeps.stop().await, opens.stop().await);
    account.take(client, PROBED, &keeps.answers).await;
    let failed = keeps.failed.len() + opens.failed.len();
    account.wrong.extend(keeps.failed);
    account.wrong.extend(opens.failed);
    format!(
        "{} messages on a kept connection, longest wait {} ms; {} requests on new connections, \
         longest wait {} ms; {failed} refused, reset or cut off",
        keeps.asked,
        keeps.longest.as_millis(),
        opens.asked,
        opens.longest.as_millis()
    )
}
