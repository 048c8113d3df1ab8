//! `abide send`: sends one message and prints the answer.

use std::io::Read as _;
use std::time::{Duration, Instant};

use rand::Rng as _;

use super::args::Send;
use super::chat::{join, no_session};
use super::client::Client;
use super::error::CliError;
use super::global::Global;
use super::out::{Out, hint};
use super::target;
use super::text::meaning;
use crate::domain::{EventBody, TurnStatus};
use crate::plain_text::inline;

/// Draws a random idempotency key, unique in practice.
pub(crate) fn new_key() -> String {
    format!("cli-{:032x}", rand::rng().random::<u128>())
}

/// Runs the command. Returns `false` if there is no answer in time.
pub(crate) async fn run(global: &Global, args: Send) -> Result<bool, CliError> {
    let text = match args.text.as_str() {
        "-" => stdin()?,
        _ => args.text,
    };
    let client = Client::new(target::find(global)?)?;
    if args.plugin.is_some() {
        join(
            &client,
            &args.id,
            args.plugin.as_deref(),
            args.args.as_ref(),
        )
        .await?;
    }
    let key = args.key.unwrap_or_else(new_key);
    let begun = Instant::now();
    let mut notified = false;
    let sent = client
        .message(&args.id, &text, &key, args.wait, |lost| {
            if !std::mem::replace(&mut notified, true) {
                hint(format!("{lost} (this goes on trying, under the same key)"));
            }
        })
        .await;
    let (accepted, raw) = match sent {
        Err(error) if error.status() == Some(404) => {
            return Err(no_session(&client, &args.id).await);
        }
        sent => sent?,
    };

    let mut out = Out::new(global.no_color);
    if args.json.json {
        out.json(&raw)?;
    } else {
        for event in accepted.output.iter().flatten() {
            match &event.body {
                EventBody::Message { text, .. } => out.session_text(text)?,
                EventBody::Custom { name, data } => match meaning(name) {
                    Some(meaning) => hint(meaning),
                    None => hint(format!("{name}: {data}")),
                },
                EventBody::Turn { .. }
                | EventBody::Notice { .. }
                | EventBody::Tool { .. }
                | EventBody::Timeline { .. }
                | EventBody::Rewound { .. }
                | EventBody::Origin { .. }
                | EventBody::Approval { .. } => {}
            }
        }
    }
    let id = &args.id;
    match accepted.outcome {
        Some(TurnStatus::Completed) => Ok(true),
        Some(TurnStatus::Failed) => {
            let reason = accepted.reason.as_deref().unwrap_or("no reason given");
            Err(CliError::Failed(format!(
                "the turn failed: {reason}; the message {} is a dead letter: `abide sessions show {id}`",
                accepted.message
            )))
        }
        // A turn that has only begun has no outcome.
        None | Some(TurnStatus::Started) if args.wait.is_zero() => {
            hint(format!("accepted as {}", accepted.message));
            Ok(true)
        }
        None | Some(TurnStatus::Started) => {
            let waited = Duration::from_secs(begun.elapsed().as_secs());
            hint(format!(
                "accepted as {}, and not answered in {}; follow it with `abide chat {id}`",
                accepted.message,
                humantime::format_duration(waited)
            ));
            // A faulted session does not answer until an operator acts: say so, and name the
            // remedy.
            if let Ok(view) = client.session(id).await
                && let Some(reason) = view.reason
            {
                hint(format!(
                    "{id} is {}: {} → {}",
                    view.state.as_str(),
                    inline(&reason.text),
                    inline(&reason.action)
                ));
            }
            Ok(false)
        }
    }
}

fn stdin() -> Result<String, CliError> {
    let mut text = String::new();
    match std::io::stdin().read_to_string(&mut text) {
        Ok(_) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(source) => Err(CliError::File {
            doing: "read the message from",
            path: "standard input".into(),
            source,
        }),
    }
}
