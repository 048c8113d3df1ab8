//! `abide backup`: asks the daemon for a backup, and waits until it is complete.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::args::Backup;
use super::client::{Client, ClientError};
use super::error::CliError;
use super::global::Global;
use super::out::{Out, hint};
use super::target;
use super::text::{counted, duration, grouped, size};
use crate::documents::BackupReport;

/// How long a backup may take: so long that it is no limit, since ^C ends it.
const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3600);

pub(crate) async fn run(global: &Global, args: Backup) -> Result<(), CliError> {
    let file = CliError::file("find", &args.folder);
    let folder = std::path::absolute(&args.folder).map_err(file)?;
    let Some(path) = folder.to_str() else {
        return Err(CliError::Usage(format!(
            "the path {} is not UTF-8; name another folder",
            folder.display()
        )));
    };
    let client = Client::new(target::find(global)?)?;
    let request = client.request(Method::POST, "/v1/backups");
    let request = request.json(&json!({ "folder": path }));
    let report: BackupReport = match client.json_within(request, PATIENCE).await {
        Err(error @ ClientError::Lost { .. }) => {
            hint(format!(
                "{path} is a backup only if it has a file `BACKUP`; else remove it"
            ));
            return Err(error.into());
        }
        answered => answered?,
    };
    let mut out = Out::new(global.no_color);
    if args.json.json {
        return Ok(out.json(&report)?);
    }
    Ok(out.line(format!("{}: {}", report.folder.display(), summary(&report)))?)
}

/// Describes a backup in a few words.
pub(super) fn summary(report: &BackupReport) -> String {
    format!(
        "{} with {}, of {}, up to operation {}; verified in {}",
        counted(report.files, "file"),
        size(report.bytes),
        report.at,
        grouped(report.sequence),
        duration(report.took_ms)
    )
}
