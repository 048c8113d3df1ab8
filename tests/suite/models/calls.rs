//! Tool calls as real model servers send them: one call runs once, two calls both run, and none of
//! the server's ids or names leads to a history that is refused. After each case the same session
//! answers "hello".

use std::fs;
use std::path::PathBuf;

use abide_tests::RawAnswer;
use abide_tests::raw_model::{DONE, delta, finish, text};
use serde_json::{Value, json};

use crate::models::stage::{RawModelStage, whole};

impl RawModelStage {
    fn log(&self) -> PathBuf {
        self.world.path().join("log")
    }

    /// Asserts that these calls run, each once, and that the session continues.
    async fn expect_calls(&self, case: &str, answer: RawAnswer, tokens: &[&str]) {
        self.model.script([answer]);
        self.client.chat("s", case).await;
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let _ = fs::remove_file(self.log());
        let mut ran: Vec<&str> = log
            .lines()
            .filter_map(|line| line.split('\t').next())
            .collect();
        ran.sort_unstable();
        assert_eq!(ran, tokens, "{case}");
        let requests = self.model.requests_about(case);
        assert_eq!(requests.len(), 2, "{case}");
        check_calls(case, &requests[1].body);
        self.says_hello(case).await;
    }
}

/// Checks that every call of a history has a unique id that the strictest server accepts, and one
/// result.
fn check_calls(case: &str, request: &Value) {
    let messages = request["messages"].as_array().expect("messages");
    let calls = messages
        .iter()
        .flat_map(|message| message["tool_calls"].as_array().into_iter().flatten());
    let mut ids: Vec<&str> = calls.filter_map(|call| call["id"].as_str()).collect();
    let results = messages
        .iter()
        .filter_map(|message| message["tool_call_id"].as_str());
    let mut results: Vec<&str> = results.collect();
    for id in &ids {
        let is_sound = id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        assert!(is_sound, "{case}: {id}");
    }
    let count = ids.len();
    ids.sort_unstable();
    results.sort_unstable();
    assert_eq!(ids, results, "{case}");
    ids.dedup();
    assert_eq!(ids.len(), count, "{case}: an id occurs twice");
}

/// Returns a chunk with a part of a call: index, id, name, arguments. Empty texts are omitted.
fn call(index: Option<u64>, id: &str, name: &str, arguments: impl Into<Value>) -> String {
    let mut function = json!({ "arguments": arguments.into() });
    if !name.is_empty() {
        function["name"] = name.into();
    }
    let mut call = json!({"type": "function", "function": function});
    if let Some(index) = index {
        call["index"] = index.into();
    }
    if !id.is_empty() {
        call["id"] = id.into();
    }
    delta(json!({"tool_calls": [call]}))
}

