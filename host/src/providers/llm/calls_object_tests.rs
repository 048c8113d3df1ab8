//! Tests of arguments that servers send as objects.

use serde_json::json;

use super::*;

#[test]
fn arguments_that_come_as_objects_are_one_call_that_grows() {
    let known = BTreeSet::from(["t__x"]);
    let ran = |parts: &[(&str, Value)]| -> Vec<String> {
        let mut calls = Calls::default();
        for (name, arguments) in parts {
            let part = Fragment {
                index: Some(0),
                id: Some("a".to_owned()),
                name: (!name.is_empty()).then(|| (*name).to_owned()),
                arguments: match arguments {
                    Value::String(text) => text.clone(),
                    object => object.to_string(),
                },
                is_object: arguments.is_object(),
            };
            calls.add(part, false, &known);
        }
        let calls = calls.complete(&known, "", &mut HashSet::new(), false);
        let calls = calls.expect("good names").into_iter();
        calls.map(|call| call.arguments).collect()
    };
    for (parts, expected) in [
        (
            vec![("t__x", json!({})), ("t__x", json!({"a": 1}))],
            r#"{"a":1}"#,
        ),
        (
            vec![
                ("t__x", json!("{}")),
                ("t__x", json!("{\"a\"")),
                ("t__x", json!(":1}")),
            ],
            r#"{"a":1}"#,
        ),
        (
            vec![
                ("t__x", json!({"s": "rm "})),
                ("", json!({"s": "rm -r"})),
                ("", json!({"s": "rm -r x"})),
            ],
            r#"{"s":"rm -r x"}"#,
        ),
        (
            vec![("t__x", json!({"s": "ab"})), ("", json!({"a": 1}))],
            r#"{"a":1,"s":"ab"}"#,
        ),
    ] {
        assert_eq!(ran(&parts), [expected], "{parts:?}");
    }
}
