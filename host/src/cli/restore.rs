//! `abide restore`: puts a backup in the place of a data folder, without a daemon.

use super::args::Restore;
use super::backup::summary;
use super::error::CliError;
use super::global::Global;
use super::out::{Out, hint};
use super::text::counted;
use crate::daemon;
use crate::private_files::keep_private;

pub(super) fn run(global: &Global, args: &Restore) -> Result<(), CliError> {
    keep_private();
    let file = CliError::file("find", &args.folder);
    let folder = std::path::absolute(&args.folder).map_err(file)?;
    let report = daemon::restore(&global.config, &folder)
        .map_err(|error| CliError::Failed(daemon::error_text(&error)))?;
    let mut out = Out::new(global.no_color);
    if args.json.json {
        return Ok(out.json(&report)?);
    }
    out.line(format!(
        "{}: {}",
        report.data_dir.display(),
        summary(&report.backup)
    ))?;
    out.line(format!(
        "{}; {} of them wait, since what came after the backup is missing",
        counted(report.sessions, "open session"),
        report.waiting
    ))?;
    hint(
        "start the daemon with `abide serve`; then `abide resume --all` lets the sessions go on, and \
         each is told first",
    );
    Ok(())
}
