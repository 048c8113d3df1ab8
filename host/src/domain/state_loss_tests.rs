//! Old and new versions of a state, as authors write them, and what is lost between them.

use super::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const SOUND: &str = "the state is sound";

#[derive(Serialize, Deserialize)]
struct Entry {
    text: String,
    tools: Vec<String>,
}

#[derive(Serialize, Deserialize)]
enum Mode {
    Idle,
    Busy { since: u64 },
}

type Settings = BTreeMap<String, Option<String>>;

#[derive(Serialize, Deserialize)]
struct Old {
    history: Vec<Entry>,
    settings: Settings,
    modes: Vec<Mode>,
    count: u64,
}

#[derive(Serialize, Deserialize)]
struct WithMore {
    #[serde(flatten)]
    old: Old,
    #[serde(default)]
    topic: Option<String>,
    #[serde(default)]
    level: u8,
}

#[derive(Serialize, Deserialize)]
struct Renamed {
    #[serde(default)]
    messages: Vec<Entry>,
    settings: Settings,
    modes: Vec<Mode>,
    count: u64,
}

#[derive(Serialize, Deserialize)]
struct LongerEntry {
    #[serde(alias = "text")]
    content: String,
    tools: Vec<String>,
    #[serde(default)]
    at: u64,
}

#[derive(Serialize, Deserialize)]
enum OtherMode {
    #[serde(alias = "Idle")]
    Waiting,
    #[serde(alias = "Busy")]
    Working { since: u64 },
}

#[derive(Serialize, Deserialize)]
struct WithAliases {
    history: Vec<LongerEntry>,
    #[serde(rename = "options", alias = "settings")]
    settings: Settings,
    modes: Vec<OtherMode>,
    #[serde(alias = "count")]
    total: u64,
}

#[derive(Serialize, Deserialize)]
struct ShorterEntry {
    text: String,
}

#[derive(Serialize, Deserialize)]
struct WithLess {
    history: Vec<ShorterEntry>,
    modes: Vec<OtherMode>,
}

/// Returns what is lost when a plugin with the state `New` reads an old one and writes it: the same in
/// all encodings.
fn lost<New: DeserializeOwned + Serialize>() -> Vec<String> {
    let entry = || Entry {
        text: "hello".into(),
        tools: vec!["search".into()],
    };
    let voice = ("voice".to_owned(), Some("calm".to_owned()));
    let old = Old {
        history: vec![entry(), entry()],
        settings: [voice, ("language".to_owned(), None)].into(),
        modes: vec![Mode::Idle, Mode::Busy { since: 5 }],
        count: 3,
    };
    let json = serde_json::to_vec(&old).expect(SOUND);
    let new: New = serde_json::from_slice(&json).expect(SOUND);
    let of_json = paths(&json, &serde_json::to_vec(&new).expect(SOUND));
    let packed = rmp_serde::to_vec_named(&old).expect(SOUND);
    let new: New = rmp_serde::from_slice(&packed).expect(SOUND);
    assert_eq!(
        of_json,
        paths(&packed, &rmp_serde::to_vec_named(&new).expect(SOUND))
    );
    let (mut cbor, mut new_cbor) = (Vec::new(), Vec::new());
    ciborium::into_writer(&old, &mut cbor).expect(SOUND);
    let new: New = ciborium::from_reader(&cbor[..]).expect(SOUND);
    ciborium::into_writer(&new, &mut new_cbor).expect(SOUND);
    assert_eq!(of_json, paths(&cbor, &new_cbor));
    of_json
}

fn loss(before: &[u8], after: &[u8]) -> StateLoss {
    let (before, after) = StateTree::read_both(before, after).expect(SOUND);
    assert!(StateLoss::between(&before, &before).is_none());
    StateLoss::between(&before, &after)
}

fn paths(before: &[u8], after: &[u8]) -> Vec<String> {
    let loss = loss(before, after);
    assert_eq!((loss.more, loss.is_none()), (0, loss.paths.is_empty()));
    loss.paths
}

fn of_json(before: Value, after: Value) -> String {
    paths(before.to_string().as_bytes(), after.to_string().as_bytes()).join(" ")
}

#[test]
fn a_new_version_loses_what_it_does_not_know() {
    assert_eq!(lost::<Old>(), [""; 0]);
    assert_eq!(lost::<WithMore>(), [""; 0]);
    assert_eq!(lost::<Renamed>(), ["history"]);
    assert_eq!(lost::<WithAliases>(), [""; 0]);
    let tools = ["history[0].tools", "history[1].tools"];
    assert_eq!(
        lost::<WithLess>(),
        [&["count", "settings"], &tools[..]].concat()
    );
}

