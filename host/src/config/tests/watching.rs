use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::watch::BURST;
use super::super::{ConfigWatch, Observed, Timing};
use super::Folder;

pub(super) const TIMING: Timing = Timing {
    debounce: Duration::from_millis(60),
    poll: Duration::from_secs(60),
};
/// Polls often enough to detect a change in time without an event.
pub(super) const POLLING: Timing = Timing {
    debounce: Duration::from_millis(60),
    poll: Duration::from_millis(100),
};
/// How long a report may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Scene {
    pub(super) folder: Folder,
    pub(super) watch: ConfigWatch,
}

impl Scene {
    /// Watches a file that holds `one`, with `echo.wasm` beside it.
    fn new(timing: Timing) -> Self {
        let folder = Folder::new();
        fs::write(folder.file(), "one").expect("writes");
        let watch = watch(&folder.file(), &[folder.path().join("echo.wasm")], timing);
        Self { folder, watch }
    }

    pub(super) fn put(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).expect("writes");
    }

    /// Writes a draft and renames it over the file, as editors do.
    pub(super) fn replace(&self, name: &str, text: &str) {
        self.put("draft", text);
        let path = self.folder.path();
        fs::rename(path.join("draft"), path.join(name)).expect("renames");
    }

    pub(super) async fn next(&mut self) -> Observed {
        tokio::time::timeout(PATIENCE, self.watch.recv())
            .await
            .expect("a report")
    }

    /// Asserts that the next report is of `text`, so that nothing written before was reported.
    pub(super) async fn next_is(&mut self, text: &str) -> Observed {
        let seen = self.next().await;
        assert_eq!(String::from_utf8_lossy(&seen.bytes), text);
        seen
    }

    /// Waits long enough for a wrong report, which would then be the next one.
    pub(super) async fn settle(&self) {
        tokio::time::sleep(TIMING.debounce * 5).await;
    }
}

fn watch(file: &Path, others: &[PathBuf], timing: Timing) -> ConfigWatch {
    let running = Observed::now(file, others).expect("reads");
    ConfigWatch::start(file.to_owned(), running, timing).expect("starts")
}

#[tokio::test]
async fn a_rename_over_the_file_is_seen_each_time() {
    let mut scene = Scene::new(TIMING);
    for text in ["two", "three", "four"] {
        scene.replace("abide.toml", text);
        scene.next_is(text).await;
    }
}

#[tokio::test]
async fn a_file_written_in_pieces_is_reported_whole() {
    let mut scene = Scene::new(TIMING);
    use std::io::Write as _;
    let mut file = fs::File::create(scene.folder.file()).expect("truncates");
    let mut whole = String::new();
    for piece in 0..20 {
        let piece = format!("line {piece}\n");
        file.write_all(piece.as_bytes()).expect("writes");
        whole.push_str(&piece);
        tokio::time::sleep(TIMING.debounce / 6).await;
    }
    drop(file);
    // A slow machine may report a partial write that paused; only the last report must be complete.
    let mut seen = scene.next().await;
    while seen.bytes.len() < whole.len() {
        seen = scene.next().await;
    }
    assert_eq!(String::from_utf8_lossy(&seen.bytes), whole);
}

#[tokio::test]
async fn a_swapped_link_is_seen() {
    let folder = Folder::new();
    let path = folder.path();
    for (version, text) in [("v1", "one"), ("v2", "two"), ("v3", "three")] {
        fs::create_dir(path.join(version)).expect("creates");
        fs::write(path.join(version).join("abide.toml"), text).expect("writes");
    }
    let swap = |version: &str| {
        std::os::unix::fs::symlink(version, path.join("..new")).expect("links");
        fs::rename(path.join("..new"), path.join("..data")).expect("renames");
    };
    swap("v1");
    std::os::unix::fs::symlink("..data/abide.toml", folder.file()).expect("links");
    let watch = watch(&folder.file(), &[], TIMING);
    let mut scene = Scene {
        watch,
        folder: Folder::new(),
    };
    swap("v2");
    scene.next_is("two").await;
    fs::remove_dir_all(path.join("v1")).expect("removes");
    swap("v3");
    scene.next_is("three").await;
    // The link's target may also be written in place.
    fs::write(path.join("v3/abide.toml"), "four").expect("writes");
    scene.next_is("four").await;
}

