//! `abide approvals`: tool calls that wait for a human, and the answers.

use serde_json::{Value, json};

use super::args::{Approvals, ApprovalsAction};
use super::client::{Client, ClientError, escape};
use super::error::CliError;
use super::global::Global;
use super::out::{Out, Tone};
use super::table::{Cell, table};
use super::target;
use super::text::{ago, brief, duration};
use crate::documents::Page;
use crate::domain::{Approval, UnixMillis};
use crate::plain_text::inline;

/// The width to which arguments are cut in the table.
const ARGUMENTS_CHARS: usize = 80;

pub(crate) async fn run(global: &Global, args: Approvals) -> Result<(), CliError> {
    let client = Client::new(target::find(global)?)?;
    let mut out = Out::new(global.no_color);
    let (id, approve, reason) = match args.action {
        None | Some(ApprovalsAction::List) => return list(&client, &mut out, args.json.json).await,
        Some(ApprovalsAction::Approve { id }) => (id, true, None),
        Some(ApprovalsAction::Deny { id, reason }) => (id, false, reason),
    };
    let approval = client.decide(&id, approve, reason.as_deref()).await?;
    if args.json.json {
        return Ok(out.json(&approval)?);
    }
    let status = approval.status.as_str();
    Ok(out.line(format!("{id}: {status}: {}", inline(&approval.line())))?)
}

async fn list(client: &Client, out: &mut Out, as_json: bool) -> Result<(), CliError> {
    let (mut waiting, mut after) = (Vec::new(), None::<String>);
    loop {
        let path = match &after {
            Some(after) => format!("/v1/approvals?after={}", escape(after)),
            None => "/v1/approvals".to_owned(),
        };
        let page: Page<Approval> = client.get(&path).await?;
        waiting.extend(page.items);
        match page.next {
            Some(Value::String(next)) => after = Some(next),
            _ => break,
        }
    }
    if as_json {
        return Ok(out.json(&waiting)?);
    }
    if waiting.is_empty() {
        return Ok(out.line("nothing waits for an approval")?);
    }
    let now = UnixMillis::now();
    let rows: Vec<Vec<Cell>> = waiting
        .iter()
        .map(|approval| {
            vec![
                approval.id.to_string().into(),
                ago(approval.asked_at, now).into(),
                duration(approval.expires_at.since(now)).into(),
                Cell::toned(inline(&approval.tool), Tone::Bold),
                brief(&approval.arguments, ARGUMENTS_CHARS).into(),
            ]
        })
        .collect();
    let head = ["id", "asked", "expires in", "tool", "arguments"];
    out.text(&table(out, 0, &head, &rows))?;
    Ok(())
}

impl Client {
    /// Approves or denies a tool call, with an optional reason.
    pub(crate) async fn decide(
        &self,
        id: &str,
        approve: bool,
        reason: Option<&str>,
    ) -> Result<Approval, ClientError> {
        let decision = if approve { "approve" } else { "deny" };
        let body = json!({"decision": decision, "reason": reason});
        self.post(&format!("/v1/approvals/{}", escape(id)), &body)
            .await
    }
}
