//! `abide approvals`: tool calls that wait for a human, and the answers.

use http::Method;
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
use crate::domain::{Approval, StandingApproval, UnixMillis};
use crate::plain_text::inline;

/// The width to which arguments are cut in the table.
const ARGUMENTS_CHARS: usize = 80;

pub(crate) async fn run(global: &Global, args: Approvals) -> Result<(), CliError> {
    let client = Client::new(target::find(global)?)?;
    let mut out = Out::new(global.no_color);
    let (id, decision) = match args.action {
        None | Some(ApprovalsAction::List) => return list(&client, &mut out, args.json.json).await,
        Some(ApprovalsAction::Show { id }) => {
            let approval = client.approval(&id).await?;
            return show(&mut out, &approval, args.json.json);
        }
        Some(ApprovalsAction::Approve { id, always }) => {
            let approve = Decision {
                approve: true,
                always,
                reason: None,
            };
            (id, approve)
        }
        Some(ApprovalsAction::Deny { id, reason }) => {
            let deny = Decision {
                reason,
                ..Decision::default()
            };
            (id, deny)
        }
        Some(ApprovalsAction::Standing) => {
            return list_standing(&client, &mut out, args.json.json).await;
        }
        Some(ApprovalsAction::Revoke { id }) => {
            let revoked = client.revoke_standing(&id).await?;
            if args.json.json {
                return Ok(out.json(&revoked)?);
            }
            return Ok(out.line(format!("{id}: calls like it are asked about again"))?);
        }
    };
    let approval = client.decide(&id, &decision).await?;
    if args.json.json {
        return Ok(out.json(&approval)?);
    }
    let status = approval.status.as_str();
    out.line(format!("{id}: {status}: {}", inline(&approval.line())))?;
    if decision.always {
        out.line(format!(
            "the same call is made without asking from now on, in this session; `abide approvals revoke {id}` \
             ends that"
        ))?;
    }
    Ok(())
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

async fn list_standing(client: &Client, out: &mut Out, as_json: bool) -> Result<(), CliError> {
    let page: Page<StandingApproval> = client.get("/v1/standing-approvals").await?;
    let standing = page.items;
    if as_json {
        return Ok(out.json(&standing)?);
    }
    if standing.is_empty() {
        return Ok(out.line("no call is always approved")?);
    }
    let now = UnixMillis::now();
    let rows: Vec<Vec<Cell>> = standing
        .iter()
        .map(|standing| {
            vec![
                standing.id.to_string().into(),
                ago(standing.since, now).into(),
                inline(standing.by.as_deref().unwrap_or_default()).into(),
                Cell::toned(inline(&standing.tool), Tone::Bold),
                brief(&standing.arguments, ARGUMENTS_CHARS).into(),
            ]
        })
        .collect();
    let head = ["id", "since", "by", "tool", "arguments"];
    Ok(out.text(&table(out, 0, &head, &rows))?)
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

/// What a human decides about a call.
#[derive(Default)]
pub(crate) struct Decision {
    pub(crate) approve: bool,
    /// Whether each later call like it is made without asking.
    pub(crate) always: bool,
    pub(crate) reason: Option<String>,
}

impl Client {
    /// Returns an approval, with the whole call while its turn is open.
    pub(crate) async fn approval(&self, id: &str) -> Result<Approval, ClientError> {
        self.get(&path_of(id)).await
    }

    /// Approves or denies a tool call.
    pub(crate) async fn decide(
        &self,
        id: &str,
        decision: &Decision,
    ) -> Result<Approval, ClientError> {
        let Decision {
            approve,
            always,
            reason,
        } = decision;
        let word = match (approve, always) {
            (true, true) => "approve_always",
            (true, false) => "approve",
            (false, _) => "deny",
        };
        let body = json!({"decision": word, "reason": reason});
        let path = path_of(id);
        self.as_human(async |client| client.post(&path, &body).await)
            .await
    }

    async fn revoke_standing(&self, id: &str) -> Result<StandingApproval, ClientError> {
        let path = format!("/v1/standing-approvals/{}", escape(id));
        self.as_human(async |client| client.json(client.request(Method::DELETE, &path)).await)
            .await
    }

    /// Sends what is for humans to decide. Where the daemon asks nobody for a token, it takes that from the
    /// local socket alone.
    async fn as_human<T>(
        &self,
        send: impl AsyncFn(&Self) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let sent = send(self).await;
        let socket = match &sent {
            Err(ClientError::Problem(problem)) => problem.local_socket(),
            _ => None,
        };
        let Some(name) = socket else {
            return sent;
        };
        match send(&self.by_local_socket(&name)?).await {
            // The daemon is on another machine.
            Err(ClientError::Unreachable { .. }) => sent,
            by_socket => by_socket,
        }
    }
}
