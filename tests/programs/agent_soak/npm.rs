//! Installs the tool servers from npm, once, into cargo's target directory.

use std::path::{Path, PathBuf};

use abide_tests::npm_install;

use crate::relay;

/// The pinned packages: a transcript contains these versions' exact texts.
const PACKAGES: [&str; 2] = [
    "@modelcontextprotocol/server-filesystem@2026.8.31",
    "@modelcontextprotocol/server-everything@2026.8.31",
];

/// The paths of the servers' programs, which run in Node.js.
pub(crate) struct Servers {
    pub(crate) files: PathBuf,
    pub(crate) everything: PathBuf,
}

impl Servers {
    /// Installs the servers below `folder` unless they exist.
    pub(crate) fn install(folder: &Path) -> Self {
        let modules = folder.join("node_modules/@modelcontextprotocol");
        let this = Self {
            files: modules.join("server-filesystem/dist/index.js"),
            everything: modules.join("server-everything/dist/index.js"),
        };
        npm_install(folder, &PACKAGES, &[&this.files, &this.everything])
            .unwrap_or_else(|error| panic!("{error}"));
        this
    }

    /// Returns the servers' sections in `abide.toml`, each behind a relay that writes to `log`.
    pub(crate) fn sections(&self, folder: &Path, log: &Path) -> Vec<String> {
        let relay = std::env::current_exe().expect("a process knows its executable");
        let pause = relay::PAUSE.as_millis().to_string();
        let section = |name: &str, server: &Path, argument: &Path| {
            let command = [relay.as_path(), Path::new(relay::ARGUMENT), log]
                .into_iter()
                .chain([Path::new(&pause), Path::new("node"), server, argument]);
            let command: Vec<_> = command.map(|word| format!("{word:?}")).collect();
            format!("\n[mcp.{name}]\ncommand = [{}]", command.join(", "))
        };
        vec![
            section("files", &self.files, folder),
            section("everything", &self.everything, Path::new("stdio")),
        ]
    }
}
