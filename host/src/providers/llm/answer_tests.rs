use serde_json::json;

use super::*;
use crate::providers::lossy::Marked;

fn take(answer: &mut StreamedAnswer<'_>, value: Value) -> Result<ThinkOutcome, NoAnswer> {
    answer.take(Chunk::read(Marked {
        value,
        has_marks: false,
    }))
}

/// Returns the answer that these chunks make up.
fn read(chunks: &[Value], is_done: bool) -> Result<Completion, NoAnswer> {
    let asked = RequestFacts::default();
    let mut answer = StreamedAnswer::new(&asked, 1000);
    for chunk in chunks {
        take(&mut answer, chunk.clone())?;
    }
    if is_done {
        answer.done();
    }
    answer.complete("m").map(|(completion, _)| completion)
}

fn text(text: &str) -> Value {
    json!({"choices": [{"delta": {"content": text}, "finish_reason": ""}]})
}

fn finish(reason: &str) -> Value {
    json!({"choices": [{"delta": {}, "finish_reason": reason}]})
}

fn call() -> Value {
    let call = json!({"index": 0, "function": {"name": "f", "arguments": "{}"}});
    json!({"choices": [{"delta": {"tool_calls": [call]}}]})
}

fn message(content: &str) -> Value {
    json!({"choices": [{"message": {"content": content}}]})
}

#[test]
fn messages_in_a_stream_bring_what_is_new() {
    let content = |chunks: &[Value]| read(chunks, true).map(|answer| answer.content);
    let pieces = [message("hel"), message("lo")];
    assert_eq!(content(&pieces), Ok("hello".to_owned()));
    let growing = [message("hel"), message("hello"), message("hello")];
    assert_eq!(content(&growing), Ok("hello".to_owned()));
    let repeated = [text("hel"), text("lo"), message("hello")];
    assert_eq!(content(&repeated), Ok("hello".to_owned()));
    let beside =
        json!({"choices": [{"delta": {"role": "assistant"}, "message": {"content": "ok"}}]});
    assert_eq!(content(&[beside]), Ok("ok".to_owned()));
    // The calls of such a message count if none arrived before.
    let calls = json!([{"id": "x", "function": {"name": "f", "arguments": "{}"}}]);
    let whole = json!({"choices": [{"message": {"content": "Well", "tool_calls": calls},
        "finish_reason": "tool_calls"}]});
    let answer = read(&[text("Well"), whole.clone()], false).expect("an answer");
    assert_eq!(
        (answer.content.as_str(), answer.tool_calls.len()),
        ("Well", 1)
    );
    let answer = read(&[text("Well"), call(), whole], false).expect("an answer");
    assert_eq!(answer.tool_calls.len(), 1);
}

#[test]
fn calls_without_end_are_no_answer() {
    let asked = RequestFacts::default();
    let mut answer = StreamedAnswer::new(&asked, 1 << 20);
    let many = (0..1000).find_map(|n| {
        let call = json!({"index": n, "function": {"name": "f", "arguments": "{}"}});
        take(
            &mut answer,
            json!({"choices": [{"delta": {"tool_calls": [call]}}]}),
        )
        .err()
    });
    assert!(matches!(many, Some(NoAnswer::Broken(_))));
}

#[test]
fn a_reason_or_the_end_of_the_stream_makes_it_complete() {
    let finish_of = |chunks: &[Value], is_done| read(chunks, is_done).map(|answer| answer.finish);
    assert_eq!(
        finish_of(&[text("a"), finish("stop")], false),
        Ok(FinishReason::Stop)
    );
    assert_eq!(finish_of(&[text("a")], true), Ok(FinishReason::Stop));
    assert_eq!(finish_of(&[call()], true), Ok(FinishReason::ToolCalls));
    assert_eq!(
        finish_of(&[call(), finish("stop")], false),
        Ok(FinishReason::ToolCalls)
    );
    assert_eq!(
        finish_of(&[finish("tool_calls")], false),
        Ok(FinishReason::Stop)
    );
    assert_eq!(
        finish_of(&[text("a"), finish("MAX_TOKENS")], false),
        Ok(FinishReason::Length)
    );
    assert_eq!(
        finish_of(&[finish("SAFETY")], false),
        Ok(FinishReason::ContentFilter)
    );
    assert_eq!(
        finish_of(&[text("a"), finish("whatever")], false),
        Ok(FinishReason::Other)
    );
    for (chunks, is_done) in [
        (vec![text("a")], false),
        (vec![text("a"), finish("")], false),
        (vec![call()], false),
        (vec![], true),
        (vec![json!({"choices": []})], true),
    ] {
        let error = finish_of(&chunks, is_done).expect_err("it is not complete");
        assert!(
            matches!(&error, NoAnswer::Broken(text) if text.contains("before it was complete")),
            "{error:?}"
        );
    }
}

