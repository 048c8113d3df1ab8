//! Tests that every way in which files are saved in practice is detected, by events alone and by
//! polling alone.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

use super::super::{ConfigWatch, Observed, Timing};
use super::Folder;
use super::watching::{POLLING, Scene, TIMING};
use crate::domain::Digest;

/// A way to save a text to a file.
type Save = fn(&Path, &str);

const WAYS: &[(&str, Save)] = &[
    ("renamed over", rename),
    ("truncated and written in pieces", in_pieces),
    ("a link, swapped", swap_link),
    ("deleted, and back after a while", delete),
    ("unreadable for a while", unreadable),
    ("touched before and after", touched),
    ("saved many times in a second", many_times),
    (
        "saved beside other files that change all the time",
        amid_noise,
    ),
    ("of the same size, with times of long ago", with_old_times),
];

/// Shorter than the debounce.
const MOMENT: Duration = Duration::from_millis(10);
/// Long enough for a scan.
const A_WHILE: Duration = Duration::from_millis(200);

fn pause(time: Duration) {
    std::thread::sleep(time);
}

fn rename(file: &Path, text: &str) {
    let draft = file.with_extension("draft");
    fs::write(&draft, text).expect("writes");
    fs::rename(&draft, file).expect("renames");
}

fn in_pieces(file: &Path, text: &str) {
    let mut file = File::create(file).expect("truncates");
    for piece in text.as_bytes().chunks(2) {
        file.write_all(piece).expect("writes");
        pause(MOMENT);
    }
}

fn swap_link(file: &Path, text: &str) {
    let version = file.with_extension(text);
    fs::write(&version, text).expect("writes");
    let link = file.with_extension("link");
    symlink(&version, &link).expect("links");
    fs::rename(&link, file).expect("renames");
}

fn delete(file: &Path, text: &str) {
    fs::remove_file(file).expect("removes");
    pause(A_WHILE);
    fs::write(file, text).expect("writes");
}

/// Root can read every file: then the file is written in place, and the change is seen early.
fn unreadable(file: &Path, text: &str) {
    let mode = |mode| fs::set_permissions(file, Permissions::from_mode(mode)).expect("is ours");
    let mut open = File::options().write(true).open(file).expect("opens");
    mode(0);
    open.write_all(text.as_bytes()).expect("writes");
    open.set_len(text.len() as u64).expect("truncates");
    pause(A_WHILE);
    mode(0o600);
}

fn touched(file: &Path, text: &str) {
    touch(file, Duration::ZERO);
    fs::write(file, text).expect("writes");
    touch(file, Duration::ZERO);
}

fn touch(file: &Path, ago: Duration) {
    let file = File::options().append(true).open(file).expect("opens");
    let then = std::time::SystemTime::now() - ago;
    file.set_modified(then).expect("touches");
}

fn many_times(file: &Path, text: &str) {
    for n in 0..100 {
        fs::write(file, format!("draft {n}")).expect("writes");
        pause(MOMENT / 10);
    }
    rename(file, text);
}

fn amid_noise(file: &Path, text: &str) {
    let noise = |n: usize| {
        let other = file.with_extension(format!("log{}", n % 3));
        fs::write(other, format!("line {n}")).expect("writes");
        pause(MOMENT / 10);
    };
    (0..100).for_each(noise);
    rename(file, text);
    (0..100).for_each(noise);
}

fn with_old_times(file: &Path, text: &str) {
    rename(file, text);
    touch(file, Duration::from_secs(40 * 365 * 24 * 3600));
}

fn scene(file: &Path, named: &Path, folder: Folder, timing: Timing, deaf: bool) -> Scene {
    let running = Observed::now(file, [&named.to_owned()]).expect("reads");
    let start = if deaf {
        ConfigWatch::start_deaf
    } else {
        ConfigWatch::start
    };
    let watch = start(file.to_owned(), running, timing).expect("starts");
    Scene { folder, watch }
}

/// Saves `name` in that way twice, and checks that the last report is of what was saved last.
async fn check(name: &str, save: Save, deaf: bool) {
    let folder = Folder::new();
    let (file, named) = (folder.file(), folder.path().join("echo.wasm"));
    fs::write(&file, "one").expect("writes");
    fs::write(&named, "one").expect("writes");
    let timing = if deaf { POLLING } else { TIMING };
    let saved = folder.path().join(name);
    let mut scene = scene(&file, &named, folder, timing, deaf);
    for text in ["two", "six"] {
        let way = saved.clone();
        let save = tokio::task::spawn_blocking(move || save(&way, text));
        save.await.expect("it is saved");
        // A slow machine may report a partial write that paused; only the last report must be
        // complete.
        loop {
            let seen = scene.next().await;
            let digest = match saved == file {
                true => Some(seen.config),
                false => seen.others[&named],
            };
            if digest == Some(Digest::of(text.as_bytes())) {
                break;
            }
        }
    }
    // Nothing more is reported.
    scene.settle().await;
    scene.put("marker", "");
    rename(&file, "the end");
    scene.next_is("the end").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_saving_is_found_by_events_and_without() {
    for (what, save) in WAYS {
        for deaf in [false, true] {
            for name in ["abide.toml", "echo.wasm"] {
                println!("{name}, {what}{}", if deaf { ", deaf" } else { "" });
                check(name, *save, deaf).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_way_of_saving_the_same_is_a_change() {
    for deaf in [false, true] {
        let folder = Folder::new();
        let (file, named) = (folder.file(), folder.path().join("echo.wasm"));
        fs::write(&file, "one").expect("writes");
        fs::write(&named, "one").expect("writes");
        let timing = if deaf { POLLING } else { TIMING };
        let mut scene = scene(&file, &named, folder, timing, deaf);
        // On a slow machine, drafts and pieces would be seen as changes.
        let steady = |what: &str| !what.contains("many times") && !what.contains("pieces");
        for (_, save) in WAYS.iter().filter(|(what, _)| steady(what)) {
            for saved in [&file, &named] {
                save(saved, "one");
            }
        }
        scene.settle().await;
        rename(&file, "two");
        scene.next_is("two").await;
    }
}
