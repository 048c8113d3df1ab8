//! `abide resume`: lets sessions run again, one or all that wait because their history was cut.

use reqwest::Method;
use serde_json::{Value, json};

use super::args::Resume;
use super::calls::{Filter, session_path};
use super::client::{Client, ClientError};
use super::error::CliError;
use super::global::Global;
use super::out::{Out, Tone};
use super::pages::{PAGE, Tally, each};
use super::target;
use crate::domain::{HISTORY_CUT, SessionId, SessionView};
use crate::plain_text::inline;

pub(crate) async fn run(global: &Global, args: Resume) -> Result<(), CliError> {
    let client = Client::new(target::find(global)?)?;
    let mut out = Out::new(global.no_color);
    let as_json = args.json.json;
    match args.id {
        Some(id) => one(&client, &mut out, &id, as_json).await,
        // The grammar requires one of the two.
        None => all(&client, &mut out, as_json).await,
    }
}

async fn one(
    client: &Client,
    out: &mut Out,
    id: &SessionId,
    as_json: bool,
) -> Result<(), CliError> {
    let answer = client.resume(id).await?;
    if as_json {
        return Ok(out.json(&answer)?);
    }
    let view: SessionView = serde_json::from_value(answer).map_err(|e| client.foreign(e))?;
    // A session that was faulted may still wait because its history was cut.
    match view.reason {
        None => Ok(out.line(format!("{id}: it goes on"))?),
        Some(reason) => {
            let text = format!("{id}: {}: {}", inline(&reason.text), inline(&reason.action));
            Ok(out.line(out.paint(Tone::Warn, &text))?)
        }
    }
}

/// Resumes all sessions that wait because their history was cut. One that refuses does not keep the others
/// from going on.
async fn all(client: &Client, out: &mut Out, as_json: bool) -> Result<(), CliError> {
    let filter = Filter {
        state: Some("parked".to_owned()),
        limit: Some(PAGE),
        ..Filter::default()
    };
    let mut tally = Tally::default();
    each(
        client,
        |after| filter.path(after),
        async |view: SessionView| {
            if view.reason.is_none_or(|reason| reason.code != HISTORY_CUT) {
                return Ok(true);
            }
            // Somebody else may have resumed or closed it meanwhile, or it cannot be written.
            let answer = client.resume(&view.id).await;
            let resumed = tally.take(view.id.as_str(), json!(view.id), answer)?;
            if resumed.is_some() && !as_json {
                out.line(format!("{}: it goes on, {} queued", view.id, view.queued))?;
            }
            Ok(true)
        },
    )
    .await?;
    tally.report(
        out,
        as_json,
        "resumed",
        "no session waits because its history was cut",
        "session(s) did not go on (`abide sessions show ID` looks at one)",
    )
}

impl Client {
    async fn resume(&self, id: &SessionId) -> Result<Value, ClientError> {
        let request = self.request(Method::POST, &session_path(id, "/resume"));
        self.json(request.json(&json!({}))).await
    }
}
