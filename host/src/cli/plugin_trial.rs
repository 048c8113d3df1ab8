//! `abide plugin check FILE --against WHERE`: tries a component on copies of sessions, as a restart that
//! brings it would.

use std::path::Path;
use std::time::Duration;

use reqwest::{Method, header};

use super::client::{Client, escape};
use super::error::CliError;
use super::global::Global;
use super::out::{Out, Tone};
use super::table::{Cell, table};
use super::target;
use super::text::counted;
use super::way_back::read_export;
use crate::config::Config;
use crate::daemon::OfflineTrial;
use crate::domain::{PluginTrial, SessionExport, StayingSession, TrialVerdict};
use crate::plain_text::inline;

/// How long a daemon may take: it compiles the component, and tries all sessions.
pub(super) const PATIENCE: Duration = Duration::from_secs(900);
/// How long it is to try sessions, in milliseconds.
const BUDGET_MS: u32 = 600_000;
/// How many sessions are named for each reason.
const NAMED: usize = 3;

/// The component to try.
pub(super) struct Subject<'a> {
    pub(super) bytes: Vec<u8>,
    /// With the limits and grants of the configuration.
    pub(super) component: OfflineTrial<'a>,
    /// The plugin's name, if it is known.
    pub(super) name: Option<String>,
    pub(super) config: &'a Config,
}

/// Tries it on what `against` names.
pub(super) async fn run(
    global: &Global,
    subject: Subject<'_>,
    against: &str,
) -> Result<PluginTrial, CliError> {
    let is_url = against.starts_with("http://") || against.starts_with("https://");
    if is_url {
        let name = named(&subject, against)?;
        return on_daemon(global, subject, against, &name).await;
    }
    let path = Path::new(against);
    if path.is_dir() {
        let name = named(&subject, against)?;
        let Subject {
            component, config, ..
        } = subject;
        let found = component.on_folder(config, path, name).await;
        return found.map_err(|reason| {
            CliError::Failed(format!(
                "{against} cannot be tried on: {reason} (sessions of a running daemon are tried on with \
                 its URL)"
            ))
        });
    }
    if !path.exists() {
        return Err(CliError::Failed(format!(
            "there is no {against}; --against takes the URL of a daemon, a data folder, a backup or an \
             export"
        )));
    }
    let bytes = read_export(path)?;
    let export = SessionExport::decode(&bytes);
    let export = export.map_err(|bad| CliError::Failed(format!("{against}: {bad}")))?;
    let copy = export.copy;
    if let Some(name) = subject
        .name
        .as_ref()
        .filter(|name| **name != copy.identity.plugin)
    {
        return Err(CliError::Failed(format!(
            "{against} is a session of plugin `{}`, not of `{name}`",
            copy.identity.plugin
        )));
    }
    let mut found = PluginTrial::new(
        copy.identity.plugin.clone(),
        subject.component.component.digest(),
        1,
    );
    // As in a daemon of this configuration, whatever the file is called.
    let of_its_plugin = subject.config.plugins.get(&copy.identity.plugin);
    let component = match (&subject.name, of_its_plugin) {
        (None, Some(plugin)) => OfflineTrial {
            limits: plugin.limits.clone(),
            grants: plugin.capabilities.clone(),
            ..subject.component
        },
        _ => subject.component,
    };
    let report = component.on_export(&copy).await;
    found.add(copy.session, report);
    Ok(found)
}

fn named(subject: &Subject<'_>, against: &str) -> Result<String, CliError> {
    subject.name.clone().ok_or_else(|| {
        CliError::Failed(format!(
            "{} has no plugin whose file this is; --plugin NAME says whose sessions of {against} it is \
             tried on",
            subject.config.file.display()
        ))
    })
}

async fn on_daemon(
    global: &Global,
    subject: Subject<'_>,
    url: &str,
    name: &str,
) -> Result<PluginTrial, CliError> {
    let at = Global {
        url: Some(url.to_owned()),
        ..global.clone()
    };
    let client = Client::new(target::find(&at)?)?;
    let path = format!("/v1/plugins/{}/trial?budget_ms={BUDGET_MS}", escape(name));
    let request = client.request(Method::POST, &path);
    let request = request
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .body(subject.bytes);
    Ok(client.json_within(request, PATIENCE).await?)
}

/// Prints what was found.
pub(super) fn show(out: &mut Out, found: &PluginTrial) -> std::io::Result<()> {
    out.line(inline(&found.summary()))?;
    let groups = found
        .stay
        .chunk_by(|a, b| (a.verdict, &a.text) == (b.verdict, &b.text));
    let rows = groups.filter_map(|alike| {
        let first = alike.first()?;
        let tone = match first.verdict {
            TrialVerdict::Failed => Tone::Bad,
            TrialVerdict::Suspect => Tone::Warn,
            TrialVerdict::Passed | TrialVerdict::Untried => Tone::Plain,
        };
        let row: Vec<Cell> = vec![
            names(alike).into(),
            Cell::toned(first.verdict.as_str(), tone),
            inline(&first.text).into_owned().into(),
        ];
        Some(row)
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return Ok(());
    }
    out.text(&table(out, 2, &["session", "verdict", "why"], &rows))
}

/// Returns the names of sessions of which the same is to be said: the first ones, and how many more.
fn names(alike: &[StayingSession]) -> String {
    let named = alike.iter().take(NAMED);
    let named: Vec<_> = named.map(|session| session.id.as_str()).collect();
    match alike.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// Fails if not all sessions can be carried on, or are known to be.
pub(super) fn verdict(file: &Path, found: &PluginTrial) -> Result<(), CliError> {
    let (staying, untried) = (found.staying(), found.untried);
    let file = file.display();
    let text = match (staying, untried) {
        (0, 0) => return Ok(()),
        (0, untried) => format!("{file}: {} could not be tried", counted(untried, "session")),
        (staying, _) => format!(
            "{file}: {staying} of {} would stay on the component that they run on",
            counted(found.sessions, "session")
        ),
    };
    Err(CliError::Failed(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::SessionId;

    #[test]
    fn sessions_with_one_reason_are_named_together() {
        let staying = |n: u32| StayingSession {
            id: SessionId::new(format!("s{n}")).expect("it is one"),
            verdict: TrialVerdict::Failed,
            text: String::new(),
        };
        let all: Vec<_> = (0..20).map(staying).collect();
        assert_eq!(names(&all[..1]), "s0");
        assert_eq!(names(&all[..3]), "s0, s1, s2");
        assert_eq!(names(&all), "s0, s1, s2 and 17 more");
    }
}
