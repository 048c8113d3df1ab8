//! The answers of real model servers, byte by byte: unneeded fields do no harm, a partial answer is
//! never published as a whole one, and received bytes count as progress. After each case the same
//! session answers "hello".

use std::time::{Duration, Instant};

use abide_tests::RawAnswer;
use abide_tests::raw_model::{DONE, delta, finish, text};
use serde_json::{Value, json};

use crate::models::stage::{RawModelStage, whole};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_needed_spoils_no_answer() {
    let stage = RawModelStage::new("").await;
    let choice = |extra: Value| {
        let mut chunk =
            json!({"choices": [{"index": 0, "delta": {"content": "o"}, "finish_reason": null}]});
        for (name, value) in extra.as_object().expect("fields") {
            chunk[name] = value.clone();
        }
        chunk.to_string()
    };
    let ok = |first: String| RawAnswer::sse([first, text("k"), finish("stop"), DONE.to_owned()]);
    for (case, extra) in [
        (
            "usage with nulls",
            json!({"usage": {"prompt_tokens": null, "completion_tokens": null}}),
        ),
        ("usage of another type", json!({"usage": "none"})),
        ("a number for a model", json!({"model": 7})),
        ("an empty error", json!({"error": {}})),
        ("an error without text", json!({"error": ""})),
        (
            "no error",
            json!({"error": false, "id": 7, "created": "now", "object": []}),
        ),
    ] {
        stage.expect_text(case, ok(choice(extra)), "ok").await;
    }
    let parts = json!([
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "o"},
    ]);
    stage
        .expect_text(
            "content in parts",
            ok(delta(json!({"content": parts, "tool_calls": {}}))),
            "ok",
        )
        .await;
    stage
        .expect_text(
            "a document in parts",
            whole(json!({"content": parts}), "stop"),
            "o",
        )
        .await;
    let completion = json!({"choices": [{"text": "t", "finish_reason": "stop"}]});
    stage
        .expect_text(
            "a completion's text",
            RawAnswer::json(200, &completion),
            "t",
        )
        .await;
    let bytes = |text: String| {
        RawAnswer::new(200)
            .header("content-type", "text/event-stream")
            .bytes(text)
    };
    let events = format!(
        "data: {}\n\ndata: {}\n\ndata: [DONE]\n\n",
        text("ok"),
        finish("stop")
    );
    stage
        .expect_text(
            "a byte order mark",
            bytes(format!("\u{feff}{events}")),
            "ok",
        )
        .await;
    stage
        .expect_text(
            "a ping",
            bytes(format!("data: ping\n\n: hi\n\ndata:\n\n{events}")),
            "ok",
        )
        .await;
    stage
        .expect_text("CRLF", bytes(events.replace('\n', "\r\n")), "ok")
        .await;
    for kind in [
        Some("application/json"),
        Some("text/plain"),
        Some("application/octet-stream"),
        None,
    ] {
        let answer = bytes(events.clone()).content_type(kind);
        stage
            .expect_text(&format!("events as {kind:?}"), answer, "ok")
            .await;
        let document = whole(json!({"content": "ok"}), "stop").content_type(kind);
        stage
            .expect_text(&format!("a document as {kind:?}"), document, "ok")
            .await;
    }
    let blanks = RawAnswer::new(200)
        .header("content-type", "application/json")
        .bytes("  \n\n")
        .bytes(
            json!({"choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}]})
                .to_string(),
        );
    stage
        .expect_text("blanks before a document", blanks, "ok")
        .await;
    // An HTML page is no answer, and the error names it.
    let page = RawAnswer::new(200)
        .header("content-type", "text/html")
        .bytes("<html>hi</html>");
    stage.model.script([page]);
    let posted = stage
        .client
        .ask("s", "a page", None)
        .await
        .expect("acknowledged");
    assert_eq!(posted.outcome.as_deref(), Some("failed"));
    stage.says_hello("a page").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_no_unicode_is_told_with_replacements() {
    let stage = RawModelStage::new("").await;
    let raw =
        |content: &str| format!("{{\"choices\":[{{\"delta\":{{\"content\":\"{content}\"}}}}]}}");
    let sse = |parts: &[&str]| {
        let parts = parts.iter().map(|part| raw(part));
        RawAnswer::sse(parts.chain([finish("stop"), DONE.to_owned()]))
    };
    stage
        .expect_text(
            "a pair in two chunks",
            sse(&["hi \\ud83d", "\\ude00 there"]),
            "hi \u{1f600} there",
        )
        .await;
    stage
        .expect_text(
            "half a pair",
            sse(&["hi \\ud83d", " there"]),
            "hi \u{fffd} there",
        )
        .await;
    stage
        .expect_text(
            "half a pair at the end",
            sse(&["hi ", "\\ud83d"]),
            "hi \u{fffd}",
        )
        .await;
    stage
        .expect_text("the second half", sse(&["\\ude00 hi"]), "\u{fffd} hi")
        .await;
    let mut bytes = b"data: {\"choices\":[{\"delta\":{\"content\":\"caf\xe9\"}}]}\n\n".to_vec();
    bytes.extend(format!("data: {}\n\ndata: [DONE]\n\n", finish("stop")).into_bytes());
    let latin = RawAnswer::new(200)
        .header("content-type", "text/event-stream")
        .bytes(bytes);
    stage.expect_text("a raw byte", latin, "caf\u{fffd}").await;
    let document =
        "{\"choices\":[{\"message\":{\"content\":\"hi \\ud83d\"},\"finish_reason\":\"stop\"}]}";
    let document = RawAnswer::new(200)
        .header("content-type", "application/json")
        .bytes(document);
    stage
        .expect_text("a document", document, "hi \u{fffd}")
        .await;
    let error =
        RawAnswer::new(400).bytes(&b"{\"error\":{\"message\":\"no \\ud83d \xe9 way\"}}"[..]);
    stage.model.script([error]);
    let posted = stage
        .client
        .ask("s", "an error", None)
        .await
        .expect("acknowledged");
    assert_eq!(posted.outcome.as_deref(), Some("failed"));
    stage.says_hello("an error").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_half_is_told_as_whole() {
    let stage = RawModelStage::new("idle_timeout = \"20s\"").await;
    let ok = || RawAnswer::sse([text("ok"), finish("stop"), DONE.to_owned()]);
    let sse = |data: &[String]| RawAnswer::sse(data);
    let done = || DONE.to_owned();
    stage
        .expect_text("no reason but an end", sse(&[text("ok"), done()]), "ok")
        .await;
    let empty =
        json!({"choices": [{"delta": {"content": "half"}, "finish_reason": ""}]}).to_string();
    stage
        .expect("an empty reason", [sse(&[empty]), ok()], "ok")
        .await;
    stage
        .expect("no end at all", [sse(&[text("half")]), ok()], "ok")
        .await;
    stage
        .expect(
            "an error for a reason",
            [sse(&[text("half"), finish("error"), done()]), ok()],
            "ok",
        )
        .await;
    stage
        .expect(
            "a malformed call",
            [sse(&[finish("malformed_function_call"), done()]), ok()],
            "ok",
        )
        .await;
    stage
        .expect(
            "nothing at all once",
            [sse(&[finish("stop"), done()]), ok()],
            "ok",
        )
        .await;
    stage
        .expect("only an end", [sse(&[done()]), ok()], "ok")
        .await;
    stage
        .expect(
            "a torn chunk",
            [sse(&["{\"choices\": [{\"del".to_owned()]), ok()],
            "ok",
        )
        .await;
    let torn = RawAnswer::new(200)
        .header("content-type", "application/json")
        .bytes("{\"choices\": [");
    stage.expect("a torn document", [torn, ok()], "ok").await;
    stage
        .expect_text(
            "a break behind the end",
            sse(&[text("ok"), finish("stop"), done()])
                .bytes("junk")
                .broken(),
            "ok",
        )
        .await;
    stage
        .expect_failure(
            "an error each time",
            sse(&[text("half"), finish("error")]),
            "ended its answer with `error`",
        )
        .await;
    // The connection stays open.
    for (case, answer) in [
        (
            "open behind a reason",
            sse(&[text("ok"), finish("stop")]).open(),
        ),
        (
            "comments behind a reason",
            sse(&[text("ok"), finish("stop")]).repeating(Duration::from_millis(100), ": hi\n\n"),
        ),
        (
            "an open document",
            whole(json!({"content": "ok"}), "stop").open(),
        ),
    ] {
        let begun = Instant::now();
        stage.expect_text(case, answer, "ok").await;
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{case}: {:?}",
            begun.elapsed()
        );
    }
    // Reasoning in the text.
    for (case, pieces, expected) in [
        ("thoughts", &["<think>hm", "</think>\n\nok"][..], "ok"),
        (
            "thoughts in pieces",
            &["<", "thi", "nk>hm</th", "ink> ok"],
            "ok",
        ),
        (
            "thoughts that the template opened",
            &["hm, let me see\n", "</think>\n\nok"],
            "ok",
        ),
        (
            "tags that are spoken of",
            &["Use `<think>` and `</think>`."],
            "Use `<think>` and `</think>`.",
        ),
    ] {
        let pieces = pieces.iter().map(|piece| text(piece));
        let answer = RawAnswer::sse(pieces.chain([finish("stop"), done()]));
        stage.expect_text(case, answer, expected).await;
    }
    let message = json!({"content": "<think>hm</think>ok", "reasoning_content": "hm"});
    stage
        .expect_text("thoughts in a document", whole(message, "stop"), "ok")
        .await;
    stage
        .expect(
            "thoughts and nothing else",
            [sse(&[text("<think>hm"), finish("stop"), done()]), ok()],
            "ok",
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_life_and_time_is_bounded() {
    let stage = RawModelStage::new("idle_timeout = \"1500ms\"\ntimeout = \"5s\"").await;
    for comment in [
        ": OPENROUTER PROCESSING\n\n",
        ": keep-alive\n\n",
        "\n",
        "data: ping\n\n",
    ] {
        let mut answer = RawAnswer::sse::<&str>([]);
        for _ in 0..4 {
            answer = answer.bytes_after(Duration::from_millis(500), comment);
        }
        let answer = answer.event(&text("ok")).event(&finish("stop")).event(DONE);
        stage
            .expect_text(&format!("kept alive by {comment:?}"), answer, "ok")
            .await;
    }
    let thoughts = delta(json!({"reasoning_content": "hm"}));
    let mut answer = RawAnswer::sse::<&str>([]);
    for _ in 0..4 {
        answer = answer.bytes_after(Duration::from_millis(500), format!("data: {thoughts}\n\n"));
    }
    let answer = answer.event(&text("ok")).event(&finish("stop"));
    stage.expect_text("long thoughts", answer, "ok").await;
    let endless = RawAnswer::sse::<&str>([]).repeating(Duration::from_millis(200), ": hi\n\n");
    let begun = Instant::now();
    stage
        .expect_failure("comments for ever", endless, "was not done within 5s")
        .await;
    let took = begun.elapsed();
    assert!(
        (15..30).contains(&took.as_secs()),
        "three requests of 5 s: {took:?}"
    );
    let silent = RawAnswer::sse([text("half")]).open();
    stage
        .expect_failure("silence", silent, "said nothing for 1s 500ms")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_without_end_is_refused_at_its_bound() {
    let stage = RawModelStage::new("").await;
    let long = RawAnswer::sse::<&str>([])
        .bytes("data: {\"choices\":[{\"delta\":{\"content\":\"")
        .bytes(vec![b'x'; 32 << 20])
        .bytes("\"}}]}\n\n");
    let begun = Instant::now();
    stage.model.script([long]);
    let posted = stage
        .client
        .ask("s", "32 MB", None)
        .await
        .expect("acknowledged");
    assert_eq!(posted.outcome.as_deref(), Some("failed"));
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    let events = stage.client.events("s", 0).await;
    let reason = events.iter().rfind(|event| event.is_turn("failed"));
    let reason = reason
        .and_then(|event| event.reason.clone())
        .unwrap_or_default();
    assert!(reason.contains("limits.event"), "{reason}");
    stage.says_hello("32 MB").await;
}
