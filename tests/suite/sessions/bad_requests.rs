//! Nonsensical requests receive a problem document with the correct status.

use std::io::{Read as _, Write as _};

use abide_tests::{CallState, Client, Daemon, FakeModel, Plugin, Refused, Reply, Setup};
use reqwest::{Method, header};
use serde_json::{Value, json};

async fn daemon() -> (Daemon, Client) {
    let setup = Setup::default().plugin(Plugin {
        name: "small".to_owned(),
        ..Plugin::new("echo")
            .limit("message = \"1KiB\"")
            .limit("args = \"100B\"")
    });
    let daemon = Daemon::start(setup).await;
    let client = daemon.client();
    client.open("s", "echo").await;
    (daemon, client)
}

async fn call(client: &Client, method: Method, path: &str, body: Option<&str>) -> Reply {
    let mut request = client.request(method, path);
    if let Some(body) = body {
        request = request
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.to_owned());
    }
    client
        .send(request)
        .await
        .expect("every request is answered")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_gets_a_problem_document_with_its_status() {
    let (_daemon, client) = daemon().await;
    let long = format!("/v1/sessions/{}", "x".repeat(257));
    let big = format!("{{\"text\": \"{}\"}}", "x".repeat(300 << 10));
    let huge = format!("{{\"text\": \"{}\"}}", "x".repeat(64 << 20));
    let big_args = format!("{{\"plugin\":\"small\",\"args\":\"{}\"}}", "x".repeat(200));
    let put = || Method::PUT;
    let post = || Method::POST;
    let get = || Method::GET;
    let messages = "/v1/sessions/s/messages";
    let echo = "{\"plugin\":\"echo\"}";
    let cases: Vec<(Method, &str, Option<&str>, &[u16])> = vec![
        // Malformed JSON.
        (post(), messages, Some("{\"text\": "), &[400]),
        (post(), messages, Some("not JSON"), &[400]),
        (put(), "/v1/sessions/a", Some("{"), &[400]),
        // JSON of another shape.
        (post(), messages, Some("[]"), &[422]),
        (post(), messages, Some("{}"), &[422]),
        (post(), messages, Some("{\"text\": 7}"), &[422]),
        (
            post(),
            messages,
            Some("{\"text\":\"a\",\"txet\":\"b\"}"),
            &[422],
        ),
        (put(), "/v1/sessions/a", Some("{}"), &[422]),
        (
            put(),
            "/v1/sessions/a",
            Some("{\"plugin\":\"echo\",\"label\":{}}"),
            &[422],
        ),
        // Unknown sessions and paths.
        (get(), "/v1/sessions/nobody", None, &[404]),
        (get(), "/v1/sessions/nobody/events", None, &[404]),
        (get(), "/v1/sessions/nobody/dead", None, &[404]),
        (Method::DELETE, "/v1/sessions/nobody", None, &[404]),
        (
            post(),
            "/v1/sessions/nobody/messages",
            Some("{\"text\":\"a\"}"),
            &[404],
        ),
        (get(), "/v1/nothing", None, &[404]),
        (get(), "/nothing", None, &[404]),
        (
            put(),
            "/v1/sessions/a",
            Some("{\"plugin\":\"none\"}"),
            &[422],
        ),
        // Ids.
        (put(), &long, Some(echo), &[400, 422]),
        (put(), "/v1/sessions/a%00b", Some(echo), &[400, 422]),
        (put(), "/v1/sessions/a%0Ab", Some(echo), &[400, 422]),
        (put(), "/v1/sessions/%FF", Some(echo), &[400, 422]),
        // Methods.
        (post(), "/v1/sessions/s", Some(echo), &[405]),
        (Method::DELETE, messages, None, &[405]),
        (put(), "/v1/daemon", Some("{}"), &[405]),
        (get(), "/v1/daemon/restart", None, &[404, 405]),
        // Sizes.
        (post(), messages, Some(&big), &[413]),
        (post(), messages, Some(&huge), &[413]),
        (put(), "/v1/sessions/a", Some(&big_args), &[413]),
        // Queries.
        (get(), "/v1/sessions/s/events?after=x", None, &[400, 422]),
        (get(), "/v1/sessions/s/dead?after=x", None, &[400]),
        (get(), "/v1/sessions?limit=x", None, &[400, 422]),
        (get(), "/v1/sessions?state=sleepy", None, &[400, 422]),
        (
            post(),
            "/v1/sessions/s/messages?wait=long",
            Some("{\"text\":\"a\"}"),
            &[400, 422],
        ),
        // Nothing to act on.
        (post(), "/v1/sessions/s/resume", Some("{}"), &[409]),
        (post(), "/v1/sessions/s/cancel", Some("{}"), &[409]),
    ];
    for (method, path, body, statuses) in cases {
        let shown = body.unwrap_or_default();
        let shown = &shown[..shown.len().min(40)];
        let reply = call(&client, method.clone(), path, body).await;
        assert!(
            statuses.contains(&reply.status),
            "{method} {path} {shown}: {reply:?}"
        );
        reply.problem(reply.status);
    }
    assert_eq!(client.session("s").await["cursor"], 0, "nothing was done");
    assert_eq!(client.chat("s", "hi").await.said(), ["#1 user: hi"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_declared_as_json_is_415() {
    let (_daemon, client) = daemon().await;
    for content_type in [None, Some("text/plain"), Some("application/xml")] {
        let mut request = client
            .request(Method::POST, "/v1/sessions/s/messages")
            .body("{\"text\":\"hi\"}");
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let reply = client.send(request).await.expect("an answer");
        reply.problem(415);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_names_the_host_that_it_is_for() {
    let (daemon, _) = daemon().await;
    // HTTP/1.0 has no such header.
    for (version, status) in [("HTTP/1.1", "400"), ("HTTP/1.0", "200")] {
        let mut stream = daemon.connect();
        let request = format!("GET /v1/sessions {version}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it is read");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("it is answered");
        assert_eq!(reply.split(' ').nth(1), Some(status), "{reply}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_other_hosts_are_refused() {
    let (_daemon, client) = daemon().await;
    for (name, value) in [
        (header::HOST, "attacker.example"),
        (header::ORIGIN, "https://attacker.example"),
    ] {
        let request = client
            .request(Method::GET, "/v1/sessions")
            .header(name.clone(), value);
        let reply = client.send(request).await.expect("an answer");
        assert!(matches!(reply.status, 400 | 403 | 421), "{name}: {reply:?}");
        reply.problem(reply.status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_come_and_go_as_the_table_says() {
    let (_daemon, client) = daemon().await;
    let create = async |id: &str, body: Value| client.put(id, &body).await.expect("an answer");
    let body = json!({"plugin": "echo", "args": {"a": 1}, "labels": {"team": "red"}});
    assert_eq!(
        create("a/b c", body.clone()).await.expect(201)["id"],
        "a/b c"
    );
    create("a/b c", body).await.expect(200);
    // The order of keys makes no difference, another value does.
    let relabelled = json!({"plugin": "echo", "args": {"a": 1}, "labels": {"team": "blue"}});
    create("a/b c", relabelled).await.expect(200);
    assert_eq!(client.session("a/b c").await["labels"]["team"], "blue");
    create("a/b c", json!({"plugin": "echo", "args": {"a": 2}}))
        .await
        .problem(409);
    create("a/b c", json!({"plugin": "small", "args": {"a": 1}}))
        .await
        .problem(409);

    let view = client.session("a/b c").await;
    for (key, value) in [
        ("plugin", json!("echo")),
        ("state", json!("idle")),
        ("turns", json!(0)),
        ("queued", json!(0)),
    ] {
        assert_eq!(view[key], value, "{view}");
    }
    let listed = async |query: &str| {
        let reply = client.get(&format!("/v1/sessions{query}")).await;
        let body = reply.expect("an answer").expect(200);
        let items = body["items"].as_array().cloned().unwrap_or_default();
        items
            .iter()
            .map(|item| item["id"].as_str().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(listed("").await, ["a/b c", "s"]);
    assert_eq!(listed("?plugin=small").await, [""; 0]);
    assert_eq!(listed("?state=idle&limit=1").await, ["a/b c"]);
    assert_eq!(listed("?after=a%2Fb%20c").await, ["s"]);

    let delete = client.request(Method::DELETE, "/v1/sessions/a%2Fb%20c");
    let gone = client.send(delete).await.expect("an answer");
    assert!((200..300).contains(&gone.status), "{gone:?}");
    for (method, rest, body) in [
        (Method::GET, "", None),
        (Method::PUT, "", Some("{\"plugin\":\"echo\"}")),
        (Method::POST, "/messages", Some("{\"text\":\"a\"}")),
        (Method::GET, "/events", None),
    ] {
        let path = format!("/v1/sessions/a%2Fb%20c{rest}");
        let reply = call(&client, method, &path, body).await;
        reply.problem(410);
        let kind = reply.body["type"].as_str().unwrap_or_default();
        assert!(kind.contains("closed"), "a type of its own: {reply:?}");
    }
    assert_eq!(listed("").await, ["s"]);
    assert_eq!(listed("?state=closed").await, ["a/b c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_inbox_says_so() {
    let model = FakeModel::start().await;
    let mut setup = Setup::default().assistant(&model);
    for plugin in &mut setup.plugins {
        plugin.limits.push("inbox = 3".to_owned());
    }
    let daemon = Daemon::start(setup).await;
    let client = daemon.client();
    client.open("s", "assistant").await;
    let first = client.say("s", "first [hold=w]", None).await;
    first.expect("accepted");
    model.wait_for("first", CallState::Running, 1).await;
    for n in 0..3 {
        let posted = client.say("s", &format!("waiting {n}"), None).await;
        posted.expect("the inbox takes three");
    }
    match client.say("s", "one too many", None).await {
        Err(Refused::Status(reply)) => {
            let problem = reply.problem(429);
            assert!(problem.contains('3'), "it names the limit: {problem}");
        }
        other => panic!("a full inbox: {other:?}"),
    }
    model.release("w");
    let posted = client.ask("s", "now there is room", None).await;
    let posted = match posted {
        // The inbox may still be full for a moment.
        Err(Refused::Status(reply)) if reply.status == 429 => {
            model.wait_for("waiting 2", CallState::Answered, 1).await;
            client.ask("s", "now there is room", None).await
        }
        other => other,
    };
    posted.expect("the inbox has room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn public_pages_are_there() {
    let (_daemon, client) = daemon().await;
    for path in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/v1/daemon",
    ] {
        let reply = client.get(path).await.expect("an answer");
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
    }
    let api = client.get("/openapi.json").await.expect("an answer").body;
    for path in [
        "/v1/sessions/{id}",
        "/v1/sessions/{id}/messages",
        "/v1/sessions/{id}/events",
        "/v1/daemon",
    ] {
        assert!(!api["paths"][path].is_null(), "{path} is not described");
    }
}
