//! What the first worker of a supervisor runs on: the configuration file; or, if the operator asks
//! for it because the file is of no use, what last proved itself.

use std::path::{Path, PathBuf};

use crate::config::{Config, DATA_DIR, Env, config_bytes};
use crate::supervisor::{FromWorker, Link};

use super::launch_spec::{self, LaunchSpec};
use super::worker::send;

/// What to run on.
pub(super) fn handed(path: &Path, env: &Env, last_good: bool) -> Result<LaunchSpec, Vec<String>> {
    let file = config_bytes(path);
    if last_good {
        let bytes = file.unwrap_or_default();
        let folder = data_dir(&bytes, path, env);
        return match launch_spec::last_good(&folder) {
            Ok(Some(handed)) => Ok(handed),
            Ok(None) => Err(vec![format!(
                "no configuration has proven itself in {} yet; correct {} and start without \
                 --last-good",
                folder.display(),
                path.display()
            )]),
            Err(error) => Err(vec![format!("the last good configuration: {error}")]),
        };
    }
    match file {
        Ok(config) => Ok(LaunchSpec {
            config,
            ..LaunchSpec::default()
        }),
        Err(error) => Err(with_way_out(unreadable(path, &error), &[], path, env)),
    }
}

/// Why the configuration file cannot be run on, and what else can be.
pub(super) fn with_fallback_hint(
    reason: String,
    handed: &LaunchSpec,
    path: &Path,
    env: &Env,
) -> Vec<String> {
    with_way_out(reason, &handed.config, path, env)
}

/// Tells the supervisor what to go back to should this worker die before it has proven itself.
pub(super) fn announce_fallback(
    config: &Config,
    env: &Env,
    link: &Link,
) -> Result<(), Vec<String>> {
    match launch_spec::last_good(&config.daemon.data_dir) {
        Ok(Some(mut handed)) => {
            // As the worker that ran on it would say it: the supervisor compares.
            if let Ok(config) = Config::parse(&handed.config, &config.file, env) {
                handed = handed.with_secrets(&config);
            }
            let sealed = handed.to_memfd().map_err(|error| vec![error.to_string()])?;
            send(link, FromWorker::LastGood(sealed))
        }
        Ok(None) => Ok(()),
        Err(error) => {
            tracing::warn!(error, "the last good configuration cannot be read");
            Ok(())
        }
    }
}

fn with_way_out(reason: String, bytes: &[u8], path: &Path, env: &Env) -> Vec<String> {
    let mut lines = vec![reason];
    if let Ok(Some(_)) = launch_spec::last_good(&data_dir(bytes, path, env)) {
        lines.push(
            "the configuration that last proved itself is kept: `abide serve --last-good` starts \
             on it, and takes the file over once it is correct"
                .to_owned(),
        );
    }
    lines
}

/// The data folder that a configuration names, however wrong the rest of it is.
fn data_dir(bytes: &[u8], path: &Path, env: &Env) -> PathBuf {
    if let Ok(config) = Config::parse(bytes, path, env) {
        return config.daemon.data_dir;
    }
    let text = String::from_utf8_lossy(bytes);
    let line = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("data_dir"))
        .filter_map(|rest| rest.trim_start().strip_prefix('='))
        .filter_map(|value| {
            let value: toml::Table = format!("v ={value}").parse().ok()?;
            Some(value.get("v")?.as_str()?.to_owned())
        })
        .next();
    let folder = path.parent().unwrap_or(Path::new("/"));
    folder.join(line.as_deref().unwrap_or(DATA_DIR))
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
    let remedy = match error.kind() {
        std::io::ErrorKind::NotFound => "write one with `abide init`, or name it with --config",
        _ => "make it readable for the daemon's user",
    };
    format!(
        "{}: the configuration cannot be read: {error}; {remedy}",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_folder_is_found_in_a_file_that_is_wrong() {
        let path = Path::new("/etc/abide/abide.toml");
        for (text, folder) in [
            ("[daemon]\ndata_dir = \"/var/lib/abide\"", "/var/lib/abide"),
            (
                "[daemon\ndata_dir = \"/var/lib/abide\" # here",
                "/var/lib/abide",
            ),
            ("[daemon]\nlisten = 7\ndata_dir='there'", "/etc/abide/there"),
        ] {
            assert_eq!(
                data_dir(text.as_bytes(), path, &Env::new()),
                Path::new(folder),
                "{text}"
            );
        }
    }
}
