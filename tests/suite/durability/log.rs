//! A log that nobody reads, or that cannot be written: service goes on, and the daemon ends when it
//! is asked to.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use abide_tests::{Client, Daemon, Plugin, Setup, until};
use rustix::pipe::fcntl_setpipe_size;
use serde_json::Value;

/// The number of lost lines that shows that the worker's queue is full, or refused.
const LOST: u64 = 100;
/// What follows the count in the line that stands where lines are missing.
const GAP: &str =
    " lines of the log are missing here: nothing read them, or they could not be written";
/// The lines that one turn logs.
const LINES: u32 = 200;

/// A daemon with a talkative guest, whose standard error is this.
async fn start(stderr: OwnedFd, daemon: &[&str]) -> Daemon {
    let setup = Setup {
        stderr: Some(Arc::new(stderr)),
        daemon: daemon.iter().map(|line| (*line).to_owned()).collect(),
        ..Setup::default()
    };
    let daemon = Daemon::start(setup.plugin(Plugin::new("hostile"))).await;
    daemon.client().open("talkative", "hostile").await;
    daemon
}

/// Returns the number of lines that the present worker has lost.
async fn lines_lost(client: &Client) -> u64 {
    let metrics = client.get("/metrics").await.expect("an answer").body;
    let text = metrics.as_str().expect("metrics are text");
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("abide_log_lines_lost_total "));
    let value = value.unwrap_or_else(|| panic!("no counter of lost lines in\n{text}"));
    value.parse().expect("a counter is a number")
}

/// Lets the guest log until lines are lost.
async fn log_until_lines_are_lost(client: &Client) {
    until("lost lines", async || {
        client.chat("talkative", &format!("logs {LINES}")).await;
        (lines_lost(client).await >= LOST).then_some(())
    })
    .await;
}

/// Loses lines, workers and all patience with the reader: each answer comes, and the daemon stops
/// within its deadline.
async fn goes_on_and_stops(mut daemon: Daemon) {
    let client = daemon.client();
    log_until_lines_are_lost(&client).await;
    for n in 0..5 {
        daemon.kill_worker().await;
        client.open(&format!("after-death-{n}"), "echo").await;
        let posted = client
            .chat(&format!("after-death-{n}"), "still there?")
            .await;
        assert_eq!(posted.said(), ["#1 user: still there?"]);
    }
    log_until_lines_are_lost(&client).await;
    daemon.restart_by_edit().await;
    client.chat("after-death-0", "and after a restart?").await;
    let asked = Instant::now();
    let status = daemon.stop().await;
    assert!(status.success(), "ended with {status}");
    // The grace period is 5 s, and no turn runs.
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "took {:?}",
        asked.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_pipe_that_nobody_reads_stops_nothing() {
    let (read, write) = std::io::pipe().expect("descriptors are not exhausted");
    fcntl_setpipe_size(&write, 4096).expect("a smaller pipe is always allowed");
    goes_on_and_stops(start(write.into(), &[]).await).await;
    drop(read);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_on_a_full_disk_stops_nothing() {
    let full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("Linux has it");
    goes_on_and_stops(start(full.into(), &[]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_reader_has_gone_stops_nothing() {
    let (read, write) = std::io::pipe().expect("descriptors are not exhausted");
    drop(read);
    goes_on_and_stops(start(write.into(), &[]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_read_again_says_how_many_lines_are_missing() {
    let (read, write) = std::io::pipe().expect("descriptors are not exhausted");
    fcntl_setpipe_size(&write, 4096).expect("a smaller pipe is always allowed");
    let mut daemon = start(write.into(), &["log_format = \"json\""]).await;
    let client = daemon.client();
    log_until_lines_are_lost(&client).await;
    daemon.kill_worker().await;
    client.chat("talkative", "logs 1").await;
    log_until_lines_are_lost(&client).await;
    let lost = lines_lost(&client).await;

    // The harness holds an end of the pipe for writing as well.
    let reader = std::thread::spawn(move || {
        let lines = BufReader::new(read).lines().map_while(Result::ok);
        lines
            .take_while(|line| !line.contains("the last line"))
            .collect::<Vec<_>>()
    });
    until("the gap's line", async || {
        let _ = client.ask("talkative", "fail the last line", None).await;
        reader.is_finished().then_some(())
    })
    .await;
    let lines = reader.join().expect("it only reads");
    let messages: Vec<String> = lines
        .iter()
        .map(|line| {
            let line: Value = serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("{error} in the line {line}"));
            let message = line["fields"]["message"].as_str();
            message.expect("each line has a message").to_owned()
        })
        .collect();
    let told = messages
        .iter()
        .filter_map(|text| text.strip_suffix(GAP)?.parse().ok())
        .max();
    let told: u64 = told.unwrap_or_else(|| panic!("no gap is told in {messages:#?}"));
    assert!(told >= lost, "{told} told, {lost} lost");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_supervisors_lines_are_json_where_the_workers_are() {
    let setup = Setup {
        daemon: vec!["log_format = \"json\"".to_owned()],
        ..Setup::default()
    };
    let mut daemon = Daemon::start(setup).await;
    let worker = daemon.worker_pid().await;
    daemon.kill_worker().await;
    daemon.client().open("a", "echo").await;
    daemon.stop().await;
    let log = fs::read_to_string(daemon.folder().join("stderr.log")).expect("it was written");
    let lines: Vec<Value> = log
        .lines()
        .map(|line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in the line {line}"))
        })
        .collect();
    let death = lines
        .iter()
        .find(|line| line["target"] == "abide::supervisor")
        .unwrap_or_else(|| panic!("the supervisor logged nothing in\n{log}"));
    let text = death["fields"]["message"].as_str().unwrap_or_default();
    assert!(text.starts_with(&format!("worker {worker} ")), "{text}");
    for key in ["timestamp", "level"] {
        assert!(death[key].is_string(), "{death}");
    }
}
