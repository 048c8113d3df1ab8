//! The versions that are compared, read from where they are pinned.

use std::path::Path;
use std::process::Command;

use crate::npm;
use crate::servers::{Contender, Kit};

/// Pins the versions of the daemon and of bare RocksDB.
const WORKSPACE: &str = include_str!("../../../Cargo.lock");
/// Pins the version of the service that Restate calls.
const RESTATE: &str = include_str!("../restate/Cargo.lock");

/// Returns the versions of a server's parts.
pub(crate) fn of(kind: Contender, kit: &Kit) -> String {
    match kind {
        Contender::Abide => said(&abide_tests::abide_binary()),
        Contender::Bare => format!("librocksdb-sys {}", locked(WORKSPACE, "librocksdb-sys")),
        Contender::Restate => format!(
            "{}, Rust SDK {}",
            npm::version(&kit.installed.restate),
            locked(RESTATE, "restate-sdk")
        ),
        Contender::Workerd => npm::version(&kit.installed.workerd),
    }
}

/// Returns the version that a program prints.
fn said(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let version = text
        .ok()
        .and_then(|text| text.split_whitespace().last().map(str::to_owned));
    version.unwrap_or_else(|| "?".to_owned())
}

/// Returns the version of a package in a lock file.
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
