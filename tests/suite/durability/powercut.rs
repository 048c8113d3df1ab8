//! Power cuts: first that the simulation discards unsynced data and nothing else, then that the
//! daemon loses nothing that it has acknowledged, and refuses no start. `ABIDE_CUTS` changes the number
//! of cuts, `ABIDE_SEED` what is left of unsynced data; `ABIDE_KEEP` names a folder that gets a copy of
//! what the last cut has left.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use abide_tests::{
    Account, Client, Daemon, Losses, PATIENCE, PowerCut, Refused, Sent, Setup, until,
};
use rand::Rng;
use tokio::task::JoinSet;

use crate::backup::copy;

use self::scenes::{BUSY, OLD, PowerCutScene, SCENES, UNSEEN};

mod scenes;

/// The environment variable that names the scene for a child process.
const ROLE: &str = "ABIDE_POWERCUT_ROLE";
/// The line that the child prints after the scene.
const DONE: &str = "the scene is over";

/// Not a test, but the entry point of the child processes that other tests start. It waits to be
/// killed.
#[test]
fn role() {
    let Some(name) = env::var_os(ROLE) else {
        return;
    };
    let mut scenes = SCENES.iter().chain(UNSEEN).chain([&BUSY]);
    let scene = scenes.find(|scene| scene.name == name);
    let folder = env::var_os("ABIDE_POWERCUT_DIR").expect("given with the role");
    (scene.expect("scenes are named once").act)(Path::new(&folder));
    println!("\n{DONE}");
    loop {
        thread::park();
    }
}

/// Plays a scene in a child process, which then waits to be killed.
fn start(scene: &PowerCutScene, folder: &Path, power: &PowerCut) -> Child {
    let (_, module) = module_path!().split_once("::").expect("it is a module");
    let mut child = Command::new(env::current_exe().expect("a process knows its executable"))
        .args(["--exact", "--nocapture", &format!("{module}::role")])
        .current_dir(folder)
        .envs(power.env())
        .env(ROLE, scene.name)
        .stdout(Stdio::piped())
        .spawn()
        .expect("tests can be run");
    let output = BufReader::new(child.stdout.take().expect("it is piped"));
    let done = output
        .lines()
        .any(|line| line.is_ok_and(|line| line == DONE));
    assert!(done, "{}", scene.name);
    child
}

/// Plays a scene, and cuts the power.
fn play(scene: &PowerCutScene, folder: &Path, power: &mut PowerCut) -> Losses {
    play_and(scene, folder, power, PowerCut::cut)
}

fn play_and(
    scene: &PowerCutScene,
    folder: &Path,
    power: &mut PowerCut,
    cut: impl FnOnce(&mut PowerCut) -> Losses,
) -> Losses {
    let mut child = start(scene, folder, power);
    let losses = catch_unwind(AssertUnwindSafe(|| cut(power)));
    child.wait().expect("the child is ours");
    losses.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Collects the whole content of a folder.
fn content(folder: &Path, prefix: &str, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        let kind = entry.file_type().unwrap();
        let text = if kind.is_dir() {
            content(&entry.path(), &format!("{path}/"), found);
            "/".to_owned()
        } else if kind.is_symlink() {
            format!("-> {}", fs::read_link(entry.path()).unwrap().display())
        } else {
            fs::read_to_string(entry.path()).unwrap()
        };
        found.insert(path, text);
    }
}

#[test]
fn a_cut_leaves_what_was_synced() {
    for scene in SCENES {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fs::write(folder.join("old"), OLD).unwrap();
        let mut power = PowerCut::new(folder);
        let losses = play(scene, folder, &mut power);
        let mut left = BTreeMap::new();
        content(folder, "", &mut left);
        let expected = scene.left.iter();
        let expected = expected.map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
        assert_eq!(left, expected.collect(), "{}: {losses:?}", scene.name);
        assert!(losses.records > 0, "{}", scene.name);
        // A second cut has nothing left to discard.
        assert_eq!(power.cut(), Losses::default(), "{}", scene.name);
    }
}

#[test]
fn a_cut_that_leaves_parts_leaves_any_of_what_was_not_synced_and_all_that_was() {
    type Left = &'static [(&'static str, &'static str)];
    let all_left: [(&str, &[Left]); 3] = [
        (
            "an append is kept up to the last sync",
            &[
                &[("old", "0123456789synced")],
                &[("old", "0123456789syncednot")],
                // The size is that of after the append, and its block is that of before.
                &[("old", "0123456789synced\0\0\0")],
            ],
        ),
        (
            "a replacement is undone without a sync of the folder",
            &[
                &[("old", OLD)],
                &[("new", "synced"), ("old", OLD)],
                &[("old", "synced")],
            ],
        ),
        (
            "a removed file is there again without a sync of the folder",
            &[&[("old", OLD)], &[]],
        ),
    ];
    for (name, expected) in all_left {
        let scene = SCENES.iter().find(|scene| scene.name == name);
        let scene = scene.expect("it is one of the scenes");
        let left = |seed: u64| {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("old"), OLD).unwrap();
            let mut power = PowerCut::new(folder.path());
            play_and(scene, folder.path(), &mut power, |power| {
                power.cut_leaving_parts(seed)
            });
            let mut left = BTreeMap::new();
            content(folder.path(), "", &mut left);
            left
        };
        let expected = expected.iter().map(|left| {
            let left = left.iter();
            left.map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
                .collect()
        });
        let expected: BTreeSet<BTreeMap<String, String>> = expected.collect();
        let found: BTreeSet<_> = (0..24).map(&left).collect();
        assert_eq!(found, expected, "{name}");
        assert_eq!(left(7), left(7), "{name}: the same seed leaves the same");
    }
}

