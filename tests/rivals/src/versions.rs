//! Which versions are compared, from where they are pinned.

use std::path::Path;
use std::process::Command;

use crate::npm;
use crate::servers::{Kind, Kit};

/// Of the daemon, and of bare RocksDB with it.
const WORKSPACE: &str = include_str!("../../../Cargo.lock");
/// Of the service that Restate calls.
const RESTATE: &str = include_str!("../restate/Cargo.lock");

/// What a server is, with its versions.
pub(crate) fn of(kind: Kind, kit: &Kit) -> String {
    match kind {
        Kind::Abide => said(&abide_tests::abide_binary()),
        Kind::Bare => format!("librocksdb-sys {}", locked(WORKSPACE, "librocksdb-sys")),
        Kind::Restate => format!(
            "{}, Rust SDK {}",
            npm::version(&kit.installed.restate),
            locked(RESTATE, "restate-sdk")
        ),
        Kind::Workerd => npm::version(&kit.installed.workerd),
    }
}

/// What a program says of its version.
fn said(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let version = text
        .ok()
        .and_then(|text| text.split_whitespace().last().map(str::to_owned));
    version.unwrap_or_else(|| "?".to_owned())
}

/// The version of a package in a lock file.
fn locked(lock: &'static str, package: &str) -> &'static str {
    let (_, behind) = lock
        .split_once(&format!("name = \"{package}\"\nversion = \""))
        .unwrap_or_default();
    behind.split('"').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_tell_versions() {
        for (lock, package) in [(WORKSPACE, "librocksdb-sys"), (RESTATE, "restate-sdk")] {
            let version = locked(lock, package);
            assert!(
                version.starts_with(|c: char| c.is_ascii_digit()),
                "{package}: {version}"
            );
        }
    }
}
