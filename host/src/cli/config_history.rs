//! `abide config history` and `abide config rollback`: the configurations that the daemon has run on, and the
//! way back to one. They read the data folder, so that they work whether a daemon runs or not.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use clap::Args;
use similar::{ChangeTag, TextDiff};

use super::error::CliError;
use super::global::{Global, JsonFlag};
use super::out::{Out, Tone};
use super::table::{Cell, table};
use super::text::{ago, brief};
use crate::config::{AcceptedConfig, Config, ConfigHistory, config_bytes, process_env};
use crate::daemon::data_dir;
use crate::domain::{Digest, UnixMillis};
use crate::plain_text::inline;

/// The width to which a cause is cut in the table.
const CAUSE_CHARS: usize = 80;
/// The unchanged lines around a change.
const CONTEXT_LINES: usize = 3;

#[derive(Debug, Args)]
pub(crate) struct History {
    /// Only this one: what it changed of the one before
    number: Option<u64>,
    /// Print its text instead
    #[arg(long, requires = "number", conflicts_with = "json")]
    text: bool,
    #[command(flatten)]
    data: DataDir,
    #[command(flatten)]
    json: JsonFlag,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The configuration's number, as `abide config history` lists it
    number: u64,
    #[command(flatten)]
    data: DataDir,
}

#[derive(Debug, Args)]
struct DataDir {
    /// The data folder, where the configuration file does not say it (any more)
    #[arg(long, value_name = "PATH")]
    data_dir: Option<PathBuf>,
}

/// The configurations of the history, and where the file is.
struct Known {
    file: PathBuf,
    data: PathBuf,
    /// The oldest first.
    configs: Vec<AcceptedConfig>,
}

impl Known {
    fn read(global: &Global, named: &DataDir) -> Result<Self, CliError> {
        let file = global.config.clone();
        let data = named.data_dir.clone().unwrap_or_else(|| {
            // A file that is gone or broken is what one wants to go back from.
            let bytes = config_bytes(&file).unwrap_or_default();
            data_dir(&bytes, &file, &process_env())
        });
        let configs = ConfigHistory::of(&data).list();
        let configs = configs.map_err(CliError::file("read the history in", &data))?;
        if configs.is_empty() {
            let data = data.display();
            return Err(CliError::Failed(format!(
                "there is no history of configurations in {data}; a daemon begins it when it serves. If \
                 its data folder was another one, name that with --data-dir"
            )));
        }
        Ok(Self {
            file,
            data,
            configs,
        })
    }

    /// Returns the configuration of this number, and the one before it.
    fn find(&self, number: u64) -> Result<(&AcceptedConfig, Option<&AcceptedConfig>), CliError> {
        let place = self
            .configs
            .iter()
            .position(|config| config.number == number);
        let place = place.ok_or_else(|| {
            CliError::Failed(format!(
                "there is no configuration {number} in the history; `abide config history` lists what \
                 there is"
            ))
        })?;
        let before = place.checked_sub(1).map(|before| &self.configs[before]);
        Ok((&self.configs[place], before))
    }
}

pub(super) fn history(global: &Global, args: &History) -> Result<(), CliError> {
    let known = Known::read(global, &args.data)?;
    let mut out = Out::new(global.no_color);
    let Some(number) = args.number else {
        return list(&mut out, &known.configs, args.json);
    };
    let (config, before) = known.find(number)?;
    if args.json.json {
        return Ok(out.json(config)?);
    }
    if args.text {
        return Ok(out.file_text(&config.text)?);
    }
    out.line(format!(
        "{} taken over at {} by generation {}: {}",
        out.paint(Tone::Bold, &format!("configuration {number}")),
        config.at,
        config.generation,
        inline(&config.cause),
    ))?;
    match before {
        None => out.line("the first that is kept; --text prints it")?,
        Some(before) => {
            let diff = TextDiff::from_lines(&before.text, &config.text);
            let mut shown = diff.unified_diff();
            let names = (before.number.to_string(), number.to_string());
            shown
                .context_radius(CONTEXT_LINES)
                .header(&names.0, &names.1);
            out.text(&shown.to_string())?;
        }
    }
    Ok(())
}

fn list(out: &mut Out, configs: &[AcceptedConfig], json: JsonFlag) -> Result<(), CliError> {
    if json.json {
        return Ok(out.json(&configs)?);
    }
    let now = UnixMillis::now();
    let before = [None].into_iter().chain(configs.iter().map(Some));
    let rows = configs.iter().zip(before).map(|(config, before)| {
        vec![
            config.number.to_string().into(),
            ago(config.at, now).into(),
            config.generation.to_string().into(),
            before
                .map_or_else(String::new, |before| changed(before, config))
                .into(),
            brief(&config.cause, CAUSE_CHARS).into(),
        ]
    });
    let mut rows: Vec<Vec<Cell>> = rows.collect();
    rows.reverse();
    let head = ["number", "when", "generation", "lines", "cause"];
    Ok(out.text(&table(out, 0, &head, &rows))?)
}

/// Returns how many lines were added and removed.
fn changed(before: &AcceptedConfig, config: &AcceptedConfig) -> String {
    let diff = TextDiff::from_lines(&before.text, &config.text);
    let count = |tag| diff.iter_all_changes().filter(|it| it.tag() == tag).count();
    format!(
        "+{} -{}",
        count(ChangeTag::Insert),
        count(ChangeTag::Delete)
    )
}

