//! OpenAI's clients: a plugin is a model, a session continues over restarts, and the clients'
//! automatic retries are deduplicated.

use abide_tests::{CallState, Client, Daemon, FakeModel, How, Reply, Setup, until};
use reqwest::Method;
use serde_json::{Value, json};

const PATH: &str = "/v1/chat/completions";

/// Sends a request as OpenAI's libraries do; `retry` is the number of the automatic retry.
async fn complete(client: &Client, body: &Value, retry: u32) -> Reply {
    let request = client
        .request(Method::POST, PATH)
        .header("authorization", "Bearer none")
        .header("x-stainless-retry-count", retry.to_string())
        .json(body);
    client.send(request).await.expect("an answer")
}

fn say(model: &str, session: &str, text: &str) -> Value {
    json!({
        "model": model,
        "user": session,
        "temperature": 0.2,
        "messages": [
            {"role": "system", "content": "ignored"},
            {"role": "user", "content": text},
        ],
    })
}

fn content(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"]
        .as_str()
        .unwrap_or_else(|| panic!("an answer has content: {answer}"))
}

/// Returns the chunks of a stream, which must end as OpenAI's streams do.
fn chunks(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.content_type, "text/event-stream", "{reply:?}");
    let text = reply.body.as_str().expect("no JSON");
    let mut data: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .collect();
    assert_eq!(data.pop(), Some("[DONE]"), "{text}");
    let chunks = data.into_iter();
    chunks
        .map(|data| serde_json::from_str(data).expect("JSON"))
        .collect()
}

fn streamed(chunks: &[Value]) -> Vec<&str> {
    let texts = chunks.iter();
    texts
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .filter(|text| !text.is_empty())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_a_model_and_a_session_goes_on() {
    let mut daemon = Daemon::start(Setup::default()).await;
    let client = daemon.client();
    let models = client.get("/v1/models").await.expect("an answer");
    assert_eq!(models.expect(200)["data"][0]["id"], "echo");
    let model = client.get("/v1/models/echo").await.expect("an answer");
    assert_eq!(model.expect(200)["object"], "model");

    let first = complete(&client, &say("echo", "s", "hi"), 0).await;
    let first = first.expect(200);
    assert_eq!(first["object"], "chat.completion");
    assert_eq!(first["choices"][0]["finish_reason"], "stop");
    assert_eq!(content(&first), "#1 user: hi");
    daemon.restart_by_edit().await;
    // The header takes precedence; only the last message is new.
    let request = client
        .request(Method::POST, PATH)
        .header("x-abide-session", "s")
        .json(&say("echo", "other", "ho"));
    let second = client.send(request).await.expect("an answer").expect(200);
    assert!(content(&second).ends_with("#2 user: ho"), "{second}");
    assert_eq!(client.session("s").await["turns"], 2);
    // A history that exceeds the maximum size of a message.
    let mut long = say("echo", "s", "hu");
    let turn = json!({"role": "assistant", "content": "x".repeat(1 << 20)});
    let messages = long["messages"].as_array_mut().expect("messages");
    messages.splice(0..0, std::iter::repeat_n(turn, 8));
    assert_eq!(
        content(&complete(&client, &long, 0).await.expect(200)),
        "#3 user: hu"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_library_repeats_is_done_once() {
    let daemon = Daemon::start(Setup::default()).await;
    let client = daemon.client();
    let hi = say("echo", "s", "hi");
    let first = complete(&client, &hi, 0).await.expect(200);
    let again = complete(&client, &hi, 1).await.expect(200);
    assert_eq!(
        (&first["id"], content(&first)),
        (&again["id"], content(&again))
    );
    assert_eq!(client.session("s").await["turns"], 1);
    // Sent again by a human, it is another message.
    let third = complete(&client, &hi, 0).await.expect(200);
    assert_eq!(content(&third), "#2 user: hi");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_answer_is_the_output_also_over_a_restart() {
    let model = FakeModel::start().await;
    let mut daemon = Daemon::start(Setup::default().assistant(&model)).await;
    let client = daemon.client();
    let mut body = say("assistant", "s", "[pace=100] one two three four five six");
    body["stream"] = json!(true);
    let asked = {
        let (client, body) = (client.clone(), body.clone());
        tokio::spawn(async move { complete(&client, &body, 0).await })
    };
    model.wait_for("one two", CallState::Running, 1).await;
    let old = daemon.generation().await;
    daemon.edit(How::Rename, |setup| setup.spare += 1);
    let reply = asked.await.expect("no panic");
    let chunks = chunks(&reply);
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let texts = streamed(&chunks);
    assert!(texts.len() > 2, "{texts:?}");
    daemon.after_generation(old).await;
    let events = client.events("s", 0).await;
    let answer = events.iter().find(|event| event.is_from("assistant"));
    assert_eq!(texts.concat(), answer.expect("an answer").said());
    assert_eq!(model.count("one two", CallState::Answered), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_cuts_a_waiting_request_is_told_so_that_it_is_repeated() {
    let model = FakeModel::start().await;
    let setup = Setup::default().assistant(&model).grace("100ms");
    let mut daemon = Daemon::start(setup).await;
    let client = daemon.client();
    let body = say("assistant", "s", "[hold=h] wait for me");
    let asked = {
        let (client, body) = (client.clone(), body.clone());
        tokio::spawn(async move { complete(&client, &body, 0).await })
    };
    model.wait_for("wait for me", CallState::Running, 1).await;
    let old = daemon.generation().await;
    daemon.edit(How::Rename, |setup| setup.spare += 1);
    let cut = asked.await.expect("no panic").expect(503);
    assert_eq!(cut["error"]["code"], "restarting", "{cut}");
    daemon.after_generation(old).await;
    let again = {
        let (client, body) = (client.clone(), body.clone());
        tokio::spawn(async move { complete(&client, &body, 1).await })
    };
    until("the call to be made again", async || {
        (model.calls_about("wait for me").len() >= 2).then_some(())
    })
    .await;
    model.release("h");
    let answer = again.await.expect("no panic").expect(200);
    assert!(content(&answer).contains("wait for me"), "{answer}");
    assert_eq!(client.session("s").await["turns"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_told_in_their_shape() {
    let model = FakeModel::start().await;
    let daemon = Daemon::start(Setup::default().assistant(&model)).await;
    let client = daemon.client();
    complete(&client, &say("echo", "s", "hi"), 0)
        .await
        .expect(200);
    let nameless = json!({"model": "echo", "messages": [{"role": "user", "content": "hi"}]});
    let mut several = say("echo", "s", "hi");
    several["n"] = json!(2);
    for (body, status, expected) in [
        (nameless, 400, "X-Abide-Session"),
        (several, 400, "`n`"),
        (say("nobody", "t", "hi"), 422, "`nobody`"),
        (say("assistant", "s", "hi"), 409, "plugin"),
        (say("assistant", "u", "[status=400] no"), 422, "failed"),
    ] {
        let reply = complete(&client, &body, 0).await;
        let error = reply.expect(status);
        let text = error["error"]["message"].as_str().unwrap_or_default();
        assert!(text.contains(expected), "{error}");
    }
}
