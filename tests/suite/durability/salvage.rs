//! Damaged tables, as an operator meets them: a start writes anew what can be read and says what is
//! lost; `abide store` checks, and rescues into another folder.

use std::fs;
use std::path::{Path, PathBuf};

use abide_tests::damage::files_by_kind;
use abide_tests::{Daemon, Setup, until};
use serde_json::Value;

use crate::backup::abide;

/// A stopped daemon whose sessions are in tables.
async fn stopped() -> Daemon {
    let mut setup = Setup::default();
    setup.daemon.push("probation = \"100ms\"".to_owned());
    let mut daemon = Daemon::start(setup).await;
    let client = daemon.client();
    for id in ["one", "two", "three"] {
        client.open(id, "echo").await;
        for n in 0..5 {
            client.chat(id, &format!("{id} {n}")).await;
        }
    }
    // The old worker writes everything into tables before it hands over.
    daemon.restart_by_edit().await;
    assert!(daemon.stop().await.success());
    daemon
}

fn tables(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("db")).expect("the store is there");
    let files = entries.map(|entry| entry.expect("an entry").path());
    let mut tables: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .collect();
    tables.sort();
    tables
}

fn report(output: &std::process::Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

fn names(report: &Value) -> Vec<&str> {
    let touched = report["touched"].as_array().expect("a list");
    let ids = touched.iter().map(|session| session["id"].as_str());
    ids.map(|id| id.expect("an id")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_table_costs_what_is_in_it_and_all_of_that_is_named() {
    let mut daemon = stopped().await;
    let data = daemon.folder().join("data");
    let sound = abide(&daemon, &["store", "check"]);
    assert!(sound.status.success(), "{sound:?}");
    assert!(String::from_utf8_lossy(&sound.stdout).contains("is sound: 3 sessions"));
    let tables = tables(&data);
    assert!(tables.len() >= 4, "{tables:?}");
    for (case, table) in tables.iter().enumerate() {
        let whole = fs::read(table).expect("the file is ours");
        let mut damaged = whole.clone();
        damaged[10] ^= 1;
        fs::write(table, damaged).expect("the file is ours");
        let file = table.file_name().expect("a name").to_string_lossy();

        let checked = abide(&daemon, &["store", "check", "--json"]);
        assert_eq!(checked.status.code(), Some(1), "{checked:?}");
        let checked = report(&checked);
        assert_eq!(checked["damaged_files"][0]["file"], *file, "{checked}");
        let new = daemon.folder().join(format!("new{case}"));
        let args = ["store", "salvage", new.to_str().expect("plain"), "--json"];
        let salvaged = abide(&daemon, &args);
        assert!(salvaged.status.success(), "{salvaged:?}");
        assert_eq!(names(&report(&salvaged)), names(&checked), "{file}");
        let again = abide(&daemon, &args);
        assert_eq!(again.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&again.stderr).contains("is not empty"));
        fs::write(table, whole).expect("the file is ours");
    }
    // As a merge that has met one notes it.
    for table in &tables {
        let mut damaged = fs::read(table).expect("the file is ours");
        damaged[10] ^= 1;
        fs::write(table, damaged).expect("the file is ours");
    }
    let expected = report(&abide(&daemon, &["store", "check", "--json"]));
    fs::write(data.join("DAMAGED"), "a test met it\n").expect("the folder is ours");
    daemon.start_again().await;
    let status = daemon.status().await;
    assert_eq!(status["watchdog"][0]["kind"], "store_mended", "{status}");
    let client = daemon.client();
    for id in ["one", "two", "three"] {
        let told = status["watchdog"][0]["reason"].as_str().unwrap_or_default();
        let path = format!("/v1/sessions/{id}");
        let session = client.get(&path).await.expect("an answer");
        match session.status {
            404 => assert!(told.contains("not even the name"), "{told}"),
            _ if names(&expected).contains(&id) => assert!(told.contains(id), "{told}"),
            _ => assert_eq!(session.expect(200)["turns"], 5),
        }
    }
    client.open("new", "echo").await;
    assert_eq!(client.chat("new", "hi").await.said(), ["#1 user: hi"]);
    let running = abide(&daemon, &["store", "check"]);
    assert_eq!(running.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&running.stderr).contains("is in use by process"));
    assert!(daemon.stop().await.success());
    let sound = abide(&daemon, &["store", "check"]);
    assert!(sound.status.success(), "{sound:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restart_reads_keeps_it_from_no_mending() {
    for kind in ["table index", "table default", "table sessions"] {
        let mut daemon = stopped().await;
        let files = files_by_kind(&daemon.folder().join("data")).expect("the folder is ours");
        for table in &files[kind] {
            let mut damaged = fs::read(table).expect("the file is ours");
            damaged[10] ^= 1;
            fs::write(table, damaged).expect("the file is ours");
        }
        // It is met at the opening, or once the daemon serves: then a restart mends it.
        daemon.start_again().await;
        let client = daemon.client();
        client.get("/v1/sessions").await.expect("an answer");
        until(
            &format!("{kind}: the store to be written anew"),
            async || {
                let status = daemon.status().await;
                let mut findings = status["watchdog"].as_array()?.iter();
                findings
                    .find(|finding| finding["kind"] == "store_mended")
                    .map(drop)
            },
        )
        .await;
        client.open("new", "echo").await;
        assert_eq!(
            client.chat("new", "hi").await.said(),
            ["#1 user: hi"],
            "{kind}"
        );
    }
}