fn token(token: &str) -> String {
    json!({ "token": token }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_runs_once_and_two_calls_both_run() {
    let stage = RawModelStage::new("").await;
    const RECORD: &str = "t__record";
    let calls = |parts: &[String]| {
        let end = [finish("tool_calls"), DONE.to_owned()];
        RawAnswer::sse(parts.iter().chain(&end))
    };
    let (a, b) = (token("a"), token("b"));
    let (a_begin, a_end) = a.split_at(5);
    let none = Option::<u64>::None;
    for (case, parts, tokens) in [
        (
            "twice under two indexes",
            vec![
                call(Some(0), "i", RECORD, a.as_str()),
                call(Some(1), "i", RECORD, a.as_str()),
            ],
            &["a"][..],
        ),
        (
            "cut off under one index",
            vec![
                call(Some(0), "i", RECORD, a_begin),
                call(Some(1), "i", RECORD, a.as_str()),
            ],
            &["a"],
        ),
        (
            "two ids under one index",
            vec![
                call(Some(0), "i", RECORD, a.as_str()),
                call(Some(0), "j", RECORD, b.as_str()),
            ],
            &["a", "b"],
        ),
        (
            "two without index or id",
            vec![
                call(none, "", RECORD, a.as_str()),
                call(none, "", RECORD, b.as_str()),
            ],
            &["a", "b"],
        ),
        (
            "one id and no index",
            vec![call(none, "i", RECORD, a_begin), call(none, "i", "", a_end)],
            &["a"],
        ),
        (
            "the name in each part",
            vec![
                call(Some(0), "i", RECORD, a_begin),
                call(Some(0), "i", RECORD, a_end),
            ],
            &["a"],
        ),
        (
            "the id changes midway",
            vec![
                call(Some(0), "i", RECORD, a_begin),
                call(Some(0), "j", "", a_end),
            ],
            &["a"],
        ),
        (
            "arguments as an object",
            vec![call(Some(0), "i", RECORD, json!({"token": "a"}))],
            &["a"],
        ),
        (
            "a prefix before the name",
            vec![call(Some(0), "i", "functions.t__record", a.as_str())],
            &["a"],
        ),
        (
            "a channel behind the name",
            vec![call(
                Some(0),
                "i",
                "t__record<|channel|>commentary",
                a.as_str(),
            )],
            &["a"],
        ),
        (
            "the index as a text",
            vec![delta(
                json!({"tool_calls": [{"index": "0", "id": 17, "function": {"name": RECORD, "arguments": a}}]}),
            )],
            &["a"],
        ),
        (
            "the old place",
            vec![
                delta(json!({"function_call": {"name": RECORD, "arguments": a_begin}})),
                delta(json!({"function_call": {"arguments": a_end}})),
            ],
            &["a"],
        ),
        (
            "both places",
            vec![delta(
                json!({"function_call": {"name": RECORD, "arguments": a}, "tool_calls": [{"index": 0, "function": {"name": RECORD, "arguments": a}}]}),
            )],
            &["a"],
        ),
        (
            "half an emoji in arguments",
            vec![call(
                Some(0),
                "i",
                RECORD,
                "{\"token\": \"a\", \"x\": \"\\ud83d\"}",
            )],
            &["a"],
        ),
    ] {
        stage.expect_calls(case, calls(&parts), tokens).await;
    }
    let two_in_one = delta(json!({"tool_calls": [
        {"index": 0, "id": "i", "function": {"name": RECORD, "arguments": a}},
        {"index": 0, "id": "j", "function": {"name": RECORD, "arguments": b}},
    ]}));
    stage
        .expect_calls("two ids in one chunk", calls(&[two_in_one]), &["a", "b"])
        .await;
    // In one piece.
    let of = |calls: Value| whole(json!({"content": null, "tool_calls": calls}), "tool_calls");
    let entry = |id: Value, arguments: Value| json!({"id": id, "function": {"name": RECORD, "arguments": arguments}});
    stage
        .expect_calls(
            "a document with two",
            of(json!([
                entry("i".into(), a.clone().into()),
                entry(Value::Null, json!({"token": "b"}))
            ])),
            &["a", "b"],
        )
        .await;
    stage
        .expect_calls(
            "a document with one twice",
            of(json!([
                entry("i".into(), a.clone().into()),
                entry("i".into(), a.clone().into())
            ])),
            &["a"],
        )
        .await;
    let old = whole(
        json!({"function_call": {"name": RECORD, "arguments": a}}),
        "function_call",
    );
    stage
        .expect_calls("a document with the old place", old, &["a"])
        .await;
    // No finish reason, but the end of the stream.
    let ended = RawAnswer::sse([call(Some(0), "call_0", RECORD, a.as_str()), DONE.to_owned()]);
    stage
        .expect_calls("a call without a reason", ended, &["a"])
        .await;
    // A tool without parameters: its arguments are an empty object.
    stage
        .model
        .script([calls(&[call(Some(0), "i", "t__fail", "null")])]);
    stage.client.chat("s", "no parameters").await;
    let requests = stage.model.requests_about("no parameters");
    assert!(
        requests[1]
            .messages()
            .iter()
            .any(|line| line.contains("it failed, as it was told to"))
    );
    stage.says_hello("no parameters").await;
    // A call of an invalid name is retried, and never stored.
    for bad in ["", "a b", "<|channel|>analysis"] {
        let case = format!("a call of {bad:?}");
        let answers = [
            calls(&[call(Some(0), "i", bad, "{}")]),
            RawAnswer::sse([text("ok"), finish("stop")]),
        ];
        stage.expect(&case, answers, "ok").await;
    }
}