#[tokio::test]
async fn a_file_that_goes_and_comes_back_is_survived() {
    let mut scene = Scene::new(TIMING);
    let file = scene.folder.file();
    fs::remove_file(&file).expect("removes");
    scene.settle().await;
    assert!(scene.watch.missing().contains(&file));
    scene.put("abide.toml", "one");
    scene.settle().await;
    assert!(scene.watch.missing().is_empty());
    fs::remove_file(&file).expect("removes");
    scene.settle().await;
    scene.put("abide.toml", "two");
    scene.next_is("two").await;
}

#[tokio::test]
async fn a_folder_that_goes_and_comes_back_is_survived() {
    let folder = Folder::new();
    let inner = folder.path().join("etc");
    let file = inner.join("abide.toml");
    fs::create_dir(&inner).expect("creates");
    fs::write(&file, "one").expect("writes");
    let watch = watch(&file, &[], POLLING);
    let mut scene = Scene { watch, folder };
    fs::remove_dir_all(&inner).expect("removes");
    scene.settle().await;
    fs::create_dir(&inner).expect("creates");
    fs::write(&file, "two").expect("writes");
    scene.next_is("two").await;
    fs::write(&file, "three").expect("writes");
    scene.next_is("three").await;
}

#[tokio::test]
async fn the_same_content_is_no_change() {
    let mut scene = Scene::new(TIMING);
    scene.put("abide.toml", "one");
    scene.replace("abide.toml", "one");
    scene.put("unrelated.log", "noise");
    let now = std::time::SystemTime::now();
    let file = fs::File::options().append(true).open(scene.folder.file());
    file.expect("opens").set_modified(now).expect("touches");
    scene.settle().await;
    scene.put("abide.toml", "two");
    scene.next_is("two").await;
}

#[tokio::test]
async fn what_is_taken_back_at_once_is_no_change() {
    let mut scene = Scene::new(Timing {
        debounce: Duration::from_millis(1500),
        ..TIMING
    });
    scene.put("abide.toml", "oops");
    tokio::time::sleep(Duration::from_millis(100)).await;
    scene.put("abide.toml", "one");
    tokio::time::sleep(Duration::from_millis(1600)).await;
    scene.put("abide.toml", "two");
    scene.next_is("two").await;
}

#[tokio::test]
async fn files_that_are_named_count() {
    let mut scene = Scene::new(TIMING);
    let before = Observed::now(
        &scene.folder.file(),
        &[scene.folder.path().join("echo.wasm")],
    );
    let before = before.expect("reads");
    scene.replace("echo.wasm", "other bytes");
    let seen = scene.next_is("one").await;
    let changed: Vec<_> = seen.changed_since(&before).into_iter().collect();
    assert_eq!(changed, [scene.folder.path().join("echo.wasm")]);
    assert_ne!(seen.digest(), before.digest());
    assert_eq!(seen.config, before.config);
}

#[tokio::test]
async fn a_named_file_that_was_missing_counts_once_it_comes() {
    let mut scene = Scene::new(TIMING);
    let coming = scene.folder.path().join("coming.wasm");
    let known = Observed::now(&scene.folder.file(), [&coming]).expect("reads");
    assert_eq!(known.others[&coming], None);
    scene.watch.rearm(known);
    scene.put("coming.wasm", "here");
    let seen = scene.next_is("one").await;
    assert!(seen.others[&coming].is_some());
}

#[tokio::test]
async fn a_change_before_the_start_is_not_lost() {
    let folder = Folder::new();
    fs::write(folder.file(), "one").expect("writes");
    let running = Observed::now(&folder.file(), []).expect("reads");
    fs::write(folder.file(), "two").expect("writes");
    let watch = ConfigWatch::start(folder.file(), running, TIMING).expect("starts");
    let mut scene = Scene { watch, folder };
    scene.next_is("two").await;
}

#[tokio::test]
async fn a_link_far_away_is_seen_when_it_is_swapped() {
    let folder = Folder::new();
    let path = folder.path();
    for (version, text) in [("v1", "one"), ("v2", "two"), ("v3", "three")] {
        let release = path.join("mnt/releases").join(version);
        fs::create_dir_all(&release).expect("creates");
        fs::write(release.join("abide.toml"), text).expect("writes");
    }
    // The directory of the link in the middle is neither that of the file nor that of the final
    // target.
    let swap = |version: &str| {
        let to = format!("releases/{version}");
        std::os::unix::fs::symlink(to, path.join("mnt/new")).expect("links");
        fs::rename(path.join("mnt/new"), path.join("mnt/current")).expect("renames");
    };
    swap("v1");
    std::os::unix::fs::symlink("mnt/current/abide.toml", folder.file()).expect("links");
    let watch = watch(&folder.file(), &[], TIMING);
    let mut scene = Scene {
        watch,
        folder: Folder::new(),
    };
    for (version, text) in [("v2", "two"), ("v3", "three"), ("v1", "one")] {
        swap(version);
        scene.next_is(text).await;
    }
    fs::write(path.join("mnt/releases/v1/abide.toml"), "four").expect("writes");
    scene.next_is("four").await;
}

