//! Sessions that are exported to a file, and imported from one.

use std::collections::BTreeMap;
use std::fs;

use abide_tests::{Client, Reply, until};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::fall_back::{Changing, done};
use super::way_back::{call, past_probation, told};
use crate::stage::Stage;

/// The parts of an export, by kind; read without the daemon's own reader.
fn parts(export: &[u8]) -> BTreeMap<u32, Vec<u8>> {
    let number = |at: usize| {
        let bytes = export[at..at + 4].try_into().expect("four bytes");
        u32::from_le_bytes(bytes)
    };
    assert_eq!((&export[..8], number(8)), (&b"ABIDEEXP"[..], 1));
    let count = number(12) as usize;
    let mut at = 48 + 48 * count;
    let entries = (0..count).map(|n| 48 + 48 * n);
    entries
        .map(|entry| {
            let length = number(entry + 8) as usize;
            at += length;
            (number(entry), export[at - length..at].to_vec())
        })
        .collect()
}

fn manifest(export: &[u8]) -> Value {
    serde_json::from_slice(&parts(export)[&1]).expect("the manifest is JSON")
}

/// Returns the snapshot in an export.
pub(super) fn snapshot(export: &[u8]) -> Vec<u8> {
    parts(export)[&2].clone()
}

/// Exports a session with the command line.
pub(super) fn export(stage: &Stage, args: &[&str]) -> Vec<u8> {
    let file = stage
        .daemon
        .folder()
        .join(format!("{}.abide", args.join("-")));
    let path = file.display().to_string();
    let mut all = vec!["sessions", "export", args[0], &path];
    all.extend(&args[1..]);
    stage.daemon.abide_says(&all);
    let bytes = fs::read(&file).expect("it was written");
    fs::remove_file(&file).expect("it is ours");
    bytes
}

