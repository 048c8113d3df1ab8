//! Tests of how guests see all kinds of answers.

use serde_json::{Value, json};

use super::outcome::{Room, Unusable, outcome};
use crate::domain::{ToolContent, ToolOutcome};

const ROOM: Room = Room {
    all: 1000,
    image: 0,
};

fn of(answer: Value) -> Result<ToolOutcome, Unusable> {
    outcome(answer, ROOM)
}

fn pieces(answer: Value) -> Vec<ToolContent> {
    of(answer).expect("an outcome").content
}

fn text(text: &str) -> ToolContent {
    ToolContent::Text(text.to_owned())
}

fn blob(mime_type: &str, data: &[u8]) -> ToolContent {
    ToolContent::Blob {
        mime_type: mime_type.to_owned(),
        data: data.to_vec(),
    }
}

#[test]
fn every_kind_of_piece_comes_through() {
    let found = pieces(json!({"content": [
        {"type": "text", "text": "a"},
        {"type": "image", "mimeType": "image/png", "data": "AQI="},
        {"type": "audio", "mimeType": "audio/wav", "data": "AQI"},
        {"type": "resource", "resource": {"uri": "u", "text": "b"}},
        {"type": "resource", "resource": {"uri": "u", "blob": "Aw=="}},
        {"type": "image", "mimeType": "image/png", "data": "?"},
        {"type": "image", "data": "data:image/png;base64,AQI="},
        {"type": "video", "mimeType": "video/mp4", "data": "AQI="},
        "c", {"text": "d"},
    ]}));
    assert_eq!(
        found,
        [
            text("a"),
            blob("image/png", &[1, 2]),
            blob("audio/wav", &[1, 2]),
            text("b"),
            blob("application/octet-stream", &[3]),
            text("[image/png, sent in a form that is no base64]"),
            blob("image/png", &[1, 2]),
            blob("video/mp4", &[1, 2]),
            text("c"),
            text("d"),
        ]
    );
    for strange in [
        json!({"type": "resource_link", "uri": "file:///x", "name": "x"}),
        json!({"type": "hologram", "data": 1}),
        json!({"type": "resource", "resource": {"uri": "u"}}),
        json!({"type": "resource"}),
        json!({"type": "text", "text": 7}),
        json!({"type": "image"}),
        json!({}),
        json!(null),
        json!(7),
        json!([1]),
    ] {
        let found = pieces(json!({"content": [strange, {"type": "text", "text": "a"}]}));
        let [ToolContent::Json(found), after] = &found[..] else {
            panic!("{strange}: {found:?}");
        };
        assert_eq!(serde_json::from_str::<Value>(found).expect("JSON"), strange);
        assert_eq!(after, &text("a"));
    }
}

#[test]
fn structured_content_is_not_said_twice() {
    let texts = |text: &str| json!([{"type": "text", "text": text}]);
    let value = json!({"a": [1]});
    let twice = json!({"content": texts("{ \"a\": [1] }"), "structuredContent": value});
    assert_eq!(pieces(twice), [text("{ \"a\": [1] }")]);
    let piecewise = json!({"content": texts("a note"), "structuredContent": {"content": "a note"}});
    assert_eq!(pieces(piecewise), [text("a note")]);
    let apart = json!({"content": texts("done"), "structuredContent": value});
    let json = ToolContent::Json("{\"a\":[1]}".to_owned());
    assert_eq!(pieces(apart), [text("done"), json.clone()]);
    assert_eq!(pieces(json!({"structuredContent": value})), [json]);
}

#[test]
fn an_answer_with_text_is_finished_whatever_it_says_of_itself() {
    for kind in ["complete", "success", "final", "text", "input_required"] {
        let content = json!([{"type": "text", "text": "42"}]);
        let answer = json!({"resultType": kind, "content": content, "task": {"taskId": "x"}});
        assert_eq!(pieces(answer), [text("42")], "{kind}");
    }
    let task = json!({"task": {"taskId": "x"}, "content": null});
    assert_eq!(of(task), Err(Unusable::Unfinished));
}

