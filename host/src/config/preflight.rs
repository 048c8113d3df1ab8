//! Checks that depend on this machine: do the files, secrets and users that the configuration names exist,
//! and are they usable?

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::diagnostics::ConfigProblem;
use super::file_snapshot::PLUGIN_MAX_BYTES;
use super::given::Given;
use super::model::{Config, Transport};
use super::regular_file;
use super::secret::{BadSecret, Env, SecretRef};
use crate::system_user::{SystemUser, UnknownUser};

/// The remedy for a file that does not answer.
const DOES_NOT_ANSWER: &str =
    "see whether its disk, or the server that it is mounted from, answers";

/// Returns a problem for each file, secret or directory that is missing or unusable.
pub(super) fn problems(config: &Config, env: &Env) -> Vec<ConfigProblem> {
    let mut problems = Vec::new();
    let mut add = |key: String, reason: String, remedy: String| {
        problems.push(ConfigProblem {
            place: config.places.of(&key),
            key,
            reason,
            remedy,
        });
    };
    for (name, plugin) in &config.plugins {
        if let Err((reason, remedy)) = component(&plugin.path) {
            add(format!("plugins.{name}.path"), reason, remedy);
        }
    }
    for (key, secret) in config.secrets() {
        if let Err(error) = secret.read(env) {
            let remedy = match (&error, secret) {
                (_, SecretRef::Env(_)) => {
                    "set it in the environment that the daemon is started in".to_owned()
                }
                (BadSecret::Unreadable { reason, .. }, SecretRef::File(_))
                    if reason.kind() == ErrorKind::TimedOut =>
                {
                    DOES_NOT_ANSWER.to_owned()
                }
                (BadSecret::Unreadable { .. }, SecretRef::File(_)) => {
                    "create it, readable by the daemon's user".to_owned()
                }
                (_, SecretRef::File(_)) => "write the secret, and only it, into it".to_owned(),
            };
            add(key, error.to_string(), remedy);
        }
    }
    for (name, server) in &config.mcp {
        let Transport::Command {
            user: Some(user), ..
        } = &server.transport
        else {
            continue;
        };
        if let Err(error) = SystemUser::find(user) {
            let remedy = match error {
                UnknownUser::NoSuchUser(_) => "create it (`useradd --system`), or name another",
                UnknownUser::Malformed(_) => "name a user, or write two numbers",
                UnknownUser::Lookup(..) => "see that users can be looked up, or write `UID:GID`",
            };
            add(
                format!("mcp.{name}.user"),
                error.to_string(),
                remedy.to_owned(),
            );
        }
    }
    for (key, hidden) in given_and_hidden(config) {
        add(
            key,
            format!(
                "this names something in `{}`, which the server's `sandbox` hides from it",
                hidden.display()
            ),
            "keep what the server works with in a folder of its own".to_owned(),
        );
    }
    let data_dir = regular_file::metadata(&config.daemon.data_dir);
    if data_dir.is_ok_and(|there| !there.is_dir()) {
        add(
            "daemon.data_dir".to_owned(),
            format!("`{}` is not a folder", config.daemon.data_dir.display()),
            "name a folder, or one to be created".to_owned(),
        );
    }
    problems
}

/// Returns the keys that give a server in a sandbox what is hidden from it, each with the hidden path.
fn given_and_hidden(config: &Config) -> Vec<(String, PathBuf)> {
    let folder = config.file.parent().unwrap_or(Path::new("/"));
    let hidden = config.private_paths();
    let is_within = |text: &str| {
        // Like `--db=PATH` as well. A word without a slash may be anything.
        let value = text.split_once('=').map_or(text, |(_, value)| value);
        let mut paths = [text, value].into_iter().filter(|path| path.contains('/'));
        paths.find_map(|path| {
            let path = real(&folder.join(path));
            hidden.iter().find(|hidden| path.starts_with(real(hidden)))
        })
    };
    let mut found = Vec::new();
    for (name, server) in &config.mcp {
        let Transport::Command {
            program,
            args,
            env,
            sandbox: true,
            ..
        } = &server.transport
        else {
            continue;
        };
        let mut given = |key: String, text: &str| {
            found.extend(is_within(text).map(|hidden| (key, hidden.clone())));
        };
        given(format!("mcp.{name}.command"), program);
        for arg in args {
            given(format!("mcp.{name}.command"), arg);
        }
        for (variable, value) in env {
            if let Given::Value(value) = value {
                given(format!("mcp.{name}.env.{variable}"), value.expose());
            }
        }
    }
    found
}

/// Resolves a path's symbolic links, as far as it exists.
fn real(path: &Path) -> PathBuf {
    let mut known = path.ancestors();
    let found = known.find_map(|known| {
        let rest = path.strip_prefix(known).ok()?;
        Some(fs::canonicalize(known).ok()?.join(rest))
    });
    found.unwrap_or_else(|| path.to_owned())
}

/// Checks by its first eight bytes that a file is a WebAssembly component. Returns the reason and
/// the remedy if it is not.
fn component(path: &Path) -> Result<(), (String, String)> {
    let shown = path.display();
    let build =
        || "build it as a component: `cargo build --release --target wasm32-wasip2`".to_owned();
    let unreadable = |error: io::Error| {
        if error.kind() == ErrorKind::InvalidInput {
            let remedy = "name the component's file".to_owned();
            return (format!("`{shown}` is not a file"), remedy);
        }
        let remedy = match error.kind() {
            ErrorKind::NotFound => {
                "correct the path (it is relative to the configuration file), or build the plugin"
            }
            ErrorKind::TimedOut => DOES_NOT_ANSWER,
            _ => "make it a file that the daemon's user can read",
        };
        (
            format!("plugin file `{shown}` cannot be read ({error})"),
            remedy.to_owned(),
        )
    };
    let (size, head) = regular_file::head(path).map_err(unreadable)?;
    if size > PLUGIN_MAX_BYTES {
        return Err((
            format!("`{shown}` has {size} bytes, over {PLUGIN_MAX_BYTES}"),
            "strip it, or build it for size".to_owned(),
        ));
    }
    match *head {
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0] => Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0] => Err((
            format!("`{shown}` is a WebAssembly module, not a component"),
            build(),
        )),
        _ => Err((format!("`{shown}` is not a WebAssembly component"), build())),
    }
}
