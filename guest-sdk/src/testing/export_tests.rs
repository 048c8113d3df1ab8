//! Tests that an export goes on as a test, and that whatever else the bytes are, they are refused.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{BadExport, Harness, SessionExport};
use crate::{Error, Message, Plugin, RestoreError, Role, State, output, timer};

const COMPONENT: [u8; 32] = [0xab; 32];
const TAKEN_AT_MS: u64 = 1_772_368_200_250;

/// Collects what was said, and when. Schema 1 was a list of texts alone.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Diary {
    said: Vec<(u64, String)>,
}

impl Plugin for Diary {
    const SCHEMA: u32 = 2;

    fn turn(&mut self, input: &[Message]) -> Result<(), Error> {
        for message in input {
            let before = self.said.last().map_or(0, |(at, _)| *at);
            let after = message.at_ms.checked_sub(before);
            let after = after.ok_or_else(|| Error::new("time went back"))?;
            output::text(format!(
                "{}: {} after {after}",
                message.role,
                self.said.len()
            ))?;
            if message.role == Role::Timer {
                timer::cancel("other");
            }
            self.said.push((message.at_ms, message.text.clone()));
        }
        Ok(())
    }

    fn migrate(schema: u32, data: &[u8]) -> Result<Self, Error> {
        match schema {
            1 => {
                let texts: Vec<String> = crate::decode(data)?;
                let said = texts.into_iter().map(|text| (0, text)).collect();
                Ok(Self { said })
            }
            other => Err(format!("there never was a schema {other}").into()),
        }
    }
}

fn diary() -> Vec<u8> {
    let said = vec![(TAKEN_AT_MS - 5, "hello".to_owned())];
    rmp_serde::to_vec_named(&Diary { said }).unwrap()
}

/// Writes an export.
fn written(parts: &[(u32, &[u8])]) -> Vec<u8> {
    let mut table = Vec::new();
    for (kind, part) in parts {
        table.extend(kind.to_le_bytes());
        table.extend([0; 4]);
        table.extend((part.len() as u64).to_le_bytes());
        // The harness leaves digests to the daemon.
        table.extend([0; 32]);
    }
    let mut export = b"ABIDEEXP\x01\0\0\0".to_vec();
    export.extend((parts.len() as u32).to_le_bytes());
    export.extend([0; 32]);
    export.extend(table);
    for (_, part) in parts {
        export.extend(*part);
    }
    export
}

fn snapshot(schema: u32, data: &[u8]) -> Vec<u8> {
    let mut snapshot = b"ABSN\x01\0\x05\0".to_vec();
    snapshot.extend(schema.to_le_bytes());
    snapshot.extend([0; 4]);
    snapshot.extend((data.len() as u64).to_le_bytes());
    snapshot.extend(COMPONENT);
    snapshot.extend(b"diary");
    snapshot.extend(data);
    snapshot
}

/// A manifest as the daemon writes one.
fn manifest(schema: u32) -> Value {
    json!({
        "version": "0.1.0",
        "exported_at": "2026-03-02T08:00:00.000Z",
        "session": "team/7",
        "identity": {
            "plugin": "diary",
            "args": "{\"name\":\"Ada\"}",
            "labels": {"team": "7"},
            "created_at": "2026-02-01T08:00:00.000Z",
            "created_in": 3,
        },
        "point": {
            "at": {"cursor": 40, "seq": 12},
            "cursor": 42,
            "turn": 9,
            "turns": 8,
            "last_turn": 9,
            "component": "ab".repeat(32),
            "schema": schema,
            "bytes": 99,
            "taken_at": "2026-03-01T12:30:00.250Z",
        },
        "left": {
            "turn": 10,
            "messages": ["m43"],
            "timers": [
                {"name": "remind", "due": "2026-03-01T12:30:01.000Z", "text": "write"},
                {"name": "other", "due": "2026-03-01T12:00:00.000Z", "text": ""},
            ],
            "approvals": [],
        },
    })
}

