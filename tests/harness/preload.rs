//! Libraries that are preloaded into the daemon's processes.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{self, Command, Stdio};

use crate::setup::target;

/// Compiles a library of one C file. Returns its path.
///
/// # Panics
/// If there is no C compiler, or it refuses the file.
pub(crate) fn compile(name: &str, source: &str) -> PathBuf {
    let folder = target().join(name);
    fs::create_dir_all(&folder).expect("cargo's folder can be written");
    let aside = folder.join(format!("shim.{}", process::id()));
    let mut compiler = Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-x", "c", "-", "-o"])
        .arg(&aside)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{name} needs a C compiler, as `cc`: {error}"));
    let mut input = compiler.stdin.take().expect("it is piped");
    let given = input.write_all(source.as_bytes());
    drop(input);
    let status = compiler.wait().expect("the child is ours");
    assert!(status.success() && given.is_ok(), "cc: {status}, {given:?}");
    // Renaming leaves the old file to other processes that may have it loaded.
    let built = folder.join("shim.so");
    fs::rename(&aside, &built).expect("cargo's folder can be written");
    built
}