#[test]
fn what_a_server_calls_a_failure_is_void() {
    for reason in [
        "error",
        "malformed_function_call",
        "MALFORMED_FUNCTION_CALL",
        "malformed_tool_call",
        "UNEXPECTED_TOOL_CALL",
        "network_error",
        "insufficient_system_resource",
        "abort",
    ] {
        let answer = read(&[text("half"), finish(reason)], true);
        assert!(
            matches!(&answer, Err(NoAnswer::Broken(text)) if text.contains(reason)),
            "{answer:?}"
        );
    }
    let error = json!({"error": {"code": 400, "message": "m"}, "choices": []});
    assert_eq!(
        read(&[text("half"), error.clone()], true),
        Err(NoAnswer::Refused(error))
    );
    let bad = json!({"choices": [{"delta": {"tool_calls": [{"function": {"name": "a b"}}]}}]});
    assert!(matches!(
        read(&[bad, finish("tool_calls")], true),
        Err(NoAnswer::Broken(_))
    ));
}

#[test]
fn a_message_that_is_repeated_as_a_whole_counts_once() {
    let whole = json!({"choices": [{"message": {"content": "ab", "tool_calls": [
        {"function": {"name": "f", "arguments": "{}"}},
    ]}, "finish_reason": "stop"}]});
    let answer = read(&[text("a"), text("b"), call(), whole.clone()], true).expect("an answer");
    assert_eq!(
        (answer.content.as_str(), answer.tool_calls.len()),
        ("ab", 1)
    );
    let answer = read(&[whole], false).expect("an answer");
    assert_eq!(
        (answer.content.as_str(), answer.tool_calls.len()),
        ("ab", 1)
    );
}

#[test]
fn text_and_calls_are_bounded() {
    assert_eq!(
        read(&[text(&"x".repeat(1001))], true),
        Err(NoAnswer::TooLong(1000))
    );
    let empty: Vec<Value> = (0..17)
        .map(|index| json!({"choices": [{"delta": {"tool_calls": [{"index": index, "id": format!("x{index}")}]}}]}))
        .collect();
    assert_eq!(read(&empty, true), Err(NoAnswer::TooLong(1000)));
}

#[test]
fn ids_are_not_those_of_the_conversation() {
    let ids = |asked: &RequestFacts<'_>| {
        let mut answer = StreamedAnswer::new(asked, 1000);
        take(&mut answer, call()).expect("a part");
        answer.done();
        let (completion, _) = answer.complete("m").expect("an answer");
        completion.tool_calls[0].id.clone()
    };
    let mut asked = RequestFacts::default();
    let first = ids(&asked);
    assert_eq!(first, ids(&asked));
    asked.ids.insert(first.clone());
    assert_ne!(first, ids(&asked));
}

fn part(arguments: Value, more: Value) -> Value {
    let mut function = json!({"name": "f", "arguments": arguments});
    if let (Some(function), Value::Object(more)) = (function.as_object_mut(), more) {
        function.extend(more);
    }
    json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "function": function}]}}]})
}