/// An export of a session with this state.
fn export(schema: u32, data: &[u8]) -> Vec<u8> {
    let manifest = manifest(schema).to_string();
    let snapshot = snapshot(schema, data);
    written(&[
        (1, manifest.as_bytes()),
        (2, &snapshot),
        (3, b"history"),
        (4, b"\0asm"),
    ])
}

/// An export with this manifest.
fn with_manifest(manifest: &str) -> Vec<u8> {
    let snapshot = snapshot(2, &diary());
    written(&[(1, manifest.as_bytes()), (2, &snapshot), (3, b"")])
}

/// An export with this snapshot.
fn with_snapshot(snapshot: &[u8]) -> Vec<u8> {
    let manifest = manifest(2).to_string();
    written(&[(1, manifest.as_bytes()), (2, snapshot), (3, b"")])
}

fn opened(schema: u32, data: &[u8]) -> Result<Harness<Diary>, RestoreError> {
    Harness::from_export(&SessionExport::parse(&export(schema, data)).unwrap())
}

fn refusal(bytes: &[u8]) -> String {
    match SessionExport::parse(bytes) {
        Err(BadExport(text)) => text,
        Ok(export) => panic!("it was opened: {export:?}"),
    }
}

#[track_caller]
fn assert_refused(bytes: &[u8], parts: &[&str]) {
    let text = refusal(bytes);
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}

