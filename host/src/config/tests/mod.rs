//! Tests of the configuration as a whole.

mod bad_input;
mod fallbacks;
mod given;
mod good_input;
mod planning;
mod sandbox;
mod saving;
mod watching;

use std::path::{Path, PathBuf};

use super::{Config, ConfigError, Env};

/// A component's first eight bytes.
pub(super) const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// A temporary directory that contains `echo.wasm`.
pub(super) struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("echo.wasm"), COMPONENT).expect("writes");
        Self { dir }
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn file(&self) -> PathBuf {
        self.dir.path().join("abide.toml")
    }

    pub(super) fn validate(&self, text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::validate(text.as_bytes(), &self.file(), &environment(env))
    }
}

pub(super) fn environment(env: &[(&str, &str)]) -> Env {
    env.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// Returns a configuration with one plugin, preceded by `rest`.
pub(super) fn with_echo(rest: &str) -> String {
    format!("{rest}\n[plugins.echo]\npath = \"echo.wasm\"\n")
}

/// Parses a configuration that must be valid.
pub(super) fn parsed(text: &str) -> Config {
    match Config::parse(
        text.as_bytes(),
        Path::new("/etc/abide/abide.toml"),
        &Env::new(),
    ) {
        Ok(config) => config,
        Err(error) => panic!("{error}"),
    }
}
