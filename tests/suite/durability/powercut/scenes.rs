//! Operations of processes on files, and what a power cut leaves of them.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{IoSlice, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::Path;
use std::thread;

/// The operations of a process in a folder that holds the one file `old`, and what a power cut
/// leaves.
pub(super) struct PowerCutScene {
    pub(super) name: &'static str,
    pub(super) act: fn(&Path),
    pub(super) left: &'static [(&'static str, &'static str)],
}

/// The content of `old`.
pub(super) const OLD: &str = "0123456789";
const AS_BEFORE: &[(&str, &str)] = &[("old", OLD)];

/// C++ programs call these functions through libc; std does not offer them.
mod libc {
    unsafe extern "C" {
        pub(super) fn fallocate(fd: i32, mode: i32, offset: i64, bytes: i64) -> i32;
        pub(super) fn mmap(
            place: *mut u8,
            bytes: usize,
            protection: i32,
            flags: i32,
            fd: i32,
            offset: i64,
        ) -> *mut u8;
    }
    pub(super) const FALLOC_FL_KEEP_SIZE: i32 = 1;
    pub(super) const FALLOC_FL_PUNCH_HOLE: i32 = 2;
    pub(super) const PROT_WRITE: i32 = 2;
    pub(super) const MAP_SHARED: i32 = 1;
}

fn fallocate(file: &File, mode: i32, offset: i64, bytes: i64) {
    // SAFETY: the descriptor is open; no memory is involved.
    let result = unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, bytes) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

fn open(folder: &Path) -> File {
    let mut options = OpenOptions::new();
    let old = options.read(true).write(true).open(folder.join("old"));
    old.unwrap()
}

fn append(folder: &Path) -> File {
    let file = OpenOptions::new().append(true).open(folder.join("old"));
    file.unwrap()
}

