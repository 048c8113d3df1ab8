//! Reads the log of the shim `powercut/shim.c`, record by record. The header is drawn there.

use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

const MAGIC: u32 = 0x77c0_ffee;
const HEADER_BYTES: usize = 40;

/// An operation of a process. Open files and directories are identified by their inode number,
/// named ones by their path relative to the watched directory.
#[derive(Debug)]
pub(super) enum Op {
    Open {
        path: PathBuf,
        inode: u64,
        mode: u32,
        emptied: bool,
    },
    Write {
        inode: u64,
        from: u64,
        data: Vec<u8>,
    },
    Truncate {
        inode: u64,
        bytes: u64,
    },
    Extend {
        inode: u64,
        bytes: u64,
    },
    Zero {
        inode: u64,
        from: u64,
        bytes: u64,
    },
    SyncBegin {
        thread: u64,
    },
    /// Covers everything if `inode` is 0.
    SyncEnd {
        inode: u64,
        thread: u64,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    MakeFolder {
        path: PathBuf,
        inode: u64,
        mode: u32,
    },
    MakeLink {
        path: PathBuf,
        inode: u64,
        target: PathBuf,
    },
}

/// Reads the next record; `None` at the end of the log. A record that is cut off counts as the end:
/// its process was killed, and its caller never saw the result.
pub(super) fn next(log: &mut impl Read) -> Result<Option<Op>, String> {
    let mut header = [0; HEADER_BYTES];
    if !filled(log, &mut header)? {
        return Ok(None);
    }
    let short = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let long = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
    if short(0) != MAGIC {
        return Err(
            "the log is torn: a process was killed by other means than the harness's".to_owned(),
        );
    }
    let (inode, a, b) = (long(8), long(16), long(24));
    let mut path = vec![0; short(32) as usize];
    let mut data = vec![0; short(36) as usize];
    if !filled(log, &mut path)? || !filled(log, &mut data)? {
        return Ok(None);
    }
    let path = PathBuf::from(OsString::from_vec(path));
    let second = |data| PathBuf::from(OsString::from_vec(data));
    Ok(Some(match short(4) {
        1 => Op::Open {
            path,
            inode,
            mode: a as u32,
            emptied: b != 0,
        },
        2 => Op::Write {
            inode,
            from: a,
            data,
        },
        3 => Op::Truncate { inode, bytes: a },
        4 => Op::Extend { inode, bytes: a },
        5 => Op::Zero {
            inode,
            from: a,
            bytes: b,
        },
        6 => Op::SyncBegin { thread: a },
        7 => Op::SyncEnd { inode, thread: a },
        8 => Op::Rename {
            from: path,
            to: second(data),
        },
        9 => Op::Link {
            from: path,
            to: second(data),
        },
        10 => Op::Remove { path },
        11 => Op::MakeFolder {
            path,
            inode,
            mode: a as u32,
        },
        12 => Op::MakeLink {
            path,
            inode,
            target: second(data),
        },
        13 => {
            let what = String::from_utf8_lossy(&data);
            return Err(format!(
                "{}: {what} cannot be replayed; the shim says what can",
                path.display()
            ));
        }
        other => return Err(format!("the log has a record of the unknown kind {other}")),
    }))
}

/// Fills a buffer. Returns false if the log ends before.
fn filled(log: &mut impl Read, buffer: &mut [u8]) -> Result<bool, String> {
    match log.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(format!("the log cannot be read: {error}")),
    }
}
