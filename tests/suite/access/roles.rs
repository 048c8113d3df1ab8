//! Each route, each role, each choice of sessions: who is let through.

use abide_tests::{Client, Plugin, Reply, tool_server, until};
use reqwest::Method;
use serde_json::{Value, json};

use super::Guarded;

/// What each operation needs, told independently of the daemon's own table: the least role (0 viewer, 1
/// client, 2 operator, 3 admin), and whether it is about all sessions.
const NEEDS: &[(&str, usize, bool)] = &[
    ("list_sessions", 0, false),
    ("create_session", 1, false),
    ("show_session", 0, false),
    ("close_session", 1, false),
    ("send_message", 1, false),
    ("follow_events", 0, false),
    ("cancel_turns", 1, false),
    ("resume_session", 2, false),
    ("adopt_component", 2, false),
    ("list_points", 0, false),
    ("rewind_session", 2, false),
    ("fork_session", 2, false),
    ("export_session", 2, false),
    ("import_session", 2, false),
    ("try_component", 2, true),
    ("show_turn", 0, false),
    ("replay_turn", 2, false),
    ("retry_dead_letter", 1, false),
    ("list_dead_letters", 0, false),
    ("list_all_dead_letters", 0, false),
    ("list_approvals", 0, false),
    ("show_approval", 0, false),
    ("decide_approval", 0, false),
    ("list_standing_approvals", 0, false),
    ("revoke_standing_approval", 0, false),
    ("create_chat_completion", 1, false),
    ("list_models", 0, false),
    ("show_model", 0, false),
    ("show_daemon", 0, true),
    ("list_restarts", 0, true),
    ("show_restart", 0, true),
    ("restart_daemon", 2, true),
    ("plan_file", 2, true),
    ("plan_text", 2, true),
    ("drain_daemon", 2, true),
    ("take_backup", 2, true),
    ("list_tokens", 3, true),
    ("create_token", 3, true),
    ("revoke_token", 3, true),
    ("list_audit", 3, true),
    ("show_metrics", 0, true),
];
/// Operations that ask for no token.
const OPEN: [&str; 2] = ["healthz", "readyz"];
const ROLES: [&str; 4] = ["viewer", "client", "operator", "admin"];

/// An operation of the API's document.
struct Operation {
    name: String,
    method: Method,
    path: String,
}

async fn operations(client: &Client) -> Vec<Operation> {
    let document = client.get("/openapi.json").await.expect("an answer");
    let document = document.expect(200);
    let paths = document["paths"].as_object().expect("paths");
    let mut found = Vec::new();
    for (path, operations) in paths {
        for (method, operation) in operations.as_object().expect("operations") {
            found.push(Operation {
                name: operation["operationId"].as_str().expect("an id").to_owned(),
                method: method.to_uppercase().parse().expect("a method"),
                path: path.clone(),
            });
        }
    }
    found
}