fn write_synced(path: &Path, text: &str) {
    let mut file = File::create(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.sync_all().unwrap();
}

fn sync(path: &Path) {
    File::open(path).unwrap().sync_all().unwrap();
}

pub(super) const SCENES: &[PowerCutScene] = &[
    PowerCutScene {
        name: "an append is kept up to the last sync",
        act: |folder| {
            let mut file = append(folder);
            file.write_all(b"synced").unwrap();
            file.sync_data().unwrap();
            file.write_all(b"not").unwrap();
        },
        left: &[("old", "0123456789synced")],
    },
    PowerCutScene {
        name: "bytes written over older ones come back, those before and behind them, too",
        act: |folder| {
            let file = open(folder);
            file.write_all_at(b"new", 2).unwrap();
            file.sync_data().unwrap();
            file.write_all_at(b"newer", 4).unwrap();
            file.write_all_at(b"far", 20).unwrap();
        },
        left: &[("old", "01new56789")],
    },
    PowerCutScene {
        name: "writes at the descriptor's place land there",
        act: |folder| {
            let mut file = open(folder);
            let parts = [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cd")];
            assert_eq!(file.write_vectored(&parts).unwrap(), 4);
            file.write_all(b"ef").unwrap();
            file.sync_all().unwrap();
        },
        left: &[("old", "abcdef6789")],
    },
    PowerCutScene {
        name: "a sync of one descriptor covers what another wrote",
        act: |folder| {
            open(folder).write_all(b"abc").unwrap();
            sync(&folder.join("old"));
        },
        left: &[("old", "abc3456789")],
    },
    PowerCutScene {
        name: "a truncation without a sync is undone",
        act: |folder| open(folder).set_len(3).unwrap(),
        left: AS_BEFORE,
    },
    PowerCutScene {
        name: "so is one by opening",
        act: |folder| fs::write(folder.join("old"), "other").unwrap(),
        left: AS_BEFORE,
    },
    PowerCutScene {
        name: "a truncation with a sync is kept",
        act: |folder| {
            let file = open(folder);
            file.set_len(3).unwrap();
            file.sync_data().unwrap();
            file.set_len(8).unwrap();
        },
        left: &[("old", "012")],
    },
    PowerCutScene {
        name: "a file is lost, synced as it is, if its folder is not",
        act: |folder| write_synced(&folder.join("new"), "synced"),
        left: AS_BEFORE,
    },
    PowerCutScene {
        name: "a file is kept if both are synced",
        act: |folder| {
            write_synced(&folder.join("new"), "synced");
            sync(folder);
        },
        left: &[("new", "synced"), ("old", OLD)],
    },
    PowerCutScene {
        name: "a file is empty if only its folder is synced",
        act: |folder| {
            fs::write(folder.join("new"), "not synced").unwrap();
            sync(folder);
        },
        left: &[("new", ""), ("old", OLD)],
    },
    PowerCutScene {
        name: "a replacement is undone without a sync of the folder",
        act: |folder| {
            write_synced(&folder.join("new"), "synced");
            fs::rename(folder.join("new"), folder.join("old")).unwrap();
        },
        left: AS_BEFORE,
    },
    PowerCutScene {
        name: "a replacement is kept with one",
        act: |folder| {
            write_synced(&folder.join("new"), "synced");
            fs::rename(folder.join("new"), folder.join("old")).unwrap();
            sync(folder);
        },
        left: &[("old", "synced")],
    },
    PowerCutScene {
        name: "a renamed file has its old name without a sync of the folder",
        act: |folder| {
            fs::rename(folder.join("old"), folder.join("older")).unwrap();
            let mut file = File::create(folder.join("older")).unwrap();
            file.write_all(b"reused").unwrap();
            file.sync_all().unwrap();
        },
        left: &[("old", "reused")],
    },
    PowerCutScene {
        name: "a removed file is there again without a sync of the folder",
        act: |folder| fs::remove_file(folder.join("old")).unwrap(),
        left: AS_BEFORE,
    },
    PowerCutScene {
        name: "a removed file is gone with one",
        act: |folder| {
            fs::remove_file(folder.join("old")).unwrap();
            sync(folder);
        },
        left: &[],
    },
    PowerCutScene {
        // The inode number is likely to be reused.
        name: "a file of a removed one's name is another file",
        act: |folder| {
            fs::remove_file(folder.join("old")).unwrap();
            write_synced(&folder.join("old"), "synced");
            fs::remove_file(folder.join("old")).unwrap();
            write_synced(&folder.join("other"), "synced");
        },
        left: AS_BEFORE,
    },
    PowerCutScene {
        name: "what is written to a removed file is nowhere",
        act: |folder| {
            let mut file = append(folder);
            fs::remove_file(folder.join("old")).unwrap();
            sync(folder);
            write_synced(&folder.join("other"), "other");
            file.write_all(b"more").unwrap();
            file.sync_all().unwrap();
            sync(folder);
        },
        left: &[("other", "other")],
    },
    PowerCutScene {
        name: "a folder is lost with all in it if the one above is not synced",
        act: |folder| {
            let inner = folder.join("inner");
            fs::create_dir(&inner).unwrap();
            write_synced(&inner.join("new"), "synced");
            sync(&inner);
        },
        left: AS_BEFORE,
    },
    PowerCutScene {
        name: "a folder is kept if that is",
        act: |folder| {
            env::set_current_dir(folder).unwrap();
            fs::create_dir_all("inner/most").unwrap();
            write_synced(Path::new("inner/most/new"), "synced");
            write_synced(Path::new("inner/lost"), "synced");
            fs::rename("inner/lost", "inner/kept").unwrap();
            for path in ["inner/most", "inner", "."] {
                sync(Path::new(path));
            }
            fs::remove_dir_all("inner").unwrap();
        },
        left: &[
            ("inner", "/"),
            ("inner/kept", "synced"),
            ("inner/most", "/"),
            ("inner/most/new", "synced"),
            ("old", OLD),
        ],
    },
    PowerCutScene {
        name: "links are names",
        act: |folder| {
            fs::hard_link(folder.join("old"), folder.join("same")).unwrap();
            symlink("same", folder.join("pointer")).unwrap();
            sync(folder);
            fs::write(folder.join("pointer"), "through").unwrap();
            sync(&folder.join("old"));
            fs::remove_file(folder.join("old")).unwrap();
        },
        left: &[
            ("old", "through"),
            ("pointer", "-> same"),
            ("same", "through"),
        ],
    },
    PowerCutScene {
        name: "a copy is written, whatever the system offers for it",
        act: |folder| {
            fs::copy(folder.join("old"), folder.join("copy")).unwrap();
            sync(&folder.join("copy"));
            sync(folder);
        },
        left: &[("copy", OLD), ("old", OLD)],
    },
    PowerCutScene {
        name: "space that is taken is undone",
        act: |folder| fallocate(&open(folder), 0, 0, 20),
        left: AS_BEFORE,
    },
    PowerCutScene {
        name: "space that is taken and synced is kept",
        act: |folder| {
            let file = open(folder);
            fallocate(&file, 0, 8, 4);
            fallocate(&file, libc::FALLOC_FL_KEEP_SIZE, 0, 4096);
            let hole = libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE;
            fallocate(&file, hole, 1, 2);
            file.sync_data().unwrap();
            fallocate(&file, hole, 0, 4096);
        },
        left: &[("old", "0\0\x003456789\0\0")],
    },
    PowerCutScene {
        name: "threads each get their own",
        act: |folder| {
            let mut threads = Vec::new();
            for n in 0..4 {
                let path = folder.join(n.to_string());
                threads.push(thread::spawn(move || {
                    let mut file = File::create(path).unwrap();
                    for round in 0..200 {
                        file.write_all(&[b'0' + round % 10]).unwrap();
                        if round == 10 {
                            file.sync_data().unwrap();
                        }
                    }
                }));
            }
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
            sync(folder);
        },
        left: &[
            ("0", "01234567890"),
            ("1", "01234567890"),
            ("2", "01234567890"),
            ("3", "01234567890"),
            ("old", OLD),
        ],
    },
];

/// Operations that must not go unnoticed.
pub(super) const UNSEEN: &[PowerCutScene] = &[
    PowerCutScene {
        name: "is not all in the log",
        act: |folder| {
            rustix::io::pwrite(open(folder), b"raw", 0).unwrap();
        },
        left: &[],
    },
    PowerCutScene {
        name: "a writable shared mapping cannot be replayed",
        act: |folder| {
            let file = open(folder);
            let (write, shared) = (libc::PROT_WRITE, libc::MAP_SHARED);
            let place = std::ptr::null_mut();
            // SAFETY: the kernel chooses a free place for the mapping, which is not used.
            unsafe { libc::mmap(place, 4096, write, shared, file.as_raw_fd(), 0) };
        },
        left: &[],
    },
];

/// A process that writes without a pause.
pub(super) const BUSY: PowerCutScene = PowerCutScene {
    name: "busy",
    act: |folder| {
        for n in 0..3 {
            let (file, aside) = (folder.join(n.to_string()), folder.join(format!("{n}.new")));
            thread::spawn(move || {
                loop {
                    fs::write(&aside, [b'x'; 10_000]).unwrap();
                    fs::rename(&aside, &file).unwrap();
                    let mut appended = OpenOptions::new().append(true).open(&file).unwrap();
                    appended.write_all(b"more").unwrap();
                    fs::remove_file(&file).unwrap();
                }
            });
        }
    },
    left: &[],
};
