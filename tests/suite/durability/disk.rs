//! Disks that fail in the middle of a restart: the restart is abandoned with its reason, and the
//! old worker continues to serve. Requires root, to mount disks; without it the tests are skipped,
//! with a message.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use abide_tests::{FakeModel, Posted, Refused, Sent, Setup, until};
use serde_json::json;

use crate::restarts::phases::Play;

/// Room for a store with the smallest write-ahead log and the space that it reserves.
const DISK_BYTES: u64 = 64 << 20;

/// A small disk of its own, mounted in a temporary folder.
struct Disk {
    folder: tempfile::TempDir,
    /// The image file; `None` if the disk is in memory.
    image: Option<PathBuf>,
}

impl Disk {
    /// A disk in memory, which can be filled.
    fn in_memory() -> Result<Self, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let disk = Self {
            folder,
            image: None,
        };
        disk.mount().map(|()| disk)
    }

    /// A disk in a file, whose file system can be made to fail as a disk does.
    fn in_a_file() -> Result<Self, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let image = folder.path().join("image");
        let file = File::create(&image).expect("the folder is ours");
        file.set_len(DISK_BYTES).expect("a sparse file");
        run("mkfs.ext4", &["-q", "-F", text(&image)])?;
        let disk = Self {
            folder,
            image: Some(image),
        };
        disk.mount().map(|()| disk)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn mount(&self) -> Result<(), String> {
        let path = self.path();
        fs::create_dir_all(&path).expect("the folder is ours");
        match &self.image {
            None => {
                let size = format!("size={DISK_BYTES}");
                run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", text(&path)])
            }
            Some(image) => {
                let how = "loop,errors=remount-ro";
                run("mount", &["-o", how, text(image), text(&path)])
            }
        }
    }

    /// Fills the disk to the last byte.
    fn fill(&self) {
        let mut file = File::create(self.path().join("filler")).expect("the disk has room");
        let mut piece = vec![1; 1 << 20];
        while !piece.is_empty() {
            if file.write_all(&piece).is_err() {
                piece.truncate(piece.len() / 2);
            }
        }
    }

    fn free(&self) {
        fs::remove_file(self.path().join("filler")).expect("it was filled");
    }

    /// Aborts the file system: it rejects all further writes, also to files that are already open.
    fn fail(&self) {
        let failed = run("mount", &["-o", "remount,abort", text(&self.path())]);
        failed.expect("root may");
    }

    /// Repairs the file system as an operator would.
    fn repair(&self) {
        let image = self.image.as_ref().expect("memory does not fail");
        run("umount", &[text(&self.path())]).expect("nobody uses it");
        // Exit codes up to 2 report faults that were corrected.
        let checked = Command::new("e2fsck").args(["-fy", text(image)]).output();
        let checked = checked.expect("it belongs to mkfs.ext4");
        assert!(checked.status.code() <= Some(2), "{checked:?}");
        self.mount().expect("it could be mounted before");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, because the daemon of a failed test may have files open. Perhaps nothing is
        // mounted.
        let _ = run("umount", &["-l", text(&self.path())]);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

/// Returns the disk; without one, prints why the test is skipped.
fn had(disk: Result<Disk, String>) -> Option<Disk> {
    disk.inspect_err(|reason| eprintln!("SKIPPED, for no disk can be mounted: {reason}"))
        .ok()
}

/// Starts a daemon on that disk, and a drain that waits for a turn. Returns the daemon and its
/// worker.
async fn draining_on(disk: &Disk) -> (Play, i32) {
    let model = FakeModel::start().await;
    let setup = Setup {
        data_dir: text(&disk.path().join("data")).to_owned(),
        daemon: vec!["disk_reserve = \"0B\"".to_owned()],
        rest: vec!["[store]\nwal = \"1MiB\"".to_owned()],
        ..Setup::default().assistant(&model).grace("30s")
    };
    let mut play = Play::on(setup, model).await;
    let worker = play.daemon.worker_pid().await;
    play.drain().await;
    (play, worker)
}

/// Sends messages until none is accepted any more: a store can write for a while on a full disk, to
/// space that it has allocated before.
async fn use_up(play: &mut Play) {
    for n in 0.. {
        let text = format!("{n} {}", "x".repeat(60_000));
        match play.client.say("other", &text, None).await {
            Ok(Posted { message, .. }) => play.other.push(Sent { message, text }),
            Err(Refused::Status(reply)) => {
                assert_eq!(reply.status, 507, "{reply:?}");
                return;
            }
            Err(Refused::Trouble(trouble)) => panic!("it is answered, not {trouble:?}"),
        }
    }
}

/// Checks that the restart is abandoned, that the old worker serves and reports why, and that
/// nothing new is acknowledged.
async fn goes_on(play: &Play, worker: i32) {
    let status = until("the restart to be given up", async || {
        let status = play.daemon.status().await;
        let error = status["config"]["last_error"].as_str()?;
        error.contains("the store takes no write").then_some(status)
    })
    .await;
    assert_eq!(status["generation"], play.old);
    assert_eq!(status["state"], "serving");
    assert!(status["drain"].is_null(), "{status}");
    assert_eq!(play.daemon.worker_pid().await, worker);
    let record = play.daemon.restart_record(play.old + 1).await;
    let record = record.expect("what cannot be put down is told from memory");
    assert_eq!(record["status"], "refused", "{record}");
    let line = json!({"text": "nowhere to put it"});
    let posted = play.client.post("/v1/sessions/other/messages", &line).await;
    let posted = posted.expect("it is answered");
    assert!(matches!(posted.status, 500..600), "{posted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_in_a_drain_has_the_restart_wait() {
    let Some(disk) = had(Disk::in_memory()) else {
        return;
    };
    let (mut play, worker) = draining_on(&disk).await;
    disk.fill();
    use_up(&mut play).await;
    play.model.release("w");
    goes_on(&play, worker).await;
    disk.free();
    // The refused change is then applied without another request.
    play.check().await;
    assert!(play.daemon.generation().await > play.old);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_turns_read_only_in_a_drain_stops_nothing_but_the_restart() {
    let Some(disk) = had(Disk::in_a_file()) else {
        return;
    };
    let (mut play, worker) = draining_on(&disk).await;
    disk.fail();
    play.model.release("w");
    goes_on(&play, worker).await;
    play.daemon.stop().await;
    disk.repair();
    play.daemon.start_again().await;
    play.check().await;
}
