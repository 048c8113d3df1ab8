use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::{Observed, Timing, Watch};
use super::Folder;

const TIMING: Timing = Timing {
    debounce: Duration::from_millis(60),
    poll: Duration::from_secs(60),
};
/// With which only polling can notice anything in time.
const POLLING: Timing = Timing {
    debounce: Duration::from_millis(60),
    poll: Duration::from_millis(100),
};
/// How long a report may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

struct Scene {
    folder: Folder,
    watch: Watch,
}

impl Scene {
    /// A watched file that holds `one`, and `echo.wasm` beside it.
    fn new(timing: Timing) -> Self {
        let folder = Folder::new();
        fs::write(folder.file(), "one").expect("writes");
        let watch = watch(&folder.file(), &[folder.path().join("echo.wasm")], timing);
        Self { folder, watch }
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).expect("writes");
    }

    /// Writes beside and renames over, as editors do.
    fn replace(&self, name: &str, text: &str) {
        self.put("draft", text);
        let path = self.folder.path();
        fs::rename(path.join("draft"), path.join(name)).expect("renames");
    }

    async fn next(&mut self) -> Observed {
        tokio::time::timeout(PATIENCE, self.watch.recv())
            .await
            .expect("a report")
    }

    /// Asserts that the next report is of `text`: nothing that came before was reported.
    async fn next_is(&mut self, text: &str) -> Observed {
        let seen = self.next().await;
        assert_eq!(String::from_utf8_lossy(&seen.bytes), text);
        seen
    }

    /// Long enough for a wrong report to be made: it would then be the next one.
    async fn settle(&self) {
        tokio::time::sleep(TIMING.debounce * 5).await;
    }
}

fn watch(file: &Path, others: &[PathBuf], timing: Timing) -> Watch {
    let running = Observed::now(file, others).expect("reads");
    Watch::start(file.to_owned(), running, timing).expect("starts")
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
    // A slow machine may see a pause between two pieces as the end; the last report is the whole.
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
    // What the link leads to may also be written in place.
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
    let watch = Watch::start(folder.file(), running, TIMING).expect("starts");
    let mut scene = Scene { watch, folder };
    scene.next_is("two").await;
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
