//! Refusals of real model servers in their own words: a request that is too large is shortened
//! whatever the error is called, an error within an answer counts as its status, a server that is
//! starting is waited for, and a fallback is used where the first provider refuses. After each case
//! the session answers "hello".

use std::time::{Duration, Instant};

use abide_tests::raw_model::{DONE, delta, finish, text};
use abide_tests::{RawAnswer, RawModel, free_port};
use serde_json::{Value, json};

use crate::models::assistant::{ask, assistant_daemon, last_failure};

fn said(status: u16, error: Value) -> RawAnswer {
    RawAnswer::json(status, &json!({ "error": error }))
}

fn ok() -> RawAnswer {
    RawAnswer::sse([text("ok"), finish("stop"), DONE.to_owned()])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_shortened_whatever_it_is_called() {
    let model = RawModel::start().await;
    let daemon = assistant_daemon(model.base_url(), "retries = 0").await;
    let client = daemon.client();
    let page = "<html><h1>413 Request Entity Too Large</h1></html>";
    let rate = json!({"code": "rate_limit_exceeded", "message": "Request too large for model on tokens per minute (TPM): Limit 6000"});
    let message = |status: u16, text: &str| said(status, json!({ "message": text }));
    let within = |code: Value| {
        let error = json!({"code": code, "message": "This endpoint's maximum context length is 8192 tokens."});
        RawAnswer::sse([
            text("half"),
            json!({"choices": [], "error": error}).to_string(),
        ])
    };
    let refusals = [
        RawAnswer::new(413)
            .header("content-type", "text/html")
            .bytes(page),
        RawAnswer::new(413),
        said(413, rate),
        message(
            413,
            "Request body too large for gpt-4o model. Max size: 8000 tokens.",
        ),
        message(
            400,
            "Please reduce the length of the messages or completion.",
        ),
        message(
            400,
            "The number of tokens to keep from the initial prompt is greater than the context length",
        ),
        message(
            400,
            "prompt token count of 130000 exceeds the limit of 128000",
        ),
        message(400, "Input is too long for requested model."),
        message(
            400,
            "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
        ),
        message(
            400,
            "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
        ),
        RawAnswer::json(
            422,
            &json!({"error": "`inputs` tokens + `max_new_tokens` must be <= 8192. Given: 9000 `inputs` tokens", "error_type": "validation"}),
        ),
        within(json!(400)),
        within(json!("400")),
        within(Value::Null),
        said(
            200,
            json!({"code": 400, "message": "maximum context length is 8192 tokens"}),
        ),
    ];
    for (n, refusal) in refusals.into_iter().enumerate() {
        let (session, case) = (format!("s{n}"), format!("case {n}"));
        client.open(&session, "assistant").await;
        // Earlier turns, so that the conversation can be shortened.
        for before in 0..3 {
            client.chat(&session, &format!("long {before}")).await;
        }
        model.script([refusal.clone()]);
        let posted = client.chat(&session, &case).await;
        assert_eq!(
            posted.said().last(),
            Some(&format!("re: {case}").as_str()),
            "{refusal:?}"
        );
        let requests = model.requests_about(&case);
        let [refused, answered] = requests.as_slice() else {
            panic!("{refusal:?}: {} requests", requests.len());
        };
        assert!(
            answered.messages().len() < refused.messages().len(),
            "{refusal:?}"
        );
        let hello = client.chat(&session, "hello").await;
        assert_eq!(hello.said(), ["re: hello"], "{refusal:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_within_an_answer_counts_as_its_status() {
    let model = RawModel::start().await;
    let daemon = assistant_daemon(model.base_url(), "retries = 1").await;
    let client = daemon.client();
    let within = |error: Value| {
        RawAnswer::sse([
            text("half"),
            json!({"choices": [], "error": error}).to_string(),
        ])
    };
    for (case, error, expected) in [
        (
            "a key",
            json!({"code": 401, "message": "who"}),
            "llm.local.api_key_env",
        ),
        (
            "a schema",
            json!({"code": 400, "message": "bad schema"}),
            "bad schema",
        ),
        (
            "a status as a text",
            json!({"status": "400", "message": "bad schema"}),
            "refused the request (400",
        ),
        (
            "no money",
            json!({"code": "402", "message": "pay"}),
            "wants to be paid first",
        ),
        (
            "nested",
            json!({"message": "x", "error": {"code": 404}}),
            "check `llm.local.model`",
        ),
    ] {
        for (kind, answer) in [
            ("an event", within(error.clone())),
            ("a document", said(200, error)),
        ] {
            let case = format!("{case} in {kind}");
            model.script([answer]);
            let posted = ask(&client, &case).await;
            assert_eq!(posted.outcome.as_deref(), Some("failed"), "{case}");
            let reason = last_failure(&client).await;
            assert!(reason.contains(expected), "{case}: {reason}");
            assert_eq!(model.requests_about(&case).len(), 1, "{case}");
            assert_eq!(client.chat("s", "hello").await.said(), ["re: hello"]);
        }
    }
    // A transient error is retried.
    for (case, error) in [
        ("overloaded", json!({"code": 503, "message": "busy"})),
        (
            "a provider's",
            json!({"code": "502", "message": "Provider returned error"}),
        ),
        ("no code", json!({"message": "out of memory"})),
        ("a mere word", json!("out of memory")),
    ] {
        model.script([within(error), ok()]);
        assert_eq!(client.chat("s", case).await.said(), ["ok"], "{case}");
        assert_eq!(model.requests_about(case).len(), 2, "{case}");
        assert_eq!(client.chat("s", "hello").await.said(), ["re: hello"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_model_did_wrong_is_asked_again() {
    let model = RawModel::start().await;
    let daemon = assistant_daemon(model.base_url(), "retries = 1").await;
    let client = daemon.client();
    for (case, error) in [
        (
            "groq",
            json!({"code": "tool_use_failed", "message": "Failed to call a function.", "failed_generation": "<function=x"}),
        ),
        (
            "gemini",
            json!({"code": "malformed_function_call", "message": "Malformed function call"}),
        ),
    ] {
        model.script([said(400, error), ok()]);
        assert_eq!(client.chat("s", case).await.said(), ["ok"], "{case}");
        assert_eq!(model.requests_about(case).len(), 2, "{case}");
        assert_eq!(client.chat("s", "hello").await.said(), ["re: hello"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_answers_what_the_first_provider_refuses_or_does_not_say() {
    let (first, second) = (RawModel::start().await, RawModel::start().await);
    let lines = format!(
        "retries = 0\nfallback = \"spare\"\n[llm.spare]\nbase_url = \"{}\"\nmodel = \"other\"\nretries = 0",
        second.base_url()
    );
    let daemon = assistant_daemon(first.base_url(), &lines).await;
    let client = daemon.client();
    let loading = json!({"code": 503, "message": "Loading model", "type": "unavailable_error"});
    let unprocessable = json!({"detail": [{"loc": ["body"], "msg": "no"}]});
    let nothing = || RawAnswer::sse([finish("stop"), DONE.to_owned()]);
    for (case, answer) in [
        (
            "a refusal",
            said(400, json!({"message": "I do not like it"})),
        ),
        ("a validator", RawAnswer::json(422, &unprocessable)),
        (
            "a refusal within",
            RawAnswer::sse([json!({"error": {"code": 400, "message": "no"}}).to_string()]),
        ),
        ("nothing said", nothing()),
        (
            "a malformed call",
            RawAnswer::sse([finish("malformed_function_call")]),
        ),
        ("loading", said(503, loading)),
        (
            "an error for a reason",
            RawAnswer::sse([text("half"), finish("error")]),
        ),
    ] {
        first.script([answer]);
        let posted = client.chat("s", case).await;
        assert_eq!(posted.said(), [format!("re: {case}")]);
        let asked = (
            first.requests_about(case).len(),
            second.requests_about(case).len(),
        );
        assert_eq!(asked, (1, 1), "{case}");
        assert_eq!(client.chat("s", "hello").await.said(), ["re: hello"]);
    }
    // If both providers refuse the request, the request is at fault.
    let no = |text: &str| said(400, json!({ "message": text }));
    first.script([no("no here")]);
    second.script([no("no there")]);
    let posted = ask(&client, "both").await;
    assert_eq!(posted.outcome.as_deref(), Some("failed"));
    let reason = last_failure(&client).await;
    assert!(
        reason.contains("no here") && reason.contains("no there"),
        "{reason}"
    );
    assert_eq!(client.chat("s", "hello").await.said(), ["re: hello"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_is_waited_for() {
    let model = RawModel::start().await;
    let daemon = assistant_daemon(model.base_url(), "retries = 2").await;
    let client = daemon.client();
    // More refusals than `retries` allows, for about six seconds.
    let loading = json!({"code": 503, "message": "Loading model", "type": "unavailable_error"});
    model.script(vec![said(503, loading); 5]);
    let begun = Instant::now();
    assert_eq!(client.chat("s", "load").await.said(), ["re: load"]);
    assert!(
        begun.elapsed() > Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(model.requests_about("load").len(), 6);
    // A plain overload uses up its retries, and no more.
    model.script(vec![said(503, json!({"message": "overloaded"})); 3]);
    let posted = ask(&client, "overload").await;
    assert_eq!(posted.outcome.as_deref(), Some("failed"));
    assert_eq!(model.requests_about("overload").len(), 3);
    assert_eq!(client.chat("s", "hello").await.said(), ["re: hello"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_yet_is_waited_for() {
    let port = free_port();
    let daemon = assistant_daemon(format!("http://127.0.0.1:{port}/v1"), "retries = 2").await;
    let client = daemon.client();
    let asked = tokio::spawn({
        let client = client.clone();
        async move { client.chat("s", "anybody?").await }
    });
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(!asked.is_finished(), "retries alone would be over");
    let _model = RawModel::start_on(port).await;
    let posted = asked.await.expect("no panic");
    assert_eq!(posted.said(), ["re: anybody?"]);
    assert_eq!(client.chat("s", "hello").await.said(), ["re: hello"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_in_the_body_is_kept() {
    let model = RawModel::start().await;
    let daemon = assistant_daemon(model.base_url(), "retries = 1").await;
    let client = daemon.client();
    let google = json!([{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow down",
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2s"}]}}]);
    let groq = json!({"error": {"message": "Rate limit reached. Please try again in 1.5s.", "code": "rate_limit_exceeded"}});
    let within = json!({"error": {"code": 429, "message": "retry after 1 second"}});
    for (case, answer, least) in [
        ("google", RawAnswer::json(429, &google), 2000),
        ("groq", RawAnswer::json(429, &groq), 1500),
        ("within", RawAnswer::sse([within.to_string()]), 1000),
        (
            "header",
            RawAnswer::json(429, &groq).header("retry-after", "1"),
            1000,
        ),
    ] {
        model.script([answer, ok()]);
        assert_eq!(client.chat("s", case).await.said(), ["ok"], "{case}");
        let requests = model.requests_about(case);
        let pause = requests[1].at - requests[0].at;
        let least = Duration::from_millis(least);
        assert!(
            pause >= least && pause < least + Duration::from_secs(2),
            "{case}: {pause:?}"
        );
        assert_eq!(client.chat("s", "hello").await.said(), ["re: hello"]);
    }
    // A pause that is too long to wait for is reported.
    let long = json!({"message": "Please try again in 1h2m"});
    model.script([said(429, long)]);
    ask(&client, "long").await;
    let reason = last_failure(&client).await;
    assert!(reason.contains("to be left alone for 1h 2m"), "{reason}");
    // Reasoning counts as progress, but is no answer.
    let thoughts = RawAnswer::sse([delta(json!({"reasoning_content": "hm"})), finish("stop")]);
    model.script([thoughts, ok()]);
    assert_eq!(client.chat("s", "thoughts").await.said(), ["ok"]);
    assert_eq!(client.chat("s", "hello").await.said(), ["re: hello"]);
}