#[test]
fn a_cut_says_what_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("old"), OLD).unwrap();
    let mut power = PowerCut::new(folder.path());
    let mut losses = Vec::new();
    for start in ["an append", "a file is lost", "a file is empty"] {
        let mut scenes = SCENES.iter();
        let scene = scenes.find(|scene| scene.name.starts_with(start)).unwrap();
        let lost = play(scene, folder.path(), &mut power);
        losses.push((lost.bytes, lost.files, lost.entries));
    }
    assert_eq!(losses, [(3, 0, 0), (0, 1, 1), (10, 0, 0)]);
}

#[test]
fn a_cut_fails_for_what_it_cannot_know() {
    for scene in UNSEEN {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("old"), OLD).unwrap();
        let mut power = PowerCut::new(folder.path());
        let cut = AssertUnwindSafe(|| play(scene, folder.path(), &mut power));
        let panic = catch_unwind(cut).expect_err(scene.name);
        let text = panic.downcast_ref::<String>().expect("it has a text");
        assert!(text.contains(scene.name), "{text}");
    }
}

#[test]
fn a_kill_comes_between_two_operations() {
    let folder = tempfile::tempdir().unwrap();
    let mut power = PowerCut::new(folder.path());
    for _ in 0..20 {
        let mut child = start(&BUSY, folder.path(), &power);
        power.kill(child.id().cast_signed());
        child.wait().expect("the child is ours");
    }
    // Checks that the log is complete and correct.
    let lost = power.cut();
    assert!(lost.records > 0, "{lost:?}");
}

/// Sends one message after the other in a session, and retries each under its key until it is
/// acknowledged.
async fn talk(
    client: Client,
    id: String,
    filler_bytes: usize,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
) -> Vec<Sent> {
    let mut sent = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let key = format!("{id} says {}", sent.len());
        // Of many lengths: what is written begins and ends anywhere in a sector.
        let text = format!("{key}{}", ".".repeat(sent.len() * 977 % filler_bytes));
        let started = Instant::now();
        let message = loop {
            match client.say(&id, &text, Some(&key)).await {
                Ok(posted) => break posted.message,
                // The power is off.
                Err(Refused::Trouble(_)) => {}
                Err(Refused::Status(reply)) if matches!(reply.status, 429 | 503) => {}
                Err(other) => panic!("{key:?} was not acknowledged: {other:?}"),
            }
            assert!(started.elapsed() < PATIENCE, "{key:?} was not acknowledged");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        acknowledged.fetch_add(1, Ordering::Relaxed);
        sent.push(Sent { message, text });
    }
    sent
}

/// How a daemon's power is cut again and again.
struct CutPlan<'a> {
    cuts: u64,
    /// The seed of the first cut that leaves parts of what was not synced; the next ones count on.
    /// `None` leaves nothing of it.
    parts: Option<u64>,
    /// Further lines of the configuration's `[daemon]`, and of its end.
    lines: [&'a [&'a str]; 2],
    /// The messages are shorter than this.
    filler_bytes: usize,
}

impl CutPlan<'_> {
    /// The power is cut as often as `ABIDE_CUTS` says, or a few times, and nothing is left of what was
    /// not synced.
    fn clean() -> Self {
        Self {
            cuts: number("ABIDE_CUTS").unwrap_or(5),
            parts: None,
            lines: [&[], &[]],
            filler_bytes: 1,
        }
    }

    fn cut(&self, power: &mut PowerCut, n: u64) -> Losses {
        match self.parts {
            Some(seed) => power.cut_leaving_parts(seed + n),
            None => power.cut(),
        }
    }
}

/// Returns the number in a variable of the environment.
fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().expect("the variable is a number"))
}

