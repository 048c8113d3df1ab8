//! A new component that cannot carry sessions on: they stay on the one that they last ran on, in whatever
//! state the change meets them, and go on answering.

use std::fs;
use std::path::PathBuf;

use abide_tests::{How, until, variant};
use serde_json::{Value, json};

use super::approvals::asking;
use crate::stage::{Stage, acts};

/// The plugin `scripted` with a component that tests replace.
pub(super) struct Changing {
    pub(super) stage: Stage,
    path: PathBuf,
}

impl Changing {
    /// Starts with the variant `first`, past the probation of the first worker.
    pub(super) async fn start(first: &str, keys: &[&str]) -> Self {
        let changing = Self::on_probation(first, "100ms", keys).await;
        changing.stage.daemon.until_past_probation().await;
        changing
    }

    /// Like [`Self::start`], with further lines of `[daemon]`.
    pub(super) async fn with_daemon(first: &str, lines: &[&str]) -> Self {
        let mut lines: Vec<_> = lines.to_vec();
        lines.push("probation = \"100ms\"");
        let changing = Self::on(first, &lines, &[]).await;
        changing.stage.daemon.until_past_probation().await;
        changing
    }

    async fn on_probation(first: &str, probation: &str, keys: &[&str]) -> Self {
        Self::on(first, &[&format!("probation = \"{probation}\"")], keys).await
    }

    async fn on(first: &str, daemon: &[&str], keys: &[&str]) -> Self {
        let folder = tempfile::tempdir()
            .expect("a folder for temporary files")
            .keep();
        let path = folder.join("scripted.wasm");
        fs::write(&path, variant(first)).expect("the folder is ours");
        let at = path.clone();
        let stage = Stage::start(|mut setup| {
            let lines = daemon.iter().map(|&line| line.to_owned());
            setup.daemon.extend(lines);
            let is_budget = |line: &String| line.starts_with("trial_budget");
            if !setup.daemon.iter().any(is_budget) {
                // However busy the machine is, all sessions are tried.
                setup.daemon.push("trial_budget = \"60s\"".to_owned());
            }
            let plugin = setup.plugins.iter_mut().find(|it| it.name == "scripted");
            let plugin = plugin.expect("the stage has it");
            plugin.path = at;
            plugin.limits = keys.iter().map(|&key| key.to_owned()).collect();
            plugin.limits.push("compute = \"1s\"".to_owned());
            asking(setup.grace("30s"), "")
        })
        .await;
        Self { stage, path }
    }

    /// Has the plugin have this variant. Returns the generation that serves with it.
    pub(super) async fn change(&self, to: &str) -> u64 {
        self.replace(&variant(to)).await
    }

    pub(super) async fn replace(&self, component: &[u8]) -> u64 {
        let before = self.stage.daemon.generation().await;
        self.put(component);
        let generation = self.stage.daemon.after_generation(before).await;
        self.stage.daemon.keep_compiled();
        generation
    }

    /// Puts this component into the plugin's file.
    pub(super) fn put(&self, component: &[u8]) {
        self.stage.daemon.supply_compiled(component);
        let new = self.path.with_extension("new");
        fs::write(&new, component).expect("the folder is ours");
        fs::rename(&new, &self.path).expect("the folder is ours");
    }

    /// Performs a turn of a session. Returns the number of turns that the guest has counted.
    pub(super) async fn turn(&self, id: &str) -> String {
        let script = json!({"id": "x", "acts": []}).to_string();
        let posted = self.stage.client.chat(id, &script).await;
        posted.said().last().copied().unwrap_or_default().to_owned()
    }

    pub(super) async fn session(&self, id: &str) -> Value {
        self.stage.client.session(id).await
    }
}

/// Returns the end of a turn as [`Changing::turn`] has it.
pub(super) fn done(turn: u64) -> String {
    format!("done x #{turn}")
}

/// What becomes of sessions under a new component.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Then {
    GoOver,
    /// They stay on the component that they last ran on.
    Stay,
    /// The same, but for one that has no state to lose yet.
    StayWithState,
}

