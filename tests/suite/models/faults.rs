//! Model providers that fail in every way: a transient failure is retried, any other ends the turn
//! with a reason that a human understands, and no output is duplicated.

use std::fs;
use std::time::Duration;

use abide_tests::{
    ANSWER_TOKENS, CallState, Daemon, FakeModel, How, ModelFault, PROMPT_TOKENS, Plugin, Setup,
    Subscriber, tool_server, until,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::models::assistant::{ask, assistant_daemon, last_failure};

const KEY: &str = "sk-very-secret";

fn said_by_server(status: u16, error: Value) -> ModelFault {
    ModelFault::Status {
        status,
        retry_after: None,
        body: json!({ "error": error }),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_pass_is_asked_again_and_said_once() {
    let model = FakeModel::start().await;
    let daemon = assistant_daemon(model.base_url(), "retries = 1\nidle_timeout = \"2s\"").await;
    let client = daemon.client();
    let subscriber = Subscriber::follow(&client, "s");
    let faults = [
        ModelFault::busy("0"),
        ModelFault::status(500),
        ModelFault::status(503),
        ModelFault::status(408),
        ModelFault::Cut,
        ModelFault::Stall,
        ModelFault::Malformed,
        ModelFault::Told,
        ModelFault::Unfinished,
    ];
    for (n, fault) in faults.into_iter().enumerate() {
        let text = format!("hello {n} there");
        model.fail([fault.clone()]);
        let posted = ask(&client, &text).await;
        assert_eq!(posted.outcome.as_deref(), Some("completed"), "{fault:?}");
        assert_eq!(model.calls_about(&text).len(), 2, "{fault:?}");
    }
    let events = client.events("s", 0).await;
    let answers = events.iter().filter(|event| event.is_from("assistant"));
    let answers: Vec<&str> = answers.map(|event| event.said()).collect();
    let expected: Vec<String> = (0..9).map(|n| format!("re: hello {n} there")).collect();
    assert_eq!(answers, expected);
    assert!(!events.iter().any(|event| event.is_turn("failed")));
    // The deltas of the broken answers are distinguished from those of the final one.
    until("the deltas", async || {
        let whole = "Well,re: hello 8 there";
        (subscriber.streamed(9) == whole).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_is_asked_for_is_kept_also_over_a_restart() {
    let model = FakeModel::start().await;
    let mut daemon = assistant_daemon(model.base_url(), "retries = 1").await;
    let client = daemon.client();
    model.fail([ModelFault::busy("1")]);
    ask(&client, "patience").await;
    let calls = model.calls_about("patience");
    assert_eq!(calls.len(), 2);
    let pause = calls[1].at - calls[0].at;
    assert!(pause >= Duration::from_secs(1), "{pause:?}");

    // A restart does not wait for the pause to end: the new worker sends the request again.
    model.fail([ModelFault::busy("50")]);
    let message = client.say("s", "tomorrow", None).await;
    let message = message.expect("acknowledged").message;
    model.wait_for("tomorrow", CallState::Answered, 1).await;
    let old = daemon.generation().await;
    daemon.edit(How::Rename, |setup| {
        setup.grace = "100ms".to_owned();
        setup.spare += 1;
    });
    daemon.after_generation(old).await;
    let events = client.events_once_ended("s", &message).await;
    let answers = events.iter().filter(|e| e.said().ends_with("tomorrow"));
    assert_eq!(answers.filter(|e| e.is_from("assistant")).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_pass_ends_the_turn_in_words_and_the_session_goes_on() {
    let model = FakeModel::start().await;
    let lines = "retries = 0\nidle_timeout = \"2s\"\napi_key_file = \"key\"";
    let setup = Setup {
        rest: vec![lines.to_owned()],
        ..Setup::default().assistant(&model)
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("key"), KEY).expect("the folder is ours");
    let daemon = Daemon::start_in(folder, setup).await;
    let client = daemon.client();
    client.open("s", "assistant").await;
    let key = format!("bad key {KEY}");
    let cases = [
        (ModelFault::busy("0"), "takes no more requests now (429"),
        (ModelFault::busy("3600"), "to be left alone for 1h"),
        (
            said_by_server(429, json!({"message": "pay", "code": "insufficient_quota"})),
            "of this account (429",
        ),
        (ModelFault::status(500), "failed (500"),
        (ModelFault::Cut, "broke"),
        (ModelFault::Stall, "said nothing for 2s"),
        (ModelFault::Malformed, "malformed answer"),
        (ModelFault::Told, "out of memory"),
        (ModelFault::Unfinished, "before it was complete"),
        (
            said_by_server(401, json!({ "message": key.clone() })),
            "llm.local.api_key_env",
        ),
        (
            said_by_server(403, json!({ "message": key.clone() })),
            "bad key [API key]",
        ),
        (
            said_by_server(404, json!({"message": "no model fake"})),
            "no model fake; check `llm.local.model`",
        ),
        (
            said_by_server(400, json!({"message": "temperature is too high"})),
            "temperature is too high",
        ),
        (
            ModelFault::Status {
                status: 502,
                retry_after: None,
                body: json!(format!("<html>{key}</html>")),
            },
            "is not there now (502",
        ),
    ];
    for (n, (fault, expected)) in cases.into_iter().enumerate() {
        model.fail([fault.clone()]);
        let posted = ask(&client, &format!("case {n}")).await;
        assert_eq!(posted.outcome.as_deref(), Some("failed"), "{fault:?}");
        let reason = last_failure(&client).await;
        assert!(reason.contains(expected), "{fault:?}: {reason}");
        assert!(!reason.contains(KEY), "{reason}");
        let after = client.chat("s", &format!("after {n}")).await;
        assert_eq!(after.outcome.as_deref(), Some("completed"), "{fault:?}");
    }
    let session = client.session("s").await;
    assert_eq!(
        (&session["turns"], &session["dead"]),
        (&json!(14), &json!(14))
    );
    let dead = format!("{:?}", client.dead_letters("s").await);
    for output in [
        daemon.log(),
        dead,
        format!("{:?}", client.events("s", 0).await),
    ] {
        assert!(!output.contains(KEY), "{output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_answers_where_the_first_does_not() {
    let (first, second) = (FakeModel::start().await, FakeModel::start().await);
    let lines = format!(
        "retries = 0\nidle_timeout = \"2s\"\nfallback = \"spare\"\n\
         [llm.spare]\nbase_url = \"{}\"\nmodel = \"other\"\nretries = 0",
        second.base_url()
    );
    let daemon = assistant_daemon(first.base_url(), &lines).await;
    let client = daemon.client();
    let faults = [
        ModelFault::status(500),
        ModelFault::busy("3600"),
        ModelFault::Stall,
        ModelFault::Cut,
        said_by_server(401, json!({"message": "who are you"})),
        said_by_server(404, json!({"message": "no such model"})),
        // One provider may accept what another refuses.
        ModelFault::status(400),
    ];
    for (n, fault) in faults.into_iter().enumerate() {
        let text = format!("case {n}");
        first.fail([fault.clone()]);
        client.chat("s", &text).await;
        let (here, there) = (first.calls_about(&text), second.calls_about(&text));
        assert_eq!((here.len(), there.len()), (1, 1), "{fault:?}");
        assert_eq!(there[0].request["model"], "other");
    }
    // A request that is too large is shortened, and not sent to the fallback.
    let long = json!({"message": "prompt is too long: 9 tokens > 8 maximum"});
    first.fail([said_by_server(400, long)]);
    ask(&client, "at length").await;
    assert_eq!(second.calls_about("at length").len(), 0);
    // Once the first provider works again, it is used.
    client.chat("s", "back").await;
    assert_eq!(second.calls_about("back").len(), 0);

    first.fail([ModelFault::status(500)]);
    second.fail([said_by_server(401, json!("no"))]);
    ask(&client, "both").await;
    let reason = last_failure(&client).await;
    for part in [
        "cannot be reached now",
        "`local`",
        "500",
        "`spare`",
        "api_key_env",
    ] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    let metrics = client.get("/metrics").await.expect("an answer").body;
    let metrics = metrics.as_str().expect("text");
    for line in [
        "abide_llm_requests_total{provider=\"local\",outcome=\"unavailable\"}",
        "abide_llm_requests_total{provider=\"spare\",outcome=\"ok\"} 7",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_models_cost_is_counted_by_turn_and_session_over_restarts() {
    let model = FakeModel::start().await;
    let mut daemon = assistant_daemon(model.base_url(), "retries = 1").await;
    let client = daemon.client();
    client.chat("s", "one").await;
    // The answer that broke off is not counted: its cost was never reported.
    model.fail([ModelFault::Cut]);
    client.chat("s", "two").await;
    daemon.restart_by_edit().await;
    client.chat("s", "three").await;
    let one = json!({
        "answers": 1, "input_tokens": PROMPT_TOKENS, "output_tokens": ANSWER_TOKENS,
    });
    let all = json!({
        "answers": 3, "input_tokens": 3 * PROMPT_TOKENS, "output_tokens": 3 * ANSWER_TOKENS,
    });
    assert_eq!(client.session("s").await["usage"], all);
    let events = client.events("s", 0).await;
    let ends = events.iter().filter(|event| event.is_turn("completed"));
    let costs: Vec<&Value> = ends.filter_map(|event| event.usage.as_ref()).collect();
    assert_eq!(costs, [&one, &one, &one]);

    let mut body = json!({
        "model": "assistant", "user": "s", "messages": [{"role": "user", "content": "four"}],
    });
    let cost = json!({
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": ANSWER_TOKENS,
        "total_tokens": PROMPT_TOKENS + ANSWER_TOKENS,
    });
    let path = "/v1/chat/completions";
    let answer = client.post(path, &body).await.expect("an answer");
    assert_eq!(answer.expect(200)["usage"], cost);
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let request = client.request(Method::POST, path).json(&body);
    let streamed = client.send(request).await.expect("an answer").body;
    let streamed = streamed.as_str().expect("a stream").to_owned();
    let data: Vec<&str> = streamed
        .lines()
        .filter_map(|l| l.strip_prefix("data: "))
        .collect();
    let [.., last, "[DONE]"] = data.as_slice() else {
        panic!("{streamed}");
    };
    let last: Value = serde_json::from_str(last).expect("JSON");
    assert_eq!((&last["usage"], &last["choices"]), (&cost, &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_with_broken_arguments_is_not_made_and_the_model_is_told() {
    let model = FakeModel::start().await;
    let world = tempfile::tempdir().expect("a temporary folder");
    let log = world.path().join("log");
    let mut setup = Setup {
        model: Some(model.base_url()),
        ..Setup::default()
    };
    setup
        .plugins
        .push(Plugin::new("assistant").with_model_and_tools());
    let setup = setup.recording_tools(&tool_server(), &log);
    let daemon = Daemon::start(setup).await;
    let client = daemon.client();
    client.open("s", "assistant").await;
    for (n, (arguments, finish)) in [
        ("{\"token\": \"a", "tool_calls"),
        ("{\"token\": \"b", "length"),
        ("[1, 2]", "tool_calls"),
        ("\u{0}", "stop"),
    ]
    .into_iter()
    .enumerate()
    {
        let text = format!("case {n}");
        model.fail([ModelFault::Call {
            name: "t__record".to_owned(),
            arguments: arguments.to_owned(),
            finish: finish.to_owned(),
        }]);
        client.chat("s", &text).await;
        let calls = model.calls();
        let result = calls.last().expect("it was asked").last();
        assert!(result.starts_with("tool: "), "{arguments}: {result}");
    }
    assert!(fs::read_to_string(&log).unwrap_or_default().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_that_outgrows_the_window_goes_on_and_the_model_is_told() {
    let model = FakeModel::start().await;
    // Detected by the host's own estimate, and by the provider's reply.
    let daemon = assistant_daemon(model.base_url(), "context_tokens = 600").await;
    let client = daemon.client();
    for n in 0..12 {
        client
            .chat("s", &format!("{n} {}", "word ".repeat(60)))
            .await;
    }
    let calls = model.calls();
    assert_eq!(calls.len(), 12, "what is too much is not sent");
    let first = &calls.last().expect("there are some").messages[0];
    assert!(first.contains("earlier exchanges were dropped"), "{first}");
    let code = json!({"message": "too long", "code": "context_length_exceeded"});
    model.fail([said_by_server(400, code.clone())]);
    client.chat("s", "the provider is stricter").await;
    let calls = model.calls();
    let [.., refused, answered] = calls.as_slice() else {
        panic!("two calls: {calls:?}");
    };
    assert!(answered.messages.len() < refused.messages.len());
    // One message that is too large by itself.
    let posted = ask(&client, &"x".repeat(4000)).await;
    assert_eq!(posted.outcome.as_deref(), Some("failed"));
    let reason = last_failure(&client).await;
    assert!(reason.contains("context window"), "{reason}");
    client.chat("s", "and on").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_cut_is_known_to_clients_and_to_the_model() {
    let model = FakeModel::start().await;
    let daemon = assistant_daemon(model.base_url(), "retries = 0").await;
    let client = daemon.client();
    let body = |text: &str| {
        json!({
            "model": "assistant", "user": "s", "messages": [{"role": "user", "content": text}],
        })
    };
    let path = "/v1/chat/completions";
    model.fail([ModelFault::Length]);
    let cut = client.post(path, &body("tell me")).await;
    let cut = cut.expect("an answer").expect(200);
    assert_eq!(cut["choices"][0]["finish_reason"], "length");
    assert_eq!(cut["choices"][0]["message"]["content"], "Well,");
    let events = client.events("s", 0).await;
    let notice = events
        .iter()
        .find(|e| e.name.as_deref() == Some("truncated"));
    assert_eq!(
        notice.and_then(|event| event.data.clone()),
        Some(json!({"reason": "max_tokens"}))
    );
    let whole = client.post(path, &body("go on")).await;
    let whole = whole.expect("an answer").expect(200);
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    let asked = model.calls_about("go on").remove(0).messages.join("\n");
    assert!(asked.contains("was cut at the token limit"), "{asked}");
}