#[test]
fn many_texts_and_many_leaves_are_not_compared_for_ever() {
    let room = Room {
        all: 8 << 20,
        image: 0,
    };
    let long = "x".repeat(4 << 20);
    let leaves: Vec<String> = (0..100_000).map(|n| format!("leaf {n}")).collect();
    let content = json!([{"type": "text", "text": long}]);
    let answer = json!({"content": content, "structuredContent": [leaves, "x"]});
    let begun = std::time::Instant::now();
    let found = outcome(answer, room).expect("an outcome");
    assert_eq!(found.content.len(), 2);
    let texts: Vec<Value> = (0..20_000)
        .map(|n| json!({"type": "text", "text": format!("x{n}")}))
        .collect();
    let images: Vec<Value> = (0..20_000)
        .map(|n| json!({"type": "image", "mimeType": "image/png", "data": format!("{n:064}")}))
        .collect();
    let structured = json!([texts, images, "another"]);
    let content = [texts, images].concat();
    let answer = json!({"content": content, "structuredContent": structured});
    assert!(outcome(answer, room).is_ok());
    assert!(begun.elapsed() < std::time::Duration::from_secs(60));
    // An answer that is too large is rejected before anything is compared.
    let content = json!([{"type": "text", "text": "x".repeat(2000)}]);
    let answer = json!({"content": content, "structuredContent": [leaves]});
    assert_eq!(of(answer), Err(Unusable::TooLarge(2000)));
}

#[test]
fn media_arrive_once_and_never_as_text() {
    let data = "QUJD".repeat(100);
    let image = json!({"type": "image", "mimeType": "image/png", "data": data});
    let bytes = "ABC".repeat(100).into_bytes();
    // Structured content that repeats the content.
    let answer = json!({"content": [image], "structuredContent": {"content": [image]}});
    assert_eq!(pieces(answer), [blob("image/png", &bytes)]);
    // The same as text, with another value beside it.
    let structured = json!({"width": 3, "image": data});
    let answer = json!({
        "content": [image, {"type": "text", "text": structured.to_string()}],
        "structuredContent": structured,
    });
    let cut = "{\"image\":\"[300 bytes of image/png]\",\"width\":3}";
    assert_eq!(pieces(answer), [blob("image/png", &bytes), text(cut)]);
    let answer = json!({"content": [image], "structuredContent": structured});
    assert_eq!(
        pieces(answer),
        [blob("image/png", &bytes), ToolContent::Json(cut.to_owned())]
    );
    let url = format!("data:image/png;base64,{data}");
    let answer = json!({"content": [], "structuredContent": {"url": url}});
    let cut = "{\"url\":\"[300 bytes of image/png]\"}";
    assert_eq!(pieces(answer), [ToolContent::Json(cut.to_owned())]);
}

#[test]
fn what_has_no_room_is_dropped_alone() {
    let data = "QUJD".repeat(200);
    let image = json!({"type": "image", "mimeType": "image/png", "data": data});
    let small = json!({"type": "image", "mimeType": "image/png", "data": "AQI="});
    let say = |length: usize| json!({"type": "text", "text": "x".repeat(length)});
    let found = pieces(json!({"content": [image, say(500), small]}));
    let ToolContent::Text(note) = &found[0] else {
        panic!("{found:?}");
    };
    assert!(
        note.starts_with("[600 bytes of image/png, over ") && note.ends_with("(`limits.event`)]"),
        "{note}"
    );
    assert_eq!(
        found[1..],
        [text(&"x".repeat(500)), blob("image/png", &[1, 2])]
    );
    assert_eq!(
        of(json!({"content": [say(600), say(600)]})),
        Err(Unusable::TooLarge(1200))
    );
}

#[test]
fn images_are_shown_up_to_their_bound() {
    let png = json!({"type": "image", "mimeType": "image/png", "data": "iVBORw0KGgo="});
    let shown = "![image/png](data:image/png;base64,iVBORw0KGgo=)";
    for (all, image, expected) in [
        (1000, 0, blob("image/png", b"\x89PNG\r\n\x1a\n")),
        (1000, 7, blob("image/png", b"\x89PNG\r\n\x1a\n")),
        (1000, 8, text(shown)),
        (70, 8, blob("image/png", b"\x89PNG\r\n\x1a\n")),
    ] {
        let room = Room { all, image };
        let found = outcome(json!({"content": [png]}), room).expect("an outcome");
        assert_eq!(found.content, [expected], "{room:?}");
    }
}

