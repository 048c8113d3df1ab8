//! `abide plugin adopt` and `abide plugin retire`: sessions that stay on an older component of their plugin
//! run on its present one.

use serde_json::{Value, json};

use super::calls::Filter;
use super::client::{Client, ClientError};
use super::error::CliError;
use super::global::Global;
use super::out::{Out, Tone};
use super::pages::{PAGE, Tally, each};
use super::plugin_args::{Adopt, Retire};
use super::target;
use crate::domain::{Digest, SessionId, SessionState, SessionView};
use crate::plain_text::inline;

pub(super) async fn adopt(global: &Global, args: Adopt) -> Result<(), CliError> {
    let client = Client::new(target::find(global)?)?;
    let mut out = Out::new(global.no_color);
    match &args.id {
        Some(id) => {
            let answer = one(&client, id, &body(args.force)).await?;
            match args.json.json {
                true => out.json(&answer)?,
                false => report(&client, &mut out, answer)?,
            }
            Ok(())
        }
        // The grammar requires one of the two.
        None => {
            let pinned = Filter {
                plugin: args.plugin,
                pinned: true,
                limit: Some(PAGE),
                ..Filter::default()
            };
            let (body, as_json) = (body(args.force), args.json.json);
            many(&client, &mut out, pinned, |_| true, &body, as_json).await
        }
    }
}

pub(super) async fn retire(global: &Global, args: Retire) -> Result<(), CliError> {
    let client = Client::new(target::find(global)?)?;
    let mut out = Out::new(global.no_color);
    let of = |digest: Digest| digest.to_string().starts_with(&args.component);
    // Its sessions on it do not leave it.
    let present = client.daemon().await?.plugins;
    if let Some(plugin) = present.iter().find(|plugin| plugin.digest.is_some_and(of)) {
        return Err(CliError::Failed(format!(
            "that is the present component of [plugins.{}]; change its file first",
            plugin.name
        )));
    }
    // Also those that have not run since there is another one.
    let all = Filter {
        limit: Some(PAGE),
        ..Filter::default()
    };
    let is_meant = |view: &SessionView| view.component.is_some_and(of);
    // Whoever gives a component up has not said that a state may be lost.
    let body = json!({ "or_fault": true });
    many(&client, &mut out, all, is_meant, &body, args.json.json).await
}

fn body(force: bool) -> Value {
    json!({ "force": force })
}

async fn one(client: &Client, id: &SessionId, body: &Value) -> Result<Value, ClientError> {
    client.act(id, "adopt", body).await
}

/// Has all sessions of a list that are meant adopt their plugin's component. One that cannot keeps no other
/// from it.
async fn many(
    client: &Client,
    out: &mut Out,
    filter: Filter,
    is_meant: impl Fn(&SessionView) -> bool,
    body: &Value,
    as_json: bool,
) -> Result<(), CliError> {
    let mut tally = Tally::default();
    each(
        client,
        |after| filter.path(after),
        async |view: SessionView| {
            if !is_meant(&view) {
                return Ok(true);
            }
            let answer = one(client, &view.id, body).await;
            let adopted = tally.take(view.id.as_str(), json!(view.id), answer)?;
            if let Some(answer) = adopted.filter(|_| !as_json) {
                report(client, out, answer)?;
            }
            Ok(true)
        },
    )
    .await?;
    tally.report(
        out,
        as_json,
        "adopted",
        "no session stays on such a component",
        "session(s) stay on their older component",
    )
}

fn report(client: &Client, out: &mut Out, answer: Value) -> Result<(), CliError> {
    let view: SessionView = serde_json::from_value(answer).map_err(|e| client.foreign(e))?;
    let id = &view.id;
    if view.state != SessionState::Faulted {
        return Ok(out.line(format!(
            "{id}: it runs on its plugin's component from its next turn on"
        ))?);
    }
    let reason = view.reason.map(|reason| inline(&reason.text).into_owned());
    let text = format!("{id}: faulted: {}", reason.unwrap_or_default());
    Ok(out.line(out.paint(Tone::Bad, &text))?)
}