#[test]
fn an_exported_session_goes_on() {
    let export = SessionExport::parse(&export(2, &diary())).unwrap();
    assert_eq!(export.session, "team/7");
    assert_eq!(export.plugin, "diary");
    assert_eq!(export.args, r#"{"name":"Ada"}"#);
    assert_eq!(export.turn, 9);
    assert_eq!(export.component, "ab".repeat(32));
    assert_eq!(export.taken_at_ms, TAKEN_AT_MS);
    let state = State {
        schema: 2,
        data: diary(),
    };
    assert_eq!(export.state, state);

    let mut session = Harness::<Diary>::from_export(&export).unwrap();
    assert_eq!(session.context.session, "team/7");
    assert_eq!(session.context.plugin, "diary");
    assert_eq!(session.context.args, r#"{"name":"Ada"}"#);
    let turn = session.say("again").unwrap();
    assert_eq!(turn.output, ["user: 1 after 755"]);
    let timers: Vec<_> = turn.timers.iter().map(|t| (&*t.name, t.after_ms)).collect();
    assert_eq!(timers, [("other", 0), ("remind", 750)]);
    let turn = session.fire("remind").unwrap();
    assert_eq!(turn.output, ["timer: 2 after 1000"]);
    assert!(turn.timers.is_empty());
}

#[test]
fn a_state_of_an_older_schema_is_migrated() {
    let data = rmp_serde::to_vec_named(&["one", "two"]).unwrap();
    let mut session = opened(1, &data).unwrap();
    assert_eq!(session.snapshot().unwrap().schema, 1);
    let turn = session.say("three").unwrap();
    assert!(turn.output[0].starts_with("user: 2 "), "{:?}", turn.output);
    assert_eq!(session.snapshot().unwrap().schema, 2);
    assert!(session.say("four").unwrap().output[0].starts_with("user: 3 "));
}

#[test]
fn a_state_that_the_plugin_cannot_read_is_refused_by_the_plugin() {
    assert_eq!(
        opened(3, &diary()).err(),
        Some(RestoreError::NewerSchema(3))
    );
    let never = RestoreError::Invalid("there never was a schema 0".to_owned());
    assert_eq!(opened(0, &diary()).err(), Some(never));
    let refused = opened(2, b"\xc1").err();
    assert!(
        matches!(refused, Some(RestoreError::Invalid(_))),
        "{refused:?}"
    );
}

#[test]
fn a_state_over_the_default_limit_goes_on() {
    let said = vec![(0, "x".repeat(super::harness::SNAPSHOT_MAX))];
    let data = rmp_serde::to_vec_named(&Diary { said }).unwrap();
    let mut session = opened(2, &data).unwrap();
    session.say("more").unwrap();
    session.say("and more").unwrap();
    // One that was within the limit stays there.
    let mut session = opened(2, &diary()).unwrap();
    let error = session.say("x".repeat(super::harness::SNAPSHOT_MAX));
    assert!(error.unwrap_err().0.contains("over the default limit"));
}

#[test]
fn an_export_is_read_from_a_file() {
    let name = format!("abide-plugin-{}.export", std::process::id());
    let path = std::env::temp_dir().join(name);
    let missing = SessionExport::open(&path).unwrap_err().0;
    assert!(
        missing.starts_with(&path.display().to_string()),
        "{missing}"
    );
    std::fs::write(&path, export(2, &diary())).unwrap();
    let read = SessionExport::open(&path);
    std::fs::write(&path, "else").unwrap();
    let other = SessionExport::open(&path);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(read, SessionExport::parse(&export(2, &diary())));
    let other = other.unwrap_err().0;
    assert!(
        other.starts_with(&path.display().to_string()) && other.contains("this is no export"),
        "{other}"
    );
}

#[test]
fn any_cut_is_noticed() {
    let whole = export(2, &diary());
    for length in 0..whole.len() {
        assert_refused(&whole[..length], &["is cut off", "copy it again"]);
    }
    let whole = snapshot(2, &diary());
    for length in 0..whole.len() {
        let cut = with_snapshot(&whole[..length]);
        assert_refused(&cut, &["the snapshot of the export is cut off"]);
    }
    let whole = manifest(2).to_string();
    for length in 0..whole.len() {
        let cut = with_manifest(&whole[..length]);
        assert_refused(&cut, &["the manifest of the export cannot be read"]);
    }
}

#[test]
fn what_is_too_much_is_noticed() {
    let mut longer = export(2, &diary());
    longer.push(0);
    assert_refused(&longer, &["the export has 1 bytes more"]);
    let mut longer = snapshot(2, &diary());
    longer.extend([0; 2]);
    assert_refused(
        &with_snapshot(&longer),
        &["the snapshot of the export has 2 bytes more"],
    );
}

#[test]
fn a_newer_format_says_that_it_is_newer() {
    let mut newer = export(2, &diary());
    newer[8] = 2;
    let words = [
        "the export has format 2",
        "reads up to 1",
        "use a newer one",
    ];
    assert_refused(&newer, &words);
    newer[8] = 0;
    assert_refused(&newer, &["the export has format 0"]);
    let mut newer = snapshot(2, &diary());
    newer[5] = 1;
    let words = ["the snapshot of the export has format 257", "up to 1"];
    assert_refused(&with_snapshot(&newer), &words);
}

#[test]
fn each_part_is_there_once() {
    let manifest = manifest(2).to_string();
    let snapshot = snapshot(2, &diary());
    let parts: [(u32, &[u8]); 3] = [(1, manifest.as_bytes()), (2, &snapshot), (3, b"")];
    SessionExport::parse(&written(&parts)).unwrap();
    for (index, name) in ["manifest", "snapshot", "history"].into_iter().enumerate() {
        let mut fewer = parts.to_vec();
        fewer.remove(index);
        assert_refused(&written(&fewer), &[&format!("the export has no {name}")]);
        let twice = [&parts[..], &parts[index..=index]].concat();
        assert_refused(&written(&twice), &["two parts of kind"]);
    }
    assert_refused(&written(&[]), &["the export has no history"]);
    for kind in [0, 5, u32::MAX] {
        let more = [&parts[..], &[(kind, &b"?"[..])]].concat();
        assert_refused(
            &written(&more),
            &[&format!("part of kind {kind},"), "use a newer one"],
        );
    }
}

#[test]
fn lengths_that_lie_are_refused() {
    let mut many = export(2, &diary());
    many[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_refused(&many, &["is cut off"]);
    for length in [u64::MAX, u64::MAX - 300, 1 << 40] {
        // That of the manifest, in the table's first entry.
        let mut long = export(2, &diary());
        long[56..64].copy_from_slice(&length.to_le_bytes());
        assert_refused(&long, &["the export is cut off"]);
        let mut long = snapshot(2, &diary());
        long[16..24].copy_from_slice(&length.to_le_bytes());
        assert_refused(
            &with_snapshot(&long),
            &["the snapshot of the export is cut"],
        );
    }
    let mut long = snapshot(2, &diary());
    long[6..8].copy_from_slice(&u16::MAX.to_le_bytes());
    assert_refused(
        &with_snapshot(&long),
        &["the snapshot of the export is cut"],
    );
}

#[test]
fn other_files_are_no_exports() {
    for other in [&b"PK\x03\x04"[..], b"ABIDEEXQ", b"{}", &[0; 500]] {
        assert_refused(other, &["this is no export", "`ABIDEEXP`"]);
    }
    let words = ["this is no snapshot of the export", "`ABSN`"];
    assert_refused(&with_snapshot(&[7; 99]), &words);
}

#[test]
fn parts_of_different_sessions_are_refused() {
    for (at, value) in [
        ("/identity/plugin", json!("echo")),
        ("/point/component", json!("ac".repeat(32))),
        ("/point/component", json!("")),
        ("/point/schema", json!(3)),
    ] {
        let mut manifest = manifest(2);
        *manifest.pointer_mut(at).unwrap() = value;
        assert_refused(
            &with_manifest(&manifest.to_string()),
            &["is of another plugin, component or schema"],
        );
    }
}

#[test]
fn a_manifest_that_is_none_says_why() {
    for (at, value, why) in [
        ("/identity/args", json!("{"), "the arguments are no JSON"),
        (
            "/identity/args",
            json!("[".repeat(100_000)),
            "the arguments are no JSON",
        ),
        ("/identity/args", json!({}), "expected a string"),
        ("/identity", Value::Null, "invalid type: null"),
        ("/point/turn", json!(-1), "invalid value"),
        ("/point/turn", json!(1.5), "invalid type"),
        ("/point/schema", json!(1_u64 << 32), "invalid value"),
        ("/point/taken_at", json!("yesterday"), "no point in time"),
        ("/point/taken_at", json!(1), "expected a string"),
        ("/left/timers/0/due", json!(""), "no point in time"),
        ("/left/timers", json!([{}]), "missing field `name`"),
        ("/session", json!(["team/7"]), "expected a string"),
    ] {
        let mut manifest = manifest(2);
        *manifest.pointer_mut(at).unwrap() = value;
        assert_refused(
            &with_manifest(&manifest.to_string()),
            &[why, "export the session again"],
        );
    }
    for field in ["session", "identity", "point"] {
        let mut manifest = manifest(2);
        manifest.as_object_mut().unwrap().remove(field);
        let why = format!("missing field `{field}`");
        assert_refused(&with_manifest(&manifest.to_string()), &[&why]);
    }
    let deep = "[".repeat(100_000);
    let inner = format!("{{\"new\":{deep}");
    for text in [&*deep, &*inner, "", "null", "[]", "{}", "\u{feff}{}"] {
        assert_refused(&with_manifest(text), &["the manifest of the export cannot"]);
    }
}

#[test]
fn what_is_not_needed_may_be_absent_or_new() {
    let mut manifest = manifest(2);
    let fields = manifest.as_object_mut().unwrap();
    fields.remove("left");
    fields.insert("new".to_owned(), json!({"a": [1]}));
    let export = SessionExport::parse(&with_manifest(&manifest.to_string())).unwrap();
    assert!(export.timers.is_empty());
}

#[test]
fn no_changed_byte_makes_it_panic() {
    let whole = export(2, &diary());
    for at in 0..whole.len() {
        for flip in [1, 0x80, 0xff] {
            let mut changed = whole.clone();
            changed[at] ^= flip;
            if let Ok(export) = SessionExport::parse(&changed) {
                let _ = Harness::<Diary>::from_export(&export).map(|mut session| session.say("x"));
            }
        }
    }
}
