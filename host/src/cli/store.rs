//! `abide store`: checks the store of a stopped daemon, or writes what can be read of a damaged one into
//! another folder.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use super::args::{CheckStore, Salvage, StoreCommand};
use super::error::CliError;
use super::global::Global;
use super::out::{Out, Tone, hint};
use crate::config::{Config, process_env};
use crate::daemon::StoreFiles;
use crate::domain::{SalvageReport, TouchedFate};
use crate::plain_text::inline;
use crate::private_files::keep_private;

/// How often the progress is shown.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// Runs the command. Returns false if the store is damaged, which has been reported.
pub(super) fn run(global: &Global, command: StoreCommand) -> Result<bool, CliError> {
    keep_private();
    let mut out = Out::new(global.no_color);
    let path = &global.config;
    let loaded = Config::load(path, &process_env());
    let config = loaded
        .map_err(|error| CliError::Failed(error.to_string()))?
        .config;
    let data = &config.daemon.data_dir;
    let files = StoreFiles::of(&config);
    let mut progress = ReadProgress::new();
    match command {
        StoreCommand::Check(CheckStore { json }) => {
            let report = files.check(&mut |bytes| progress.tell(bytes));
            let report = report.map_err(CliError::Failed)?;
            progress.end();
            let is_sound = report.is_sound();
            if json.json {
                out.json(&report)?;
            } else if is_sound {
                let size = bytesize::ByteSize::b(report.bytes).display().iec();
                let sessions = report.sessions;
                let data = data.display();
                out.line(format!("{data} is sound: {sessions} sessions, {size}"))?;
            } else {
                show(&mut out, &report)?;
                hint(
                    "a start writes anew what can be read, if only tables are damaged; `abide store \
                     salvage NEW` does it in another folder, whatever is damaged",
                );
            }
            Ok(is_sound)
        }
        StoreCommand::Salvage(Salvage { new, json }) => {
            let report = files.salvage(&new, &mut |bytes| progress.tell(bytes));
            let report = report.map_err(CliError::Failed)?;
            progress.end();
            if json.json {
                out.json(&report)?;
                return Ok(true);
            }
            show(&mut out, &report)?;
            let (new, data) = (new.display(), data.display());
            out.line(format!(
                "what can be read is in {new}. Put it in the place of {data} (keep that), or set \
                 daemon.data_dir to it, and start; `abide resume --all` lets the sessions go on that \
                 wait"
            ))?;
            Ok(true)
        }
    }
}

fn show(out: &mut Out, report: &SalvageReport) -> Result<(), CliError> {
    for file in &report.damaged_files {
        let text = format!("{}: {}", inline(&file.file), inline(&file.what));
        out.line(out.paint(Tone::Bad, &text))?;
    }
    if let Some(missing) = &report.missing {
        let text = format!("missing: {}", inline(missing));
        out.line(out.paint(Tone::Bad, &text))?;
    }
    for session in &report.touched {
        let fate = match session.fate {
            TouchedFate::GoesOn => "goes on",
            TouchedFate::Cut => "its history is cut",
            TouchedFate::Gone => "it is gone",
        };
        let text = format!("{}: {fate}: {}", session.id, inline(&session.what));
        out.line(out.paint(Tone::Warn, &text))?;
    }
    for lost in &report.lost {
        out.line(out.paint(Tone::Warn, &format!("lost: {}", inline(lost))))?;
    }
    let size = bytesize::ByteSize::b(report.bytes).display().iec();
    let (whole, sessions) = (report.whole, report.sessions);
    out.line(format!("{whole} of {sessions} sessions are whole, {size}"))?;
    Ok(())
}

/// The progress, on a terminal.
struct ReadProgress {
    shown: Option<Instant>,
    is_tty: bool,
}

impl ReadProgress {
    fn new() -> Self {
        Self {
            shown: None,
            is_tty: std::io::stderr().is_terminal(),
        }
    }

    fn tell(&mut self, bytes: u64) {
        let is_due = self
            .shown
            .is_none_or(|shown| shown.elapsed() >= PROGRESS_EVERY);
        if self.is_tty && is_due {
            self.shown = Some(Instant::now());
            let size = bytesize::ByteSize::b(bytes).display().iec();
            // A terminal that is gone misses nothing.
            let _ = write!(std::io::stderr(), "\r{size} read ");
        }
    }

    fn end(&self) {
        if self.shown.is_some() {
            let _ = writeln!(std::io::stderr());
        }
    }
}
