//! `abide init`: writes a configuration to start from.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::args::Init;
use super::error::CliError;
use super::global::Global;
use super::out::Out;
use crate::config::starter;

const FILE: &str = "abide.toml";

/// Runs the command. Never overwrites an existing file.
pub(super) fn run(global: &Global, args: &Init) -> Result<(), CliError> {
    fs::create_dir_all(&args.dir).map_err(CliError::file("create", &args.dir))?;
    let file = args.dir.join(FILE);
    let found = beside_program();
    let plugins: Vec<(&str, &str)> = found
        .iter()
        .filter_map(|(name, path)| Some((name.as_str(), path.to_str()?)))
        .collect();
    let mut opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&file)
        .map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => CliError::Failed(format!(
                "{} is there already and stays as it is; edit it, or choose another folder",
                file.display()
            )),
            _ => CliError::file("create", &file)(source),
        })?;
    opened
        .write_all(starter(&plugins).as_bytes())
        .map_err(CliError::file("write", &file))?;

    let mut out = Out::new(global.no_color);
    out.line(format!("wrote {}", file.display()))?;
    let enter = if args.dir == Path::new(".") {
        String::new()
    } else {
        format!("cd {} && ", args.dir.display())
    };
    match plugins.first() {
        None => out.line(format!(
            "\nNo plugins lie beside this abide. Write one with `abide plugin new NAME` and name it\n\
             in {FILE}; then start the daemon:\n\n  {enter}abide serve"
        ))?,
        Some(_) => {
            let names: Vec<&str> = plugins.iter().map(|(name, _)| *name).collect();
            let first = if names.contains(&"echo") { "echo" } else { names[0] };
            out.line(format!(
                "plugins: {}\n\nStart the daemon, and in another terminal talk with a session:\n\n  \
                 {enter}abide serve\n  {enter}abide chat first --plugin {first}",
                names.join(", ")
            ))?;
        }
    }
    Ok(())
}

/// Returns the components in the directory `plugins` beside this program, by name.
pub(super) fn beside_program() -> Vec<(String, PathBuf)> {
    let program = std::env::current_exe().and_then(|path| path.canonicalize());
    let Some(folder) = program
        .ok()
        .and_then(|path| Some(path.parent()?.join("plugins")))
    else {
        return Vec::new();
    };
    components(&folder)
}

/// Returns the components in a directory, by name; none if the directory does not exist.
fn components(folder: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<(String, PathBuf)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_stem()?.to_str()?.to_owned();
            (path.extension()? == "wasm" && path.is_file()).then_some((name, path))
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_components_are_plugins() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["b.wasm", "a.wasm", "a.cwasm", "README"] {
            fs::write(folder.path().join(name), "").expect("a file");
        }
        let names: Vec<String> = components(folder.path())
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["a", "b"]);
        assert!(components(&folder.path().join("none")).is_empty());
    }
}
