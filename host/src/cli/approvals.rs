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
        Some(ApprovalsAction::Show { id }) => {
            let approval = client.get(&path_of(&id)).await?;
            return show(&mut out, &approval, args.json.json);
        }
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
    let mut is_cut = false;
    let rows: Vec<Vec<Cell>> = waiting
        .iter()
        .map(|approval| {
            let arguments = brief(&approval.arguments, ARGUMENTS_CHARS);
            is_cut |= arguments.ends_with('…');
            vec![
                approval.id.to_string().into(),
                ago(approval.asked_at, now).into(),
                duration(approval.expires_at.since(now)).into(),
                Cell::toned(inline(&approval.tool), Tone::Bold),
                arguments.into(),
            ]
        })
        .collect();
    let head = ["id", "asked", "expires in", "tool", "arguments"];
    out.text(&table(out, 0, &head, &rows))?;
    if is_cut {
        out.line("some arguments are cut here; `abide approvals show ID` shows the whole call")?;
    }
    Ok(())
}

/// Shows an approval and all of its arguments. What a human reads is what is approved: hidden characters
/// are escaped, and line breaks stay, marked off from what this command says.
fn show(out: &mut Out, approval: &Approval, as_json: bool) -> Result<(), CliError> {
    if as_json {
        return Ok(out.json(approval)?);
    }
    let now = UnixMillis::now();
    let fields = [
        ("id", approval.id.to_string()),
        ("status", approval.status.as_str().to_owned()),
        ("tool", inline(&approval.tool).into_owned()),
        ("turn", format!("{}, step {}", approval.turn, approval.step)),
        ("asked", ago(approval.asked_at, now)),
    ];
    for (name, value) in fields {
        out.line(format!("{name:<12}{value}"))?;
    }
    if approval.waits() {
        let left = duration(approval.expires_at.since(now));
        out.line(format!("{:<12}{left}", "expires in"))?;
    }
    if let Some(by) = &approval.by {
        let reason = approval.reason.as_deref().map(inline);
        let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        out.line(format!("{:<12}{}{reason}", "decided by", inline(by)))?;
    }
    let cut = match approval.arguments_cut {
        true => " (cut: the turn is over)",
        false => "",
    };
    out.line(format!("arguments{cut}:"))?;
    for line in approval.arguments.split('\n') {
        out.line(format!("  {}", inline(line)))?;
    }
    Ok(())
}

fn path_of(id: &str) -> String {
    format!("/v1/approvals/{}", escape(id))
}

impl Client {
    /// Approves or denies a tool call, with an optional reason. Where the daemon asks nobody for a token,
    /// it lets the command decide by the local socket alone.
    pub(crate) async fn decide(
        &self,
        id: &str,
        approve: bool,
        reason: Option<&str>,
    ) -> Result<Approval, ClientError> {
        let decision = if approve { "approve" } else { "deny" };
        let body = json!({"decision": decision, "reason": reason});
        let decided = self.post(&path_of(id), &body).await;
        let socket = match &decided {
            Err(ClientError::Problem(problem)) => problem.local_socket(),
            _ => None,
        };
        let Some(name) = socket else {
            return decided;
        };
        match self.by_local_socket(&name)?.post(&path_of(id), &body).await {
            // The daemon is on another machine.
            Err(ClientError::Unreachable { .. }) => decided,
            by_socket => by_socket,
        }
    }
}