impl Operation {
    /// Sends a request that is refused for its body or for what it names, if it is not refused for who
    /// sends it: it changes nothing.
    async fn call(&self, client: &Client, session: &str) -> Reply {
        let id = match self.path.contains("approvals/{id}") {
            true => format!("{session}:1.1.1"),
            false => session.to_owned(),
        };
        let path = self.path.replace("{id}", &id.replace('/', "%2F"));
        let path = path
            .replace("{name}", "nobody")
            .replace("{generation}", "999999");
        let mut request = client.request(self.method.clone(), &path);
        if self.name == "follow_events" {
            request = request.header("accept", "application/json");
        }
        if matches!(self.method, Method::POST | Method::PUT) {
            let mut body = json!({"nonsense": true});
            if self.name == "create_chat_completion" {
                // The session is in the body: it must make sense up to there.
                body = json!({"model": "none", "user": session, "messages": [{"role": "user", "content": "x"}]});
            }
            request = request.json(&body);
        }
        client.send(request).await.expect("an answer")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_route_is_for_its_roles_and_sessions_alone() {
    let stage = Guarded::start(|setup| setup).await;
    let operations = operations(&stage.admin).await;
    let named: Vec<&str> = operations.iter().map(|it| &*it.name).collect();
    for (known, ..) in NEEDS {
        assert!(named.contains(known), "{known} is gone");
    }
    let nobody = stage.admin.with_token("abide_none");
    for (rank, role) in ROLES.into_iter().enumerate() {
        for (choice, sessions) in [("all", &["*"][..]), ("some", &["team/*", "t*m/*"])] {
            for approve in [false, true] {
                let name = format!("{role}-{choice}-{approve}");
                let holder = stage.holder(&name, role, approve, sessions).await;
                for operation in &operations {
                    let what = format!("{name}: {}", operation.name);
                    let reply = operation.call(&holder, "team/none").await;
                    if OPEN.contains(&&*operation.name) {
                        assert_eq!(reply.status, 200, "{what}");
                        continue;
                    }
                    let needs = NEEDS.iter().find(|(known, ..)| *known == operation.name);
                    let (_, least, of_daemon) = needs.unwrap_or_else(|| panic!("{what}: no rule"));
                    let decides = ["decide_approval", "revoke_standing_approval"]
                        .contains(&operation.name.as_str());
                    let allowed =
                        rank >= *least && (approve || !decides) && (choice == "all" || !of_daemon);
                    let text = match allowed {
                        true => {
                            assert!(![401, 403].contains(&reply.status), "{what}: {reply:?}");
                            continue;
                        }
                        false => denial(&reply, 403),
                    };
                    assert!(text.contains(&format!("`{name}`")), "{what}: {text}");
                    assert!(text.contains("forbidden"), "{what}: {text}");
                }
                if choice == "some" {
                    other_sessions_are_closed(&operations, &holder, &name).await;
                }
            }
        }
    }
    for operation in &operations {
        if !OPEN.contains(&&*operation.name) {
            let reply = operation.call(&nobody, "team/none").await;
            assert!(denial(&reply, 401).contains("unauthorized"));
        }
    }
    // Nothing of all this was done.
    let status = stage.daemon.status().await;
    assert_eq!(
        (&status["generation"], &status["state"]),
        (&json!(1), &json!("serving"))
    );
}

/// Returns the text of a refusal, in the API's own form or in that of OpenAI's clients.
fn denial(reply: &Reply, status: u16) -> String {
    assert_eq!(reply.status, status, "{reply:?}");
    let error = &reply.body["error"];
    match error["code"].as_str() {
        Some(code) => format!("{code}: {}", error["message"].as_str().unwrap_or_default()),
        None => format!("{}: {}", reply.body["type"], reply.problem(status)),
    }
}

async fn other_sessions_are_closed(operations: &[Operation], holder: &Client, name: &str) {
    for operation in operations {
        let of_session = ["sessions/{id}", "approvals/{id}", "/chat/"];
        if of_session.iter().any(|part| operation.path.contains(part)) {
            let reply = operation.call(holder, "steam/none").await;
            let text = denial(&reply, 403);
            assert!(text.contains(name), "{name}: {}: {text}", operation.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_show_the_callers_sessions_alone() {
    let stage = Guarded::start(|setup| setup).await;
    for id in ["a/1", "a/2", "b/1", "c"] {
        stage.admin.open(id, "echo").await;
    }
    let ids = async |client: &Client| -> Vec<String> {
        let page = client
            .get("/v1/sessions")
            .await
            .expect("an answer")
            .expect(200);
        let items = page["items"].as_array().cloned().expect("items");
        let ids = items.iter().filter_map(|item| item["id"].as_str());
        ids.map(str::to_owned).collect()
    };
    let a = stage.holder("a", "client", false, &["a/*"]).await;
    let bc = stage.holder("bc", "viewer", false, &["b/1", "c"]).await;
    let none = stage.holder("none", "viewer", false, &["d"]).await;
    assert_eq!(ids(&stage.admin).await, ["a/1", "a/2", "b/1", "c"]);
    assert_eq!(ids(&a).await, ["a/1", "a/2"]);
    assert_eq!(ids(&bc).await, ["b/1", "c"]);
    assert_eq!(ids(&none).await, Vec::<String>::new());
    // Nor does the end of a page tell of others.
    let page = bc.get("/v1/sessions?limit=1").await;
    let page = page.expect("an answer").expect(200);
    assert_eq!(
        (&page["items"][0]["id"], &page["next"]),
        (&json!("b/1"), &json!("b/1"))
    );
    let page = bc.get("/v1/sessions?limit=1&after=b%2F1").await;
    let page = page.expect("an answer").expect(200);
    assert_eq!(
        (&page["items"][0]["id"], &page["next"]),
        (&json!("c"), &json!("c"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn approvals_are_listed_and_decided_by_those_who_may() {
    let world = tempfile::tempdir().expect("the machine has a folder for temporary files");
    let log = world.path().join("tools.log");
    let stage = Guarded::start(|setup| {
        let scripted = Plugin::new("scripted").with_tools();
        let mut setup = setup.plugin(scripted).recording_tools(&tool_server(), &log);
        let tools = setup.rest.last_mut().expect("it has tools");
        tools.push_str("\nask = [\"record\"]\n");
        setup
    })
    .await;
    for id in ["a", "b", "c"] {
        stage.admin.open(id, "scripted").await;
        let acts = json!([{"act": "call", "tool": "record", "token": id}]);
        let script = json!({"id": id, "acts": acts}).to_string();
        stage
            .admin
            .say(id, &script, None)
            .await
            .expect("it is acknowledged");
        until("the session to be parked", async || {
            (stage.admin.session(id).await["state"] == "parked").then_some(())
        })
        .await;
    }
    let viewer = stage.holder("viewer", "viewer", false, &["b"]).await;
    let approver = stage.holder("approver", "viewer", true, &["b"]).await;
    let page = viewer.get("/v1/approvals?limit=1").await;
    let page = page.expect("an answer").expect(200);
    let items = page["items"].as_array().expect("items");
    assert_eq!(items.len(), 1);
    assert!(
        page["next"].is_null(),
        "it tells of no other session: {page}"
    );
    let id = items[0]["id"].as_str().expect("an id");
    let path = format!("/v1/approvals/{id}");
    let approve = json!({"decision": "approve"});
    let refused = viewer.post(&path, &approve).await.expect("an answer");
    assert!(refused.problem(403).contains("right to approve"));
    let decided = approver.post(&path, &approve).await;
    assert_eq!(decided.expect("an answer").expect(200)["by"], "approver");
    stage.admin.until_idle("b").await;
    let audit = stage.audit().await;
    let last = &audit[0];
    assert_eq!(
        (&last["who"], &last["act"]),
        (&json!("approver"), &json!("decide_approval"))
    );
    assert_eq!(last["subject"], id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_forced_by_operators_alone() {
    let stage = Guarded::start(|setup| setup).await;
    stage.admin.open("s", "echo").await;
    let client = stage.holder("c", "client", false, &["*"]).await;
    let operator = stage.holder("o", "operator", false, &["*"]).await;
    let force = json!({"force": true});
    let path = "/v1/sessions/s/retry";
    let text = client
        .post(path, &force)
        .await
        .expect("an answer")
        .problem(403);
    assert!(text.contains("operator"), "{text}");
    for (holder, body) in [(&client, json!({})), (&operator, force)] {
        holder
            .post(path, &body)
            .await
            .expect("an answer")
            .problem(404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_have_their_senders_and_operators_acts_their_record() {
    let stage = Guarded::start(|setup| setup).await;
    stage.admin.open("s", "echo").await;
    let ada = stage.holder("ada", "client", false, &["*"]).await;
    ada.chat("s", "hello").await;
    stage.admin.chat("s", "hello").await;
    let completion =
        json!({"model": "echo", "user": "s", "messages": [{"role": "user", "content": "x"}]});
    let completed = ada.post("/v1/chat/completions", &completion).await;
    completed.expect("an answer").expect(200);
    let page = ada
        .request(Method::GET, "/v1/sessions/s/events")
        .header("accept", "application/json");
    let page = ada.send(page).await.expect("an answer").expect(200);
    let events = page["items"].as_array().cloned().expect("items");
    let senders: Vec<&Value> = events
        .iter()
        .filter(|event| event["kind"] == "message" && event["from"] == "user")
        .map(|event| &event["sender"])
        .collect();
    assert_eq!(senders, ["ada", "config", "ada"]);

    let operator = stage.holder("otto", "operator", false, &["*"]).await;
    let resumed = operator.post("/v1/sessions/s/resume", &json!({})).await;
    resumed.expect("an answer").problem(409);
    let old = stage.daemon.generation().await;
    let restarted = operator.post("/v1/daemon/restart", &json!({})).await;
    restarted.expect("an answer").expect(202);
    stage.daemon.after_generation(old).await;
    let audit = stage.audit().await;
    let acts: Vec<Value> = audit
        .iter()
        .map(|act| json!([act["who"], act["act"], act["subject"], act["status"]]))
        .collect();
    assert_eq!(
        acts,
        [
            json!(["otto", "restart_daemon", null, 202]),
            json!(["config", "create_token", "otto", 201]),
            json!(["config", "create_token", "ada", 201]),
        ]
    );
    let numbers: Vec<_> = audit.iter().filter_map(|act| act["id"].as_u64()).collect();
    assert_eq!(numbers, [4, 2, 1], "what was refused is left out");
}
