//! `abide resume`: lets sessions run again, one or all that wait because their history was cut.

use reqwest::Method;
use serde_json::{Value, json};

use super::args::Resume;
use super::calls::{Filter, session_path};
use super::client::{Client, ClientError};
use super::error::CliError;
use super::global::Global;
use super::out::{Out, Tone, hint};
use super::target;
use crate::documents::Page;
use crate::domain::{HISTORY_CUT, SessionId, SessionView};
use crate::plain_text::inline;

/// Sessions per page when all are resumed.
const PAGE: u32 = 500;

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

/// Resumes all sessions that wait because their history was cut, page by page. A session that
/// refuses does not keep the others from going on.
async fn all(client: &Client, out: &mut Out, as_json: bool) -> Result<(), CliError> {
    let mut filter = Filter {
        state: Some("parked".to_owned()),
        limit: Some(PAGE),
        ..Filter::default()
    };
    let (mut resumed, mut refused) = (Vec::new(), Vec::new());
    loop {
        let page: Page<Value> = client.get(&filter.path()).await?;
        let next = page.next_text();
        for item in page.items {
            let view: SessionView =
                serde_json::from_value(item).map_err(|error| client.foreign(error))?;
            if view.reason.is_none_or(|reason| reason.code != HISTORY_CUT) {
                continue;
            }
            match client.resume(&view.id).await {
                Ok(_) => {
                    if !as_json {
                        out.line(format!("{}: it goes on, {} queued", view.id, view.queued))?;
                    }
                    resumed.push(view.id);
                }
                // Somebody else resumed or closed it meanwhile, or it cannot be written.
                Err(ClientError::Problem(problem)) => {
                    hint(format!("{}: {problem}", view.id));
                    refused.push(view.id);
                }
                Err(error) => return Err(error.into()),
            }
        }
        // The second condition guards against a daemon that returns the same page again.
        if next.is_none() || next == filter.after {
            break;
        }
        filter.after = next;
    }
    if as_json {
        out.json(&json!({ "resumed": resumed, "refused": refused }))?;
    } else if resumed.is_empty() && refused.is_empty() {
        out.line("no session waits because its history was cut")?;
    }
    match refused.len() {
        0 => Ok(()),
        count => Err(CliError::Failed(format!(
            "{count} session(s) did not go on, for the reasons above; look at each with \
             `abide sessions show ID`"
        ))),
    }
}

impl Client {
    async fn resume(&self, id: &SessionId) -> Result<Value, ClientError> {
        let request = self.request(Method::POST, &session_path(id, "/resume"));
        self.json(request.json(&json!({}))).await
    }
}
