//! Installs the rivals from npm.

use std::path::{Path, PathBuf};

use abide_tests::npm_install;

use crate::servers::Contender;

const RESTATE: &str = "@restatedev/restate-server@1.7.12";
const WORKERD: &str = "workerd@1.20261117.1";

/// The paths of the rivals' programs.
pub(crate) struct Installed {
    pub(crate) restate: PathBuf,
    pub(crate) workerd: PathBuf,
}

impl Installed {
    /// Installs the programs that these kinds need below `folder`, unless they exist.
    pub(crate) fn install(folder: &Path, kinds: &[Contender]) -> Result<Self, String> {
        let modules = folder.join("node_modules");
        let arm = cfg!(target_arch = "aarch64");
        // The native program for this machine, which npm's own launchers would start through
        // Node.js.
        let restate = format!(
            "@restatedev/restate-server-linux-{}/bin/restate-server",
            if arm { "arm64" } else { "x64" }
        );
        let workerd = format!(
            "@cloudflare/workerd-linux-{}/bin/workerd",
            if arm { "arm64" } else { "64" }
        );
        let this = Self {
            restate: modules.join(restate),
            workerd: modules.join(workerd),
        };
        let mut packages = Vec::new();
        let mut files: Vec<&Path> = Vec::new();
        if kinds.contains(&Contender::Restate) {
            packages.push(RESTATE);
            files.push(&this.restate);
        }
        if kinds.contains(&Contender::Workerd) {
            packages.push(WORKERD);
            files.push(&this.workerd);
        }
        if !packages.is_empty() {
            npm_install(folder, &packages, &files)?;
        }
        Ok(this)
    }
}

/// Returns the version from the `package.json` next to the program's directory.
pub(crate) fn version(program: &Path) -> String {
    let package = program
        .ancestors()
        .nth(2)
        .map(|folder| folder.join("package.json"));
    let text = package.and_then(|path| std::fs::read_to_string(path).ok());
    let json: Option<serde_json::Value> = text.and_then(|text| serde_json::from_str(&text).ok());
    let version = json.and_then(|json| json["version"].as_str().map(str::to_owned));
    version.unwrap_or_else(|| "?".to_owned())
}