/// Runs a daemon under load and cuts its power again and again: nothing that it has acknowledged
/// may be missing, and each start must succeed. `prepare` creates the content of the disk before the
/// first start; `kill` runs before every second cut.
async fn cut_under_load(
    plan: CutPlan<'_>,
    prepare: impl FnOnce(&Path),
    kill: impl AsyncFn(&PowerCut, &Daemon),
) {
    const CLIENTS: u64 = 8;
    let folder = tempfile::tempdir().expect("the machine has a folder for temporary files");
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).expect("the folder is ours");
    prepare(&disk);
    let mut power = PowerCut::new(&disk);
    let [daemon, rest] = plan.lines.map(|lines| {
        let lines = lines.iter();
        lines.map(|line| (*line).to_owned()).collect()
    });
    let setup = Setup {
        data_dir: "disk/data".to_owned(),
        env: power.env(),
        daemon,
        rest,
        ..Setup::default()
    };
    let mut daemon = Daemon::start_in(folder, setup).await;
    let client = daemon.client();
    let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let mut talkers = JoinSet::new();
    for n in 0..CLIENTS {
        let id = format!("talker {n}");
        client.open(&id, "echo").await;
        let talk = talk(
            daemon.client(),
            id.clone(),
            plan.filler_bytes,
            stop.clone(),
            acknowledged.clone(),
        );
        talkers.spawn(async move { (id, talk.await) });
    }
    // Each daemon acknowledges something before its power is cut, and the moment is random.
    let go_on = async || {
        let worth = rand::rng().random_range(1..=20 * CLIENTS);
        let enough = acknowledged.load(Ordering::Relaxed) + worth;
        until("the load to go on", async || {
            (acknowledged.load(Ordering::Relaxed) >= enough).then_some(())
        })
        .await;
    };
    let mut lost = Losses::default();
    for n in 0..plan.cuts {
        go_on().await;
        if n % 2 == 1 {
            kill(&power, &daemon).await;
            go_on().await;
        }
        let now = plan.cut(&mut power, n);
        lost.records += now.records;
        lost.bytes += now.bytes;
        daemon.ended().await;
        if let Some(kept) = env::var_os("ABIDE_KEEP") {
            keep(&disk, &PathBuf::from(kept));
        }
        start_after(&mut daemon, plan.parts.map(|seed| seed + n)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut account = Account::default();
    for (id, sent) in talkers.join_all().await {
        account.take(&client, &id, &sent).await;
    }
    account.assert_clean();
    assert!(account.acknowledged > plan.cuts, "{account:?}");
    assert!(lost.records > 0 && lost.bytes > 0, "{lost:?}");
    println!(
        "{} power cuts took {} unsynced bytes, none of {} acknowledged messages",
        plan.cuts, lost.bytes, account.acknowledged
    );
}

/// Replaces the content of `kept` by a copy of the disk.
fn keep(disk: &Path, kept: &Path) {
    if kept.exists() {
        fs::remove_dir_all(kept).expect("it is the copy of an earlier cut");
    }
    copy(disk, kept);
}

/// Starts the daemon after a power cut, and waits until it serves: a refused start is no state to be
/// in after a power cut.
async fn start_after(daemon: &mut Daemon, seed: Option<u64>) {
    daemon.spawn_again();
    let client = daemon.client();
    until(
        &format!("the daemon to serve after a cut (seed {seed:?})"),
        async || {
            if let Some(status) = daemon.exited() {
                panic!("seed {seed:?}: the daemon ended with {status}");
            }
            let reply = client.get("/v1/daemon").await.ok()?;
            let state = &reply.body["state"];
            let why = &reply.body["watchdog"];
            assert!(state != "refused", "seed {seed:?}: {why}");
            (reply.status == 200 && state == "serving").then_some(())
        },
    )
    .await;
}

fn make_data_folder(disk: &Path) {
    fs::create_dir(disk.join("data")).expect("the folder is ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_lose_nothing_acknowledged() {
    cut_under_load(CutPlan::clean(), make_data_folder, async |_, _| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_lose_nothing_in_a_data_folder_that_the_daemon_has_made() {
    cut_under_load(CutPlan::clean(), |_| {}, async |_, _| {}).await;
}

/// The next worker may read back data that is only in the page cache.
async fn kill_worker(power: &PowerCut, daemon: &Daemon) {
    power.kill(daemon.worker_pid().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_lose_nothing_that_outlived_a_killed_worker() {
    cut_under_load(CutPlan::clean(), make_data_folder, kill_worker).await;
}

/// Also with a log that is full every few messages, so that the power fails while tables and the
/// MANIFEST are written, and a probation that ends before the next cut, which raises the format.
#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_that_leave_parts_lose_nothing_and_no_start_is_refused() {
    /// The cuts of one data folder, which grows with each: its size is the time that a cut takes.
    const CUTS_OF_A_FOLDER: u64 = 25;
    let cuts = number("ABIDE_CUTS").unwrap_or(8);
    let first = number("ABIDE_SEED").unwrap_or_else(|| rand::rng().random_range(0..1 << 32));
    println!("{cuts} cuts from seed {first} on");
    for done in (0..cuts).step_by(CUTS_OF_A_FOLDER as usize) {
        let plan = CutPlan {
            cuts: (cuts - done).min(CUTS_OF_A_FOLDER),
            parts: Some(first + done),
            lines: [&["probation = \"100ms\""], &["[store]", "wal = \"1MiB\""]],
            filler_bytes: 6000,
        };
        cut_under_load(plan, |_| {}, kill_worker).await;
    }
}
