//! Programs from npm, installed once.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

/// Installs packages, each as `name@version`, below `folder`, unless all of these files exist.
/// Their install scripts do not run.
///
/// # Errors
/// If npm is missing or fails; the text says what to do.
pub fn npm_install(folder: &Path, packages: &[&str], files: &[&Path]) -> Result<(), String> {
    let list = packages.join(" ");
    // An existing file may belong to another version.
    let noted = folder.join(format!("{}.installed", list.replace(['/', ' '], "_")));
    let there = || files.iter().all(|file| file.exists());
    if there() && noted.exists() {
        return Ok(());
    }
    fs::create_dir_all(folder)
        .map_err(|error| format!("{} cannot be made: {error}", folder.display()))?;
    let npm = Command::new("npm")
        .args(["install", "--no-audit", "--no-fund", "--ignore-scripts"])
        .arg("--prefix")
        .arg(folder)
        .args(packages)
        .status();
    match npm {
        Ok(status) if status.success() && there() => {}
        Ok(status) if status.success() => {
            return Err(format!(
                "npm installed {list} and left no program for this machine; they have some for \
                 Linux on x86-64 and ARM64"
            ));
        }
        Ok(status) => {
            return Err(format!(
                "`npm install {list}` in {} ended with {status}; see above",
                folder.display()
            ));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(format!(
                "npm is needed to install {list}: install Node.js (https://nodejs.org), then run \
                 this again"
            ));
        }
        Err(error) => return Err(format!("npm cannot be run: {error}")),
    }
    fs::write(&noted, "").map_err(|error| format!("{}: {error}", noted.display()))
}
