//! Real tool servers, as `tests/setup/setup.sh tools` installs them.

use std::env;
use std::path::PathBuf;

use crate::target;

/// The environment variable that skips their tests.
const VARIABLE: &str = "ABIDE_REAL_TOOLS";

/// The location of the servers.
#[derive(Clone, Debug)]
pub struct RealTools {
    folder: PathBuf,
}

impl RealTools {
    /// Finds the servers; `None` if their tests are to be skipped.
    ///
    /// # Panics
    /// If they are not installed.
    pub fn find() -> Option<Self> {
        if env::var_os(VARIABLE).is_some_and(|value| value == "skip") {
            eprintln!("skipped, as {VARIABLE} says: what real tool servers do is not tested");
            return None;
        }
        let folder = target().join("real-tools");
        assert!(
            folder.join("installed").exists(),
            "{} has no tool servers: run `make setup-tools` (it takes npm and PyPI, once), or set \
             {VARIABLE}=skip",
            folder.display()
        );
        Some(Self { folder })
    }

    /// Returns the command of a server from npm, by its package's name in its scope.
    pub fn npm(&self, package: &str) -> Vec<String> {
        let scope = self.folder.join("npm/node_modules/@modelcontextprotocol");
        let script = scope.join(package).join("dist/index.js");
        words([self.folder.join("node"), script])
    }

    /// Returns the command of a server from PyPI.
    pub fn python(&self, server: &str) -> Vec<String> {
        let environment = match server {
            // This server needs an SDK version of its time.
            "mcp-server-sqlite" => "sqlite",
            _ => "servers",
        };
        words([self.folder.join(environment).join("bin").join(server)])
    }
}

fn words<const N: usize>(paths: [PathBuf; N]) -> Vec<String> {
    paths.map(|path| path.display().to_string()).to_vec()
}