pub(super) fn rollback(global: &Global, args: &Rollback) -> Result<(), CliError> {
    let known = Known::read(global, &args.data)?;
    let (config, _) = known.find(args.number)?;
    let mut out = Out::new(global.no_color);
    let file = &known.file;
    let present = match config_bytes(file) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(CliError::file("read", file)(error)),
    };
    let number = config.number;
    if present.as_deref() == Some(config.text.as_bytes()) {
        return Ok(out.line(format!(
            "{} is configuration {number} already; nothing was written",
            file.display()
        ))?);
    }
    check(config, file)?;
    let kept = match &present {
        Some(bytes)
            if !known
                .configs
                .iter()
                .any(|it| it.digest == Digest::of(bytes)) =>
        {
            Some(keep_aside(file, bytes)?)
        }
        _ => None,
    };
    let like = present.as_ref().map_or(&*known.data, |_| &**file);
    replace(file, config.text.as_bytes(), like).map_err(CliError::file("replace", file))?;
    out.line(format!(
        "{} is configuration {number} again, taken over first at {}",
        file.display(),
        config.at
    ))?;
    if let Some(kept) = kept {
        out.line(format!(
            "what it said before is in no history, and was kept as {}",
            kept.display()
        ))?;
    }
    Ok(out.line("a running daemon takes it over by itself; `abide status` shows that")?)
}

/// Refuses to go back to what no daemon could run on. Whether its secrets are there is the daemon's to see:
/// they may be in its environment alone.
fn check(config: &AcceptedConfig, file: &Path) -> Result<(), CliError> {
    let number = config.number;
    let refused = |reason: String| {
        CliError::Failed(format!(
            "configuration {number} would be refused today, and nothing was written: {reason}\n\
             `abide config history {number} --text` prints it, to correct a copy"
        ))
    };
    let parsed = Config::parse(config.text.as_bytes(), file, &process_env());
    let parsed = parsed.map_err(|error| refused(error.to_string()))?;
    match parsed
        .plugins
        .values()
        .find(|plugin| !plugin.path.is_file())
    {
        Some(plugin) => Err(refused(format!("{} is gone", plugin.path.display()))),
        None => Ok(()),
    }
}

/// Keeps the text that is replaced beside the file, and nothing that was kept before is overwritten.
/// Returns where.
fn keep_aside(file: &Path, bytes: &[u8]) -> Result<PathBuf, CliError> {
    let name = |n: u32| {
        let mut name = file.as_os_str().to_owned();
        name.push(".replaced");
        if n > 1 {
            name.push(format!(".{n}"));
        }
        PathBuf::from(name)
    };
    let mut kept = name(1);
    for n in 2.. {
        match fs::read(&kept) {
            Ok(other) if other != bytes => kept = name(n),
            _ => break,
        }
    }
    replace(&kept, bytes, file).map_err(CliError::file("write", &kept))?;
    Ok(kept)
}

/// Replaces a file as a whole, or not at all. It gets the owner of `like`, and its mode if that is a file.
/// What a symbolic link points to is replaced, not the link.
fn replace(file: &Path, bytes: &[u8], like: &Path) -> io::Result<()> {
    // Absolute, so that it has a folder.
    let target = fs::canonicalize(file).or_else(|_| std::path::absolute(file))?;
    let like = fs::metadata(like)?;
    let mut temporary = target.clone().into_os_string();
    temporary.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let written = (|| {
        let mut new = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        new.write_all(bytes)?;
        if like.is_file() {
            new.set_permissions(Permissions::from_mode(like.mode() & 0o7777))?;
        }
        // Only root can give a file away; what others write is theirs, as what they replace is.
        let _ = fchown(&new, Some(like.uid()), Some(like.gid()));
        new.sync_all()?;
        fs::rename(&temporary, &target)?;
        match target.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    })();
    if written.is_err() {
        // Best effort: it may not even exist.
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_with_its_mode_and_through_a_link() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let (file, link) = (home.path().join("abide.toml"), home.path().join("link"));
        fs::write(&file, "old").expect("the folder is ours");
        fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("the file is ours");
        std::os::unix::fs::symlink(&file, &link).expect("the folder is ours");
        replace(&link, b"new", &file).expect("the folder is ours");
        assert_eq!(fs::read(&file).expect("it is there"), b"new");
        let mode = fs::metadata(&file).expect("it is there").mode() & 0o777;
        assert_eq!(mode, 0o640);
        assert!(link.is_symlink());
        assert_eq!(fs::read_dir(home.path()).expect("ours").count(), 2);
    }

    #[test]
    fn what_is_kept_aside_is_not_overwritten() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let file = home.path().join("abide.toml");
        fs::write(&file, "now").expect("the folder is ours");
        for (text, name) in [
            ("a", "abide.toml.replaced"),
            ("b", "abide.toml.replaced.2"),
            ("a", "abide.toml.replaced"),
            ("c", "abide.toml.replaced.3"),
        ] {
            let kept = keep_aside(&file, text.as_bytes()).expect("the folder is ours");
            assert_eq!(kept, home.path().join(name));
            assert_eq!(fs::read(&kept).expect("it is there"), text.as_bytes());
        }
    }
}