#[test]
fn whatever_an_answer_is_it_is_told() {
    for nothing in [
        json!({}),
        json!(null),
        json!({"content": null}),
        json!({"content": []}),
        json!({"content": [], "structuredContent": null}),
        json!({"toolResult": null}),
        json!({"_meta": {"a": 1}}),
        json!({"resultType": "complete"}),
    ] {
        assert_eq!(pieces(nothing.clone()), [], "{nothing}");
    }
    for (answer, expected) in [
        (json!("text"), text("text")),
        (json!({"content": "text"}), text("text")),
        (
            json!({"content": {"type": "text", "text": "text"}}),
            text("text"),
        ),
        (json!({"toolResult": "text"}), text("text")),
        (
            json!({"toolResult": {"a": 1}}),
            ToolContent::Json("{\"a\":1}".to_owned()),
        ),
        (
            json!({"what": 1}),
            ToolContent::Json("{\"what\":1}".to_owned()),
        ),
        (json!([1]), ToolContent::Json("[1]".to_owned())),
    ] {
        assert_eq!(pieces(answer.clone()), [expected], "{answer}");
    }
    for (is_error, expected) in [
        (json!(true), true),
        (json!("true"), true),
        (json!(false), false),
        (json!(null), false),
    ] {
        let outcome = of(json!({"content": [], "isError": is_error})).expect("an outcome");
        assert_eq!(outcome.is_error, expected);
    }
    for unfinished in [
        json!({"task": {"taskId": "1", "status": "working"}}),
        json!({"resultType": "input_required", "inputRequests": {}}),
    ] {
        assert_eq!(of(unfinished), Err(Unusable::Unfinished));
    }
}

#[test]
fn what_an_sdk_wraps_for_structured_content_is_not_said_twice() {
    let texts = |texts: &[&str]| -> Value {
        texts
            .iter()
            .map(|text| json!({"type": "text", "text": text}))
            .collect()
    };
    for (parts, value) in [
        (vec!["5"], json!({"result": 5})),
        (vec!["hello"], json!({"result": "hello"})),
        (vec!["true"], json!({"result": true})),
        (
            vec!["{\"a\":1}", "{\"a\":2}"],
            json!({"result": [{"a": 1}, {"a": 2}]}),
        ),
        (vec!["x", "y"], json!({"result": ["x", "y"]})),
    ] {
        let answer = json!({"content": texts(&parts), "structuredContent": value});
        let expected: Vec<ToolContent> = parts.iter().map(|part| text(part)).collect();
        assert_eq!(pieces(answer), expected, "{value}");
    }
    // If there is no room for both, the text has priority.
    let rows: Vec<u64> = (0..300).collect();
    let answer = json!({"content": texts(&["x".repeat(500).as_str()]), "structuredContent": rows});
    let room = Room {
        all: 1000,
        image: 0,
    };
    let found = outcome(answer, room).expect("an outcome").content;
    assert!(
        matches!(&found[1], ToolContent::Text(note) if note.contains("structured content")),
        "{found:?}"
    );
}

#[test]
fn data_in_other_places_is_dropped_alone() {
    let png = [
        vec![0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A],
        vec![7; 60_000],
    ]
    .concat();
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &png);
    let caption = json!({"type": "text", "text": "a chart"});
    let source = json!({"type": "base64", "media_type": "image/png", "data": base64});
    for block in [
        json!({"type": "image", "source": source}),
        json!({"type": "image", "image": base64}),
        json!({"type": "text", "text": json!({"png": base64}).to_string()}),
    ] {
        let answer = json!({"content": [caption, block], "structuredContent": {"path": "x", "png_base64": base64}});
        let room = Room {
            all: 4000,
            image: 0,
        };
        let found = outcome(answer, room).expect("the text").content;
        assert_eq!(found[0], text("a chart"));
        let rest = format!("{found:?}");
        assert!(rest.len() < 1000 && rest.contains("image/png"), "{rest}");
    }
}

#[test]
fn a_failure_is_one_however_it_is_marked() {
    for mark in [
        json!({"isError": 1}),
        json!({"isError": "True"}),
        json!({"is_error": true}),
    ] {
        let mut answer = json!({"content": [{"type": "text", "text": "went wrong"}]});
        let fields = answer.as_object_mut().expect("an object");
        fields.extend(mark.as_object().expect("an object").clone());
        assert!(of(answer).expect("an outcome").is_error, "{mark}");
    }
    assert!(
        !of(json!({"isError": 0, "content": []}))
            .expect("an outcome")
            .is_error
    );
}
