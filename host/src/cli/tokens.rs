//! `abide token`: makes, lists and revokes access tokens.

use std::num::NonZeroU32;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;

use super::client::{Client, escape};
use super::error::CliError;
use super::global::{Global, JsonFlag};
use super::out::{Out, Tone};
use super::table::{Cell, table};
use super::target;
use super::text::{ago, duration};
use crate::documents::{Page, TokenCreated, TokenLimitsRequest, TokenRequest};
use crate::domain::{AccessRole, AccessToken, TokenLimits, TokenName, UnixMillis};

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token, and print its secret: it is shown this once
    Create(CreateToken),
    /// List the tokens, without their secrets
    List(ListTokens),
    /// Revoke a token: the next request with it is refused, and its event streams end
    Revoke(RevokeToken),
}

#[derive(Debug, Args)]
pub(crate) struct CreateToken {
    /// Whom or what it is for: 1 to 64 of the characters A-Z a-z 0-9 . _ -
    #[arg(value_parser = |name: &str| TokenName::new(name))]
    name: TokenName,
    /// What its holder may do; each role may do what those before it may
    #[arg(long, value_enum)]
    role: RoleArg,
    /// Its holder may also decide approvals
    #[arg(long)]
    approve: bool,
    /// Only these sessions: an id, or a pattern with `*` for any run of characters. Can be repeated;
    /// without it, all sessions and the daemon itself
    #[arg(long = "session", value_name = "PATTERN")]
    sessions: Vec<String>,
    /// When it stops to be accepted, from now; without it, never
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    expires_in: Option<Duration>,
    /// So many requests may come at once, and that many more by and by in each minute; without it, any
    /// number
    #[arg(long, value_name = "N")]
    requests_per_minute: Option<NonZeroU32>,
    /// At most so many requests that are being answered at a time, event streams included; without it,
    /// any number
    #[arg(long, value_name = "N")]
    requests_at_once: Option<NonZeroU32>,
    #[command(flatten)]
    json: JsonFlag,
}

/// A role, as the command line has it.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleArg {
    /// Reads sessions; with all sessions, also the daemon's status and metrics
    Viewer,
    /// Creates sessions and converses with them
    Client,
    /// Repairs sessions; with all sessions, also restarts, drains and backs up the daemon
    Operator,
    /// With all sessions: makes and revokes tokens, and reads the audit log
    Admin,
}

impl From<RoleArg> for AccessRole {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Viewer => Self::Viewer,
            RoleArg::Client => Self::Client,
            RoleArg::Operator => Self::Operator,
            RoleArg::Admin => Self::Admin,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ListTokens {
    #[command(flatten)]
    json: JsonFlag,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeToken {
    /// The token's name
    name: String,
    #[command(flatten)]
    json: JsonFlag,
}

pub(crate) async fn run(global: &Global, command: TokenCommand) -> Result<(), CliError> {
    let client = Client::new(target::find(global)?)?;
    let out = Out::new(global.no_color);
    match command {
        TokenCommand::Create(args) => create(&client, out, args).await,
        TokenCommand::List(args) => list(&client, out, args).await,
        TokenCommand::Revoke(args) => revoke(&client, out, args).await,
    }
}

async fn create(client: &Client, mut out: Out, args: CreateToken) -> Result<(), CliError> {
    let sessions = match args.sessions.is_empty() {
        true => vec!["*".to_owned()],
        false => args.sessions,
    };
    let request = TokenRequest {
        name: args.name,
        role: args.role.into(),
        approve: args.approve,
        sessions,
        expires_at: args.expires_in.map(|span| UnixMillis::now().later(span)),
        limits: TokenLimitsRequest {
            requests_per_minute: args.requests_per_minute,
            requests_at_once: args.requests_at_once,
        },
    };
    let request = client.request(Method::POST, "/v1/tokens").json(&request);
    let created: TokenCreated = client.json(request).await?;
    if args.json.json {
        return Ok(out.json(&created)?);
    }
    // The secret alone on standard output, for a script or a file.
    super::out::hint(format!(
        "made the token `{}` ({}). Its secret is shown this once: clients send it as \
         `Authorization: Bearer ...`, and `abide` takes it from ABIDE_TOKEN",
        created.token.name, created.token.role
    ));
    Ok(out.line(&created.secret)?)
}

async fn list(client: &Client, mut out: Out, args: ListTokens) -> Result<(), CliError> {
    let page: Page<AccessToken> = client.get("/v1/tokens").await?;
    if args.json.json {
        return Ok(out.json(&page.items)?);
    }
    if page.items.is_empty() {
        return Ok(out.line("no access token")?);
    }
    let now = UnixMillis::now();
    let rows: Vec<Vec<Cell>> = page.items.iter().map(|token| row(token, now)).collect();
    let head = [
        "name", "role", "approves", "sessions", "made", "by", "expires", "limits",
    ];
    Ok(out.text(&table(&out, 0, &head, &rows))?)
}

fn row(token: &AccessToken, now: UnixMillis) -> Vec<Cell> {
    let expires = match token.expires_at {
        None => Cell::from("never"),
        Some(at) if token.has_expired(now) => {
            Cell::toned(format!("expired {}", ago(at, now)), Tone::Bad)
        }
        Some(at) => format!("in {}", duration(at.since(now))).into(),
    };
    let approves = if token.approve { "yes" } else { "no" };
    vec![
        token.name.to_string().into(),
        token.role.as_str().into(),
        approves.into(),
        token.sessions.join(", ").into(),
        ago(token.created_at, now).into(),
        token.created_by.clone().into(),
        expires,
        limits(token.limits).into(),
    ]
}

fn limits(limits: TokenLimits) -> String {
    let per_minute = limits.requests_per_minute.map(|n| format!("{n} a minute"));
    let at_once = limits.requests_at_once.map(|n| format!("{n} at once"));
    let limits: Vec<String> = per_minute.into_iter().chain(at_once).collect();
    limits.join(", ")
}

async fn revoke(client: &Client, mut out: Out, args: RevokeToken) -> Result<(), CliError> {
    let path = format!("/v1/tokens/{}", escape(&args.name));
    let token: AccessToken = client.json(client.request(Method::DELETE, &path)).await?;
    if args.json.json {
        return Ok(out.json(&token)?);
    }
    Ok(out.line(format!("revoked: {}", token.name))?)
}
