//! The file that a session is exported to.

use proptest::prelude::*;

use super::*;

fn export(component: Option<&[u8]>) -> SessionExport {
    let digest = Digest::of(component.unwrap_or(b"wasm"));
    let snapshot = Snapshot {
        plugin: "echo".into(),
        component: digest,
        schema: 3,
        data: vec![1, 2, 3],
    };
    let at = LogPos { cursor: 4, seq: 2 };
    let timer = Timer {
        name: "tick".into(),
        due: UnixMillis(1_700_000_000_000),
        text: "now".into(),
    };
    let first = LogPos { cursor: 2, seq: 1 };
    SessionExport {
        copy: SessionCopy {
            session: SessionId::new("a/b").expect("an id"),
            identity: Identity {
                plugin: "echo".into(),
                args: "{\"n\":1}".into(),
                labels: BTreeMap::from([("team".into(), "x".into())]),
                created_at: UnixMillis(1_600_000_000_000),
                created_in: Generation(2),
            },
            point: Point {
                at,
                cursor: 6,
                turn: 1,
                turns: 1,
                last_turn: 1,
                component: digest,
                schema: 3,
                bytes: 63,
                taken_at: UnixMillis(1_650_000_000_000),
                timers: Vec::new(),
                owed: Owed::default(),
                since: Owed::default(),
                before_change: false,
                before_act: None,
            },
            timeline: SessionTimeline::default(),
            snapshot: snapshot.encode(),
            history: vec![(first, b"one".to_vec()), (at, b"two".to_vec())],
            owed: Owed::default(),
            left: LeftBehind {
                timers: vec![timer],
                ..LeftBehind::default()
            },
        },
        component: component.map(<[u8]>::to_vec),
        version: "1.2.3".into(),
        exported_at: UnixMillis(1_690_000_000_000),
    }
}

#[test]
fn an_export_is_read_as_it_was_written() {
    for component in [None, Some(&b"\0asm"[..])] {
        let export = export(component);
        let bytes = export.encode().expect("it is small");
        assert_eq!(SessionExport::decode(&bytes), Ok(export));
    }
}

/// Bytes in files are forever.
#[test]
fn the_bytes_of_an_export_never_change() {
    let golden = include_bytes!("export-1.abide");
    let export = export(Some(b"\0asm"));
    assert_eq!(SessionExport::decode(golden), Ok(export.clone()));
    assert_eq!(export.encode().as_deref(), Ok(&golden[..]));
}

#[test]
fn each_refusal_says_what_is_wrong() {
    let bytes = export(Some(b"\0asm")).encode().expect("it is small");
    let refusal = |bytes: &[u8]| SessionExport::decode(bytes).expect_err("it is none");
    assert_eq!(refusal(b"{}"), BadExport::NotAnExport);
    assert_eq!(refusal(b""), BadExport::NotAnExport);
    let mut newer = bytes.clone();
    newer[8] = 9;
    assert_eq!(refusal(&newer), BadExport::NewerFormat { found: 9 });
    for length in 8..bytes.len() {
        let cut = refusal(&bytes[..length]);
        assert!(
            matches!(cut, BadExport::Truncated { .. }),
            "{length}: {cut}"
        );
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(refusal(&longer), BadExport::Surplus { extra: 1 });
    let mut changed = bytes.clone();
    changed[20] ^= 1;
    assert_eq!(refusal(&changed), BadExport::Damaged { part: "table" });
    let mut many = bytes;
    many[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(refusal(&many), BadExport::Truncated { .. }));
}

/// Changes an export, and signs it anew: only what it says can be wrong.
fn signed(change: impl FnOnce(&mut SessionExport)) -> Result<SessionExport, BadExport> {
    let mut export = export(Some(b"\0asm"));
    change(&mut export);
    SessionExport::decode(&export.encode().expect("it is small"))
}

#[test]
fn parts_that_contradict_each_other_are_refused() {
    let refused = |change: fn(&mut SessionExport)| {
        let refused = signed(change).expect_err("it is wrong");
        let known = matches!(
            refused,
            BadExport::Contradiction(_) | BadExport::Snapshot(_) | BadExport::TooLarge { .. }
        );
        assert!(known, "{refused}");
    };
    refused(|it| it.copy.identity.plugin = "other".into());
    refused(|it| it.copy.identity.args = "{".into());
    refused(|it| it.copy.point.schema = 4);
    refused(|it| it.copy.point.component = Digest::of(b"x"));
    refused(|it| it.component = Some(b"another".to_vec()));
    refused(|it| it.copy.point.turns = 2);
    refused(|it| it.copy.point.turn = u64::MAX);
    refused(|it| it.copy.point.at.seq = 1 << 60);
    refused(|it| it.copy.point.cursor = 3);
    refused(|it| it.copy.history.truncate(1));
    refused(|it| it.copy.history[0].0.seq = 0);
    refused(|it| it.copy.history[0].0.seq = u64::MAX);
    refused(|it| it.copy.snapshot.truncate(60));
    refused(|it| {
        let turn = StoppedTurn {
            turn: 9,
            reason: "x".repeat(100_000),
            about: String::new(),
            calls: MadeCalls::default(),
        };
        it.copy.owed.effects.turns.push(turn);
    });
    refused(|it| {
        let record = vec![0; 1 << 20];
        let at = it.copy.point.at;
        let before = (0..20).map(|n| LogPos { cursor: 0, seq: n });
        it.copy.point.at.seq = 20;
        it.copy.history = before.map(|at| (at, record.clone())).collect();
        it.copy.history.push((LogPos { seq: 20, ..at }, Vec::new()));
    });
    signed(|_| {}).expect("it is right");
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes: Vec<u8>, flips: Vec<(prop::sample::Index, u8)>) {
        let mut garbage = b"ABIDEEXP".to_vec();
        garbage.extend(bytes);
        prop_assert!(SessionExport::decode(&garbage).is_err());
        let good = export(None).encode().expect("it is small");
        let mut changed = good.clone();
        for (at, by) in flips {
            let at = at.index(changed.len());
            changed[at] ^= by;
        }
        let same = changed == good;
        prop_assert_eq!(SessionExport::decode(&changed).is_ok(), same);
    }
}