/// All sessions, each in another state, meet a change from the variant `from` to a component. Returns the
/// daemon, and how many turns those with a state have had.
pub(super) async fn whatever_they_were_doing(
    from: &str,
    to: &[u8],
    then: Then,
) -> (Changing, [(&'static str, u64); 4]) {
    let it = Changing::start(from, &[]).await;
    let client = &it.stage.client;
    let say = async |id: &str, script: Value| {
        let posted = client.say(id, &script.to_string(), None).await;
        posted.expect("it is acknowledged").message
    };
    for id in ["idle", "parked", "mid-turn", "timer"] {
        client.open(id, "scripted").await;
        assert_eq!(it.turn(id).await, done(1), "{id}");
    }
    let record = json!([{"act": "call", "tool": "record", "token": "asked"}]);
    say("parked", json!({"id": "x", "acts": record})).await;
    until("the call to wait for a human", async || {
        (it.session("parked").await["state"] == "parked").then_some(())
    })
    .await;
    let tick = json!({"id": "ticked", "acts": []});
    let timer = json!([{"act": "timer", "name": "tick", "after_ms": 2000, "script": tick}]);
    say("timer", json!({"id": "x", "acts": timer})).await;
    let note = json!([
        {"act": "call", "tool": "note", "token": "first", "sleep_after_ms": 4000},
        {"act": "call", "tool": "note", "token": "second"},
    ]);
    let open = say("mid-turn", json!({"id": "x", "acts": note})).await;
    let queued = say("mid-turn", json!({"id": "x", "acts": []})).await;
    it.stage.executed("first").await;

    let generation = it.replace(to).await;
    let events = client.events_once_ended("mid-turn", &queued).await;
    // The open turn ends on the component that began it, and the next one finds its state.
    let of_open = events
        .iter()
        .find(|event| event.ends(&open))
        .expect("both ended");
    let of_open: Vec<_> = events
        .iter()
        .filter(|it| it.turn == of_open.turn)
        .cloned()
        .collect();
    assert_eq!(acts(&of_open), ["call first ok", "call second ok"]);
    for id in ["s", "idle", "timer"] {
        client.until_idle(id).await;
    }
    until("the timer's turn", async || {
        (it.session("timer").await["turns"] == 3).then_some(())
    })
    .await;
    let expected = [("s", 1), ("idle", 2), ("mid-turn", 4), ("timer", 4)];
    for (id, turns) in expected {
        assert_eq!(it.turn(id).await, done(turns), "{id}");
    }
    let approve = json!({"decision": "approve"});
    let asked = client
        .get("/v1/approvals")
        .await
        .expect("an answer")
        .expect(200);
    let asked = asked["items"][0]["id"]
        .as_str()
        .expect("one waits")
        .to_owned();
    let decided = client.decide(&asked, &approve).await;
    decided.expect("an answer").expect(200);
    it.stage.executed("asked").await;
    client.until_idle("parked").await;
    assert_eq!(it.turn("parked").await, done(3));
    for (token, times) in [("first", 1), ("second", 1), ("asked", 1)] {
        assert_eq!(it.stage.executions(token).len(), times, "{token}");
    }

    let stays = |id: &str| match then {
        Then::GoOver => false,
        Then::Stay => true,
        Then::StayWithState => id != "s",
    };
    for id in ["s", "idle", "parked", "mid-turn", "timer"] {
        let session = it.session(id).await;
        assert_eq!(session["state"], "idle", "{session}");
        assert_eq!(session["dead"], 0, "{session}");
        let pinned = session.get("pinned").is_some();
        assert_eq!(pinned, stays(id), "{session}");
    }
    let record = it.stage.daemon.restart_record(generation).await;
    let record = record.expect("it is there");
    assert_eq!(record["relaunch"]["faulted"], 0, "{record}");
    // What became of them was foretold, but of those whose turn ended meanwhile.
    let trial = &record["trial"][0];
    assert_eq!(trial["sessions"], 5, "{record}");
    assert_eq!(trial["untried"], 0, "{record}");
    let foretold = trial["failed"].as_u64().zip(trial["suspect"].as_u64());
    let foretold = foretold.expect("counts");
    let staying = ["s", "idle", "parked", "mid-turn", "timer"];
    let staying = staying.into_iter().filter(|id| stays(id)).count();
    assert_eq!(foretold.0 + foretold.1, staying as u64, "{record}");
    // A worker that knows of it from the log goes on in the same way.
    it.stage.daemon.kill_worker().await;
    assert_eq!(it.turn("idle").await, done(3));
    let pinned = it.session("idle").await.get("pinned").is_some();
    assert_eq!(pinned, stays("idle"));
    (
        it,
        [("idle", 3), ("parked", 3), ("mid-turn", 4), ("timer", 4)],
    )
}

macro_rules! table {
    ($($name:ident: $from:literal, $to:expr, $then:ident;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                whatever_they_were_doing($from, &$to, Then::$then).await;
            }
        )*
    };
}

table! {
    a_component_that_only_adds_takes_them_over: "plain", variant("added"), GoOver;
    a_newer_schema_takes_them_over: "plain", variant("schema2"), GoOver;
    another_encoding_leaves_them_where_they_are: "plain", variant("retyped"), Stay;
    a_trap_in_restore_leaves_them_where_they_are: "plain", variant("trap"), Stay;
    a_restore_without_end_leaves_them_where_they_are: "plain", variant("loop"), Stay;
    more_memory_than_the_limit_leaves_them_where_they_are: "plain", variant("greedy"), Stay;
    an_older_schema_leaves_them_where_they_are: "schema2", variant("plain"), Stay;
    what_would_lose_their_state_leaves_them_where_they_are: "plain", variant("renamed"), StayWithState;
    what_forgets_leaves_them_where_they_are: "plain", variant("forgets"), Stay;
    a_large_component_takes_them_over: "plain", large("added"), GoOver;
}

/// Returns a variant with a custom section of 20 MB, which do not compress.
fn large(variant_name: &str) -> Vec<u8> {
    let mut component = variant(variant_name);
    let noise = (0..20_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8);
    let content: Vec<u8> = b"\x05noise".iter().copied().chain(noise).collect();
    component.push(0);
    let mut length = content.len();
    while length > 0x7f {
        component.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    component.push(length as u8);
    component.extend(content);
    component
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_a_newer_schema_goes_over_to_what_can_read_it() {
    let it = Changing::start("schema2", &[]).await;
    assert_eq!(it.turn("s").await, done(1));
    let newer = it.session("s").await["component"].clone();
    it.change("plain").await;
    assert_eq!(it.turn("s").await, done(2));
    let session = it.session("s").await;
    assert_eq!(session["component"], newer);
    let reason = session["pinned"]["reason"].as_str().expect("it is pinned");
    assert!(reason.contains("schema 2"), "{reason}");
    // Another component that can read it is tried at once.
    it.change("schema2").await;
    assert_eq!(it.turn("s").await, done(3));
    assert_eq!(it.session("s").await.get("pinned"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_components_are_gone_back_to_as_well() {
    let it = Changing::start("plain", &[]).await;
    it.replace(&large("plain")).await;
    assert_eq!(it.turn("s").await, done(1));
    assert_eq!(it.session("s").await.get("pinned"), None);
    it.change("trap").await;
    assert_eq!(it.turn("s").await, done(2));
    assert!(it.session("s").await.get("pinned").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_what_stays_and_end_it() {
    let it = Changing::start("plain", &[]).await;
    let (daemon, client) = (&it.stage.daemon, &it.stage.client);
    client.open("t", "scripted").await;
    assert_eq!((it.turn("s").await, it.turn("t").await), (done(1), done(1)));
    let old = it.session("s").await["component"]
        .as_str()
        .expect("a digest")
        .to_owned();
    it.change("retyped").await;
    assert_eq!((it.turn("s").await, it.turn("t").await), (done(2), done(2)));

    let shown = daemon.abide_says(&["sessions", "show", "s"]);
    for part in [&old[..12], "expected a string", "abide plugin adopt s"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let status = until("the census", async || {
        let status = daemon.status().await;
        let plugins = status["plugins"].as_array()?.iter();
        let plugin = plugins
            .clone()
            .find(|plugin| plugin["name"] == "scripted")?;
        (plugin["components"][0]["pinned"] == 2).then(|| plugin.clone())
    })
    .await;
    assert_eq!(status["components"][0]["digest"], old.as_str());
    let status = daemon.abide_says(&["status"]);
    assert!(
        status.contains("2 sessions of scripted on the older"),
        "{status}"
    );
    let listed = daemon.abide_says(&["sessions", "list", "--pinned"]);
    assert!(listed.contains('s') && listed.contains('t'), "{listed}");

    // It cannot be carried on yet.
    let refused = daemon.abide(&["plugin", "adopt", "s"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(text.contains("expected a string"), "{text}");
    assert_eq!(it.turn("s").await, done(3));

    // By force it is faulted, and has a way back.
    let forced = daemon.abide_says(&["plugin", "adopt", "s", "--force"]);
    assert!(forced.contains("faulted"), "{forced}");
    assert_eq!(it.session("s").await["state"], "faulted");
    let resumed = daemon.abide_says(&["resume", "s"]);
    assert!(resumed.contains("it goes on"), "{resumed}");
    assert_eq!(it.turn("s").await, done(4));
    assert!(it.session("s").await.get("pinned").is_some());

    let retired = daemon.abide_says(&["plugin", "retire", &old[..12]]);
    assert_eq!(retired.matches("faulted").count(), 2, "{retired}");
    assert_eq!(it.session("t").await["state"], "faulted");
    // A component that can carry them on ends that by itself.
    it.change("added").await;
    assert_eq!((it.turn("s").await, it.turn("t").await), (done(5), done(3)));
    let present = it.session("s").await["component"].clone();
    let present = present.as_str().expect("a digest");
    let refused = daemon.abide(&["plugin", "retire", &present[..12]]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("present component"), "{text}");
    let none = daemon.abide(&["plugin", "adopt", "s"]);
    let text = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(text.contains("nothing to adopt"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_settings_of_the_old_component_stay_but_for_what_was_taken_away() {
    let mut it = Changing::start("plain", &["steps = 1"]).await;
    assert_eq!(it.turn("s").await, done(1));
    let new = variant("trap");
    let path = it.path.clone();
    // One change: a new component, other limits, and no model any more.
    let before = it.stage.daemon.generation().await;
    it.stage.daemon.edit(How::Rename, |setup| {
        fs::write(path.with_extension("trap"), &new).expect("the folder is ours");
        let plugin = setup.plugins.iter_mut().find(|it| it.name == "scripted");
        let plugin = plugin.expect("the stage has it");
        plugin.path = path.with_extension("trap");
        plugin.limits = vec!["steps = 5".to_owned()];
        plugin.capabilities = vec!["tools = [\"t\", \"u\"]".to_owned()];
    });
    it.stage.daemon.after_generation(before).await;
    let denied = json!([{"act": "llm", "text": "hello"}]);
    let denied = it.stage.perform("denied", denied).await;
    assert_eq!(acts(&denied), ["llm  error:denied"]);
    let granted = json!([{"act": "call", "tool": "note", "token": "granted"}]);
    let granted = it.stage.perform("granted", granted).await;
    assert_eq!(acts(&granted), ["call granted ok"]);
    let twice = json!([
        {"act": "call", "tool": "note", "token": "once"},
        {"act": "call", "tool": "note", "token": "twice"},
    ]);
    let limited = it.stage.perform("limited", twice).await;
    let end = limited.last().and_then(|event| event.reason.clone());
    assert!(
        end.unwrap_or_default().contains("the 1 steps"),
        "{limited:?}"
    );
    assert_eq!(it.stage.executions("twice").len(), 0);
    assert!(it.session("s").await.get("pinned").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_over_a_new_limit_stays_where_it_fits() {
    let mut it = Changing::start("plain", &[]).await;
    let hold = json!([{"act": "hold", "bytes": 20_000}]);
    assert_eq!(acts(&it.stage.perform("m", hold).await), ["hold  ok"]);
    // One change: a new component, and the limit.
    let path = it.path.with_extension("added");
    fs::write(&path, variant("added")).expect("the folder is ours");
    let before = it.stage.daemon.generation().await;
    it.stage.daemon.edit(How::Rename, |setup| {
        let plugin = setup.plugins.iter_mut().find(|it| it.name == "scripted");
        let plugin = plugin.expect("the stage has it");
        plugin.path = path;
        plugin.limits = vec!["snapshot = \"10KiB\"".to_owned()];
    });
    it.stage.daemon.after_generation(before).await;
    assert_eq!(it.turn("s").await, done(2));
    let session = it.session("s").await;
    let reason = session["pinned"]["reason"].as_str().expect("it is pinned");
    assert!(reason.contains("limits.snapshot"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_probation_it_holds_without_being_recorded() {
    let it = Changing::on_probation("plain", "1h", &[]).await;
    assert_eq!(it.turn("s").await, done(1));
    it.change("retyped").await;
    assert_eq!(it.turn("s").await, done(2));
    let refused = it.stage.daemon.abide(&["plugin", "adopt", "s"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("probation"), "{text}");
    // The next worker finds it out again.
    it.stage.daemon.kill_worker().await;
    assert_eq!(it.turn("s").await, done(3));
    // Each worker says so, once more whenever the session was not in memory. The second one's
    // session may be back before that worker says that it serves: its death parts their lines.
    until("both workers to say that it is not recorded", async || {
        let log = it.stage.daemon.log();
        let (before, after) = log.split_once("died of SIGKILL")?;
        let said = |part: &str| part.contains("that is not recorded");
        (said(before) && said(after)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_of_a_bad_version_are_retried_together() {
    let it = Changing::start("plain", &[]).await;
    let (daemon, client) = (&it.stage.daemon, &it.stage.client);
    for id in ["a", "b"] {
        client.open(id, "scripted").await;
        for n in 0..2 {
            let script =
                json!({"id": format!("{id}{n}"), "acts": [{"act": "fail", "reason": "not today"}]});
            let failed = client.ask(id, &script.to_string(), None).await;
            assert_eq!(failed.expect("accepted").outcome.as_deref(), Some("failed"));
        }
    }
    client.open("other", "hostile").await;
    let failed = client.ask("other", "trap", None).await;
    assert_eq!(failed.expect("accepted").outcome.as_deref(), Some("failed"));

    let listed = daemon.abide_says(&["sessions", "dead", "--plugin", "scripted"]);
    let lines = listed.lines().filter(|line| line.contains("not today"));
    assert_eq!(lines.count(), 4, "{listed}");
    let page = client
        .get("/v1/dead?limit=3")
        .await
        .expect("an answer")
        .expect(200);
    let next = page["next"].as_str().expect("there is more").to_owned();
    assert_eq!(page["items"].as_array().map(Vec::len), Some(3));
    let rest = client.get(&format!("/v1/dead?limit=3&after={next}")).await;
    let rest = rest.expect("an answer").expect(200);
    assert_eq!(rest["items"].as_array().map(Vec::len), Some(2), "{rest}");
    assert_eq!(rest["next"], Value::Null);
    until("the status to count them", async || {
        (daemon.status().await["dead_letters"] == 5).then_some(())
    })
    .await;

    let retried = daemon.abide_says(&["sessions", "retry", "--all", "--plugin", "scripted"]);
    assert_eq!(retried.matches("is queued again").count(), 4, "{retried}");
    let later = daemon.abide_says(&[
        "sessions", "retry", "--all", "--since", "1ms", "--plugin", "echo",
    ]);
    assert!(later.contains("no dead letters"), "{later}");
}
