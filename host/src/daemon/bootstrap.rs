//! The configuration that a supervisor's first worker runs on: the configuration file; or, if the
//! operator requests it because the file is unusable, the last good configuration, which is the
//! last one that passed probation.

use std::path::{Path, PathBuf};

use crate::config::{Config, DATA_DIR, Env, config_bytes};
use crate::supervisor::{FromWorker, Link};

use super::launch_spec::{self, LaunchSpec, LaunchSpecError};

/// The reason why there is no configuration to run on, with the remedy.
#[derive(Debug, thiserror::Error)]
pub(super) enum BootstrapError {
    #[error(
        "no configuration has proven itself in {} yet; correct {} and start without --last-good",
        data_dir.display(), file.display()
    )]
    NothingProven { data_dir: PathBuf, file: PathBuf },
    #[error("the last good configuration: {0}")]
    LastGood(#[from] LaunchSpecError),
    /// The configuration file is unreadable or invalid.
    #[error("{reason}{}", hint(*.has_last_good))]
    Unusable { reason: String, has_last_good: bool },
}

fn hint(has_last_good: bool) -> &'static str {
    match has_last_good {
        true => {
            "\nthe configuration that last proved itself is kept: `abide serve --last-good` starts \
             on it, and takes the file over once it is correct"
        }
        false => "",
    }
}

/// Returns the configuration file to run on, or with `last_good` the last good configuration.
pub(super) fn launch_spec(
    path: &Path,
    env: &Env,
    last_good: bool,
) -> Result<LaunchSpec, BootstrapError> {
    let file = config_bytes(path);
    if last_good {
        let bytes = file.unwrap_or_default();
        let data_dir = data_dir(&bytes, path, env);
        return launch_spec::last_good(&data_dir)?.ok_or(BootstrapError::NothingProven {
            data_dir,
            file: path.to_owned(),
        });
    }
    match file {
        Ok(config) => Ok(LaunchSpec {
            config,
            ..LaunchSpec::default()
        }),
        Err(error) => {
            let remedy = match error.kind() {
                std::io::ErrorKind::NotFound => {
                    "write one with `abide init`, or name it with --config"
                }
                _ => "make it readable for the daemon's user",
            };
            let path_shown = path.display();
            let reason =
                format!("{path_shown}: the configuration cannot be read: {error}; {remedy}");
            Err(unusable(reason, &LaunchSpec::default(), path, env))
        }
    }
}

/// Returns the error for an unusable configuration file; it mentions the last good configuration if
/// there is one.
pub(super) fn unusable(
    reason: String,
    spec: &LaunchSpec,
    path: &Path,
    env: &Env,
) -> BootstrapError {
    let last_good = launch_spec::last_good(&data_dir(&spec.config, path, env));
    BootstrapError::Unusable {
        reason,
        has_last_good: matches!(last_good, Ok(Some(_))),
    }
}

/// Sends the supervisor the last good configuration, which it falls back to if this worker dies
/// during probation.
pub(super) fn announce_fallback(config: &Config, env: &Env, link: &Link) -> anyhow::Result<()> {
    match launch_spec::last_good(&config.daemon.data_dir) {
        Ok(Some(mut spec)) => {
            // Encode it exactly as the worker that ran on it did: the supervisor compares bytes.
            if let Ok(config) = Config::parse(&spec.config, &config.file, env) {
                spec = spec.with_secrets(&config);
            }
            link.send(FromWorker::LastGood(spec.to_memfd()?))?;
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "the last good configuration cannot be read"),
    }
    Ok(())
}

/// Returns the data directory that a configuration names, even if the rest of it is invalid.
pub fn data_dir(bytes: &[u8], path: &Path, env: &Env) -> PathBuf {
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
