//! `abide audit`: what operators did.

use clap::Args;

use super::client::Client;
use super::error::CliError;
use super::global::{Global, JsonFlag};
use super::out::{Out, Tone};
use super::table::{Cell, table};
use super::target;
use super::text::ago;
use crate::documents::Page;
use crate::domain::{AuditEntry, UnixMillis};

#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// The latest so many, at most 1000
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    json: JsonFlag,
}

pub(crate) async fn run(global: &Global, args: Audit) -> Result<(), CliError> {
    let client = Client::new(target::find(global)?)?;
    let mut out = Out::new(global.no_color);
    let page: Page<AuditEntry> = client
        .get(&format!("/v1/audit?limit={}", args.limit))
        .await?;
    if args.json.json {
        return Ok(out.json(&page.items)?);
    }
    if page.items.is_empty() {
        return Ok(out.line("no operator has acted yet")?);
    }
    let now = UnixMillis::now();
    let rows: Vec<Vec<Cell>> = page.items.iter().map(|entry| row(entry, now)).collect();
    Ok(out.text(&table(
        &out,
        0,
        &["when", "who", "act", "on", "status"],
        &rows,
    ))?)
}

fn row(entry: &AuditEntry, now: UnixMillis) -> Vec<Cell> {
    let status = match entry.status {
        None => Cell::toned("no response", Tone::Warn),
        Some(status) if status < 400 => status.to_string().into(),
        Some(status) => Cell::toned(status.to_string(), Tone::Bad),
    };
    vec![
        ago(entry.at, now).into(),
        entry.who.clone().into(),
        entry.act.clone().into(),
        entry.subject.clone().unwrap_or_default().into(),
        status,
    ]
}