#[tokio::test]
async fn a_folder_made_anew_is_watched_anew() {
    let folder = Folder::new();
    let inner = folder.path().join("etc");
    let file = inner.join("abide.toml");
    let make = |text: &str| {
        fs::create_dir(&inner).expect("creates");
        fs::write(&file, text).expect("writes");
    };
    make("one");
    let watch = watch(&file, &[], TIMING);
    let mut scene = Scene { watch, folder };
    for (made, written) in [("two", "three"), ("four", "five"), ("six", "seven")] {
        // Many file systems reuse the old directory's inode number.
        fs::remove_dir_all(&inner).expect("removes");
        make(made);
        scene.next_is(made).await;
        fs::write(&file, written).expect("writes");
        scene.next_is(written).await;
    }
}

/// The watch must not miss a folder that appears while it turns to the place where it was missing.
#[tokio::test]
async fn a_folder_that_appears_at_any_moment_is_watched() {
    let folder = Folder::new();
    let inner = folder.path().join("etc");
    let file = inner.join("abide.toml");
    fs::create_dir(&inner).expect("creates");
    fs::write(&file, "0").expect("writes");
    let watch = watch(&file, &[], TIMING);
    let mut scene = Scene { watch, folder };
    for round in 1..=40_u32 {
        fs::remove_dir_all(&inner).expect("removes");
        // Into the time in which the watch looks where the way now ends.
        std::thread::sleep(TIMING.debounce / BURST + Duration::from_micros(100) * (round % 10));
        fs::create_dir(&inner).expect("creates");
        std::thread::sleep(Duration::from_millis(2));
        fs::write(&file, round.to_string()).expect("writes");
        scene.next_is(&round.to_string()).await;
    }
}

#[tokio::test]
async fn what_is_no_file_for_a_while_is_unreadable_and_stops_nobody() {
    let mut scene = Scene::new(TIMING);
    let file = scene.folder.file();
    let plugin = scene.folder.path().join("echo.wasm");
    fs::remove_file(&file).expect("removes");
    fs::create_dir(&file).expect("creates");
    fs::remove_file(&plugin).expect("removes");
    // Opening a pipe for reading blocks until there is a writer.
    let mode = rustix::fs::Mode::RUSR;
    let pipe = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &plugin, pipe, mode, 0).expect("a pipe");
    scene.settle().await;
    let missing: Vec<_> = scene.watch.missing().into_iter().collect();
    assert_eq!(missing, [file.clone(), plugin.clone()]);
    fs::remove_dir(&file).expect("removes");
    std::os::unix::fs::symlink("abide.toml", &file).expect("links");
    scene.settle().await;
    scene.replace("abide.toml", "two");
    let seen = scene.next_is("two").await;
    assert_eq!(seen.others[&plugin], None);
    scene.replace("echo.wasm", "here");
    assert!(scene.next_is("two").await.others[&plugin].is_some());
}

#[tokio::test]
async fn a_file_that_is_far_too_large_is_not_read_to_its_end() {
    let mut scene = Scene::new(TIMING);
    scene.put("sparse", "");
    let sparse = scene.folder.path().join("sparse");
    let file = fs::File::options().append(true).open(&sparse);
    file.expect("opens").set_len(1 << 40).expect("grows");
    fs::rename(&sparse, scene.folder.file()).expect("renames");
    let seen = scene.next().await;
    assert!(seen.bytes.len() < 2 << 20);
    let error =
        crate::config::Config::parse(&seen.bytes, &scene.folder.file(), &Default::default());
    let error = error.expect_err("too large").to_string();
    assert!(error.contains("bytes"), "{error}");
}

#[tokio::test]
async fn large_files_are_read_again_only_when_touched_and_still_seen() {
    let mut scene = Scene::new(POLLING);
    let large = vec![b'a'; 2 << 20];
    fs::write(scene.folder.path().join("echo.wasm"), &large).expect("writes");
    scene.next_is("one").await;
    let mut other = large;
    other[7] = b'b';
    fs::write(scene.folder.path().join("echo.wasm"), &other).expect("writes");
    let seen = scene.next_is("one").await;
    let digest = seen.others[&scene.folder.path().join("echo.wasm")];
    assert_eq!(digest, Some(crate::domain::Digest::of(&other)));
}