#[test]
fn a_call_that_was_cut_before_its_arguments_has_none() {
    for blank in [json!(""), json!(null), json!("{}")] {
        for reason in ["length", "content_filter"] {
            let cut = [part(blank.clone(), json!({})), finish(reason)];
            let answer = read(&cut, true).expect("an answer");
            assert_eq!(answer.tool_calls[0].arguments, "", "{blank} {reason}");
        }
        let whole = [part(blank.clone(), json!({})), finish("tool_calls")];
        let answer = read(&whole, true).expect("an answer");
        assert_eq!(answer.tool_calls[0].arguments, "{}", "{blank}");
    }
    // Without a finish reason the call may have been cut off.
    assert!(read(&[part(json!(""), json!({}))], true).is_err());
    // Arguments under another field name.
    let named = part(json!(null), json!({"parameters": {"a": 1}}));
    let answer = read(&[named, finish("stop")], true).expect("an answer");
    assert_eq!(answer.tool_calls[0].arguments, "{\"a\":1}");
}

#[test]
fn a_reason_that_more_follows_was_no_end() {
    let cut = [finish("stop"), text("ha"), text("lf")];
    assert!(read(&cut, false).is_err());
    assert_eq!(
        read(&[finish("stop"), text("whole"), finish("stop")], false).map(|a| a.content),
        Ok("whole".to_owned())
    );
    for reason in ["normal", "in_progress", "continue"] {
        assert!(
            read(&[text("half"), finish(reason)], false).is_err(),
            "{reason}"
        );
    }
    for reason in [
        "preempted",
        "server_closed",
        "deadline_exceeded",
        "pause_turn",
    ] {
        assert!(
            read(&[text("half"), finish(reason)], true).is_err(),
            "{reason}"
        );
    }
}

#[test]
fn an_error_is_one_wherever_it_stands() {
    for error in [
        json!({"choices": [], "x_groq": {"error": "stopped early"}}),
        json!({"choices": [{"delta": {"error": {"message": "m"}}}]}),
        json!({"object": "error", "message": "m", "choices": [{}]}),
        json!({"err": {"message": "m"}}),
        json!({"status": "failed", "message": "m"}),
    ] {
        let answer = read(&[text("half"), error.clone()], true);
        assert!(
            matches!(answer, Err(NoAnswer::Refused(_))),
            "{error}: {answer:?}"
        );
    }
    for fine in [
        json!({"error": {"code": 0, "message": "success"}, "choices": []}),
        json!({"object": "heartbeat", "message": "alive"}),
        json!({"id": "x", "choices": [], "message": "queue position 3"}),
    ] {
        let answer = read(&[fine.clone(), text("ok"), finish("stop")], true);
        assert_eq!(
            answer.map(|answer| answer.content),
            Ok("ok".to_owned()),
            "{fine}"
        );
    }
}

#[test]
fn of_several_answers_one_is_read() {
    let of = |index: u64, content: &str| json!({"choices": [{"index": index, "delta": {"content": content}, "finish_reason": null}]});
    let mixed = [
        of(0, "he"),
        of(1, "HE"),
        of(0, "llo"),
        of(1, "LLO"),
        finish("stop"),
    ];
    assert_eq!(
        read(&mixed, true).map(|answer| answer.content),
        Ok("hello".to_owned())
    );
    let call = json!({"id": "x", "function": {"name": "f", "arguments": "{}"}});
    let apart = json!({"choices": [
        {"index": 0, "message": {"content": "I will"}, "finish_reason": "tool_calls"},
        {"index": 1, "message": {"tool_calls": [call]}, "finish_reason": "tool_calls"},
    ]});
    let answer = read(&[apart], true).expect("an answer");
    assert_eq!(
        (answer.content.as_str(), answer.tool_calls.len()),
        ("I will", 1)
    );
}

#[test]
fn the_greatest_counts_are_what_it_cost() {
    let counts = |input: u64, output: u64| json!({"choices": [{"delta": {}, "usage": {"prompt_tokens": input, "completion_tokens": output}}]});
    let chunks = [counts(11, 0), text("x"), counts(0, 7), finish("stop")];
    let answer = read(&chunks, true).expect("an answer");
    let usage = answer.usage.expect("counts");
    assert_eq!((usage.input_tokens, usage.output_tokens), (11, 7));
}