#[test]
fn values_change_and_contents_go() {
    let before = json!({ "a": [1, { "b": "x", "c": true }, [2]], "d": { "e": 7 }, "f": null });
    for (after, expected) in [
        (
            json!({ "a": [2, { "b": 1, "c": 5 }, [""]], "d": { "e": "y" }, "f": 1 }),
            "a[2][0]",
        ),
        (
            json!({ "a": [1, { "b": "", "c": null }], "d": {} }),
            "d a[1].b a[1].c a[2..]",
        ),
        // What a missing value reads as is as good as nothing.
        (
            json!({ "a": [0, { "b": "x", "c": false }, [2]], "d": { "e": 0.0 } }),
            "a[0] a[1].c d.e",
        ),
        (json!({ "a": [], "d": { "e": {} }, "f": [1] }), "a d.e"),
        (json!({ "a": { "0": 1 }, "d": 5 }), "a d"),
        (json!({ "a": [[1], 1, 1], "d": [0] }), "a[0] a[1] a[2] d"),
        (json!({}), "a d"),
        (json!(["a", "d"]), "a d"),
    ] {
        assert_eq!(of_json(before.clone(), after.clone()), expected, "{after}");
    }
    assert_eq!(of_json(json!([1, 2]), json!([])), "[0..]");
    assert_eq!(of_json(json!([1, 2]), json!({ "a": 1 })), "[0..]");
    assert_eq!(of_json(json!([1, "", null, {}]), json!([5])), "");
    assert_eq!(of_json(json!({}), json!([5])), "");
}

#[test]
fn what_has_moved_to_another_key_is_not_lost() {
    let entry = json!({ "text": "hello", "tools": [1], "note": null });
    let more = json!({ "text": "hello", "tools": [1, 2], "at": 5, "note": "" });
    let less = json!({ "text": "hello", "at": 5, "note": "" });
    for (before, after, expected) in [
        (json!({ "a": [entry] }), json!({ "b": [entry] }), ""),
        (
            json!({ "a": [entry], "b": [] }),
            json!({ "a": [], "b": [entry] }),
            "",
        ),
        (json!({ "a": [entry] }), json!({ "b": [more, 1] }), ""),
        (json!({ "a": [entry] }), json!({ "b": [less] }), "a"),
        (
            json!({ "a": [entry] }),
            json!({ "b": { "a": [entry] } }),
            "a",
        ),
        (json!({ "a": [1], "b": [1] }), json!({ "b": [1] }), "a"),
        (json!({ "a": [1, 2] }), json!({ "b": [1] }), "a"),
        (
            json!({ "a": { "x": null } }),
            json!({ "b": { "y": 1 } }),
            "a",
        ),
        // The one that is the same is found before the one that has grown.
        (
            json!({ "a": [1], "b": [1, 2] }),
            json!({ "y": [1, 2], "z": [1] }),
            "",
        ),
        // Of two that are the same, one is lost.
        (
            json!({ "a": true, "b": true }),
            json!({ "c": true, "d": false }),
            "b",
        ),
        (
            json!({ "in": { "a": 1 }, "b": 1 }),
            json!({ "in": { "z": 1 } }),
            "b",
        ),
    ] {
        assert_eq!(of_json(before, after.clone()), expected, "{after}");
    }
}

#[test]
fn many_renamed_keys_are_found_if_their_content_is_the_same() {
    let map = |prefix: &str, last: &[u32]| {
        let entry = |n: u32| (format!("{prefix}{n}"), json!([&[n], last].concat()));
        Value::Object((0..1_000).map(entry).collect())
    };
    assert_eq!(of_json(map("a", &[]), map("b", &[])), "");
    let (before, after) = (map("a", &[]).to_string(), map("b", &[1]).to_string());
    let loss = loss(before.as_bytes(), after.as_bytes());
    assert_eq!((loss.paths.len(), loss.more), (PATHS_MAX, 1_000 - 20));
}

#[test]
fn fields_by_position_are_lost_at_the_end() {
    let packed = |fields: &[&str]| rmp_serde::to_vec(&(fields, 1)).expect(SOUND);
    let (short, long) = (packed(&["a", "b", ""]), packed(&["a", "b", "", "d"]));
    assert_eq!(paths(&short, &long), [""; 0]);
    assert_eq!(paths(&long, &short), ["[0][3..]"]);
}

#[test]
fn a_long_list_of_losses_is_cut_and_counted() {
    let map: BTreeMap<_, _> = (0..50).map(|n| (format!("key{n:02}"), n + 1)).collect();
    let loss = loss(&serde_json::to_vec(&map).expect(SOUND), b"{}");
    assert_eq!((loss.paths.len(), loss.more), (PATHS_MAX, 30));
    assert_eq!((&*loss.paths[0], &*loss.paths[19]), ("key00", "key19"));
    let document = serde_json::to_string(&loss).expect(SOUND);
    assert!(document.ends_with(r#""key19"],"more":30}"#), "{document}");
    let read: StateLoss = serde_json::from_str(&document).expect(SOUND);
    assert_eq!((read.is_none(), &read), (false, &loss));
}