async fn import(client: &Client, id: &str, export: &[u8]) -> Reply {
    let path = format!("/v1/sessions/{id}/import");
    let request = client.request(Method::POST, &path).body(export.to_vec());
    client.send(request).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_goes_on_with_another_daemon() {
    let (from, to) = (past_probation().await, past_probation().await);
    for token in ["a", "b"] {
        from.perform(token, call(token)).await;
    }
    from.send(
        "open",
        json!([{"act": "call", "tool": "record", "token": "c"}]),
    )
    .await;
    from.send("queued", json!([])).await;
    until("the call to wait for a human", async || {
        (from.client.session("s").await["state"] == "parked").then_some(())
    })
    .await;
    let whole = export(&from, &["s"]);
    let file = to.daemon.folder().join("s.abide");
    fs::write(&file, &whole).expect("the folder is ours");
    let path = file.display().to_string();
    // The other daemon has a session of that id.
    let taken = to.daemon.abide(&["sessions", "import", &path]);
    assert_eq!(taken.status.code(), Some(1));
    let said = to
        .daemon
        .abide_says(&["sessions", "import", &path, "--as", "moved"]);
    for part in ["turn 3", "queued messages stay behind", "the approval s:3"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // State and history are the same bytes.
    let moved = export(&to, &["moved", "--with-component"]);
    assert_eq!(snapshot(&moved), snapshot(&whole));
    let source = from.client.events("s", 0).await;
    let upto = manifest(&whole)["point"]["cursor"]
        .as_u64()
        .expect("a cursor") as usize;
    let events = to.client.events("moved", 0).await;
    assert_eq!(events[..upto], source[..upto]);
    assert_eq!(events[upto].kind, "origin");
    let timeline = events[upto].timeline.clone().expect("a new one");
    let cursors: Vec<u64> = events.iter().map(|event| event.cursor).collect();
    assert!(cursors.into_iter().eq(1..=events.len() as u64));
    let posted = to
        .client
        .chat("moved", &json!({"id": "x", "acts": []}).to_string())
        .await;
    assert_eq!(posted.said().last(), Some(&&*done(3)));
    let events = to.client.events("moved", 0).await;
    assert!(
        events[upto..]
            .iter()
            .all(|event| event.timeline.as_ref() == Some(&timeline))
    );
    let text = told(&events);
    assert!(
        text.contains("exported") && !text.contains("\"a\""),
        "{text}"
    );
    assert_eq!(from.executions("a").len() + to.executions("a").len(), 1);
    // What the source does after the export is not the copy's affair, and two copies differ.
    import(&to.client, "again", &whole).await.expect(201);
    let again = to.client.events("again", 0).await;
    assert_ne!(again[upto].timeline.as_ref(), Some(&timeline));
    // Rewinding works within the copied history no further back than its beginning.
    let listed = to.client.get("/v1/sessions/again/points").await;
    let listed = listed.expect("an answer").expect(200);
    assert_eq!(
        listed["items"].as_array().map(Vec::len),
        Some(1),
        "{listed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_says_which_component_it_takes() {
    let old = Changing::start("plain", &[]).await;
    assert_eq!(old.turn("s").await, done(1));
    let (bare, whole) = (
        export(&old.stage, &["s"]),
        export(&old.stage, &["s", "--with-component"]),
    );
    let other = Changing::start("retyped", &[]).await;
    let client = &other.stage.client;
    let refused = import(client, "t", &bare).await;
    let text = refused.problem(409);
    let digest = manifest(&bare)["point"]["component"].clone();
    assert_eq!(refused.body["component"], digest);
    assert!(text.contains("--with-component"), "{text}");
    let absent = client.get("/v1/sessions/t").await;
    absent.expect("an answer").problem(404);
    let imported = import(client, "t", &whole).await.expect(201);
    assert!(imported["session"].get("pinned").is_some(), "{imported}");
    assert_eq!(other.turn("t").await, done(2));
    // It is here now.
    import(client, "u", &bare).await.expect(201);
    assert_eq!(other.turn("u").await, done(2));
    other.stage.daemon.kill_worker().await;
    assert_eq!(other.turn("t").await, done(3));
    // A component that is none.
    let mut parts = parts(&whole);
    let wasm = parts.get_mut(&4).expect("it was exported along");
    wasm.truncate(100);
    let forged = forge(&whole, &parts);
    import(client, "v", &forged).await.problem(422);
}

/// Writes an export with other parts, signed anew; the digests of what it says of them stay.
fn forge(export: &[u8], parts: &BTreeMap<u32, Vec<u8>>) -> Vec<u8> {
    let mut table = Vec::new();
    for (kind, bytes) in parts {
        table.extend(kind.to_le_bytes());
        table.extend([0; 4]);
        table.extend((bytes.len() as u64).to_le_bytes());
        table.extend(Sha256::digest(bytes));
    }
    let mut forged = export[..12].to_vec();
    forged.extend((parts.len() as u32).to_le_bytes());
    forged.extend(Sha256::digest(&table));
    forged.extend(table);
    forged.extend(parts.values().flatten());
    forged
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_malformed_exports_are_refused_and_leave_nothing() {
    let it = past_probation().await;
    it.perform("a", call("a")).await;
    let good = export(&it, &["s"]);
    let before = it.client.session("s").await;
    let mut seed = 7_u64;
    let mut random = |below: usize| {
        // Knuth's MMIX generator; its upper bits are the good ones.
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below.max(1)
    };
    for n in 0..1000 {
        let mut parts = parts(&good);
        let bad = match n % 5 {
            // Cut off.
            0 => good[..random(good.len())].to_vec(),
            // A bit is another one.
            1 => {
                let mut bad = good.clone();
                let at = random(bad.len());
                bad[at] ^= 1 << random(8);
                bad
            }
            // A part is another one, with the right digests.
            2 => {
                let part = parts.get_mut(&(1 + random(3) as u32)).expect("three parts");
                let at = random(part.len());
                part[at] ^= 1 << random(8);
                forge(&good, &parts)
            }
            // A part is cut off, or missing, with the right digests.
            3 => {
                let kind = 1 + random(3) as u32;
                let part = parts.get_mut(&kind).expect("three parts");
                let length = random(part.len());
                part.truncate(length);
                if random(4) == 0 {
                    parts.remove(&kind);
                }
                forge(&good, &parts)
            }
            // A number of the manifest is another one.
            _ => {
                let text = String::from_utf8(parts[&1].clone()).expect("the manifest is text");
                let digits: Vec<_> = text.match_indices(|c: char| c.is_ascii_digit()).collect();
                let (at, digit) = digits[random(digits.len())];
                let other = if digit == "9" { "8" } else { "9" };
                let mut text = text.clone();
                text.replace_range(at..=at, other);
                parts.insert(1, text.into_bytes());
                forge(&good, &parts)
            }
        };
        let id = format!("bad-{n}");
        let reply = import(&it.client, &id, &bad).await;
        // A bit of a text, or of a time, may be another one without any harm.
        if reply.status == 201 {
            assert!(n % 5 >= 2, "{n}: {reply:?}");
            continue;
        }
        assert!([404, 409, 422].contains(&reply.status), "{n}: {reply:?}");
        let text = reply.problem(reply.status);
        assert!(text.len() > 30, "{text}");
        let absent = it.client.get(&format!("/v1/sessions/{id}")).await;
        absent.expect("an answer").problem(404);
    }
    assert_eq!(it.client.session("s").await, before);
    let said = it.perform("b", json!([])).await;
    assert!(
        said.iter()
            .any(|event| event.text.as_deref() == Some("done b #2"))
    );
}
