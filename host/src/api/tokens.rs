//! Access tokens: make, list and revoke them.

use axum::extract::State;
use axum::{Extension, Json as Answer};
use http::{StatusCode, header};

use super::Api;
use super::auth::{AuditSubject, Caller};
use super::extract::{Json, NameInPath};
use super::problem::{PROBATION_RETRY_SECONDS, Problem, ProblemKind};
use crate::access::{NewToken, TokenRefusal};
use crate::documents::{Page, TokenCreated, TokenRequest};
use crate::domain::{AccessToken, Act, TokenName};

/// The seconds after which a client may try again while the daemon is being replaced.
const RESTART_RETRY_SECONDS: u16 = 1;

/// Lists access tokens, without their secrets.
#[utoipa::path(
    get,
    path = "/v1/tokens",
    operation_id = "list_tokens",
    tag = "access",
    responses(
        (status = 200, description = "All of them, by name, on one page", body = Page<AccessToken, TokenName>),
    ),
)]
pub(super) async fn list(State(api): State<Api>) -> Answer<Page<AccessToken, TokenName>> {
    Answer(Page {
        items: api.tokens.list(),
        next: None,
    })
}

/// Makes an access token. It counts as soon as the response is sent.
#[utoipa::path(
    post,
    path = "/v1/tokens",
    operation_id = "create_token",
    tag = "access",
    request_body = TokenRequest,
    responses(
        (status = 201, description = "The token, with its secret: it is shown this once", body = TokenCreated),
    ),
)]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    Json(request): Json<TokenRequest>,
) -> Result<(StatusCode, Extension<AuditSubject>, Answer<TokenCreated>), Problem> {
    if api.access.token.is_none() {
        let detail = "the configuration names no token, so anybody who reaches this daemon is let \
                      in; set `token_env` or `token_file` under [daemon] first";
        return Err(Problem::new(ProblemKind::NO_TOKEN_CONFIGURED, detail));
    }
    if request.approve && !caller.0.principal.rights.approve {
        // Else an admin without that right would give it to itself.
        caller.allow(Act::Decide, None)?;
    }
    let new = NewToken {
        name: request.name,
        role: request.role,
        approve: request.approve,
        sessions: request.sessions,
        expires_at: request.expires_at,
        limits: request.limits.into(),
    };
    let (token, secret) = api.tokens.create(new, caller.0.name()).await?;
    let subject = Extension(AuditSubject(token.name.to_string()));
    let created = TokenCreated {
        token,
        secret: secret.expose().to_owned(),
    };
    Ok((StatusCode::CREATED, subject, Answer(created)))
}

/// Revokes an access token: the next request with it is refused, and its event streams are ended.
#[utoipa::path(
    delete,
    path = "/v1/tokens/{name}",
    operation_id = "revoke_token",
    tag = "access",
    params(("name" = String, Path, description = "The token's name")),
    responses(
        (status = 200, description = "The token that was revoked", body = AccessToken),
    ),
)]
pub(super) async fn revoke(
    State(api): State<Api>,
    NameInPath(name): NameInPath,
) -> Result<Answer<AccessToken>, Problem> {
    Ok(Answer(api.tokens.revoke(&name).await?))
}

impl From<TokenRefusal> for Problem {
    fn from(refusal: TokenRefusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            TokenRefusal::Taken(_) => Self::new(ProblemKind::TOKEN_EXISTS, detail),
            TokenRefusal::Unknown(_) => Self::new(ProblemKind::UNKNOWN_TOKEN, detail),
            TokenRefusal::TooMany | TokenRefusal::Patterns(_) | TokenRefusal::Past { .. } => {
                Self::new(ProblemKind::INVALID, detail)
            }
            TokenRefusal::NotYet(_) => Self::new(ProblemKind::NOT_YET, detail)
                .header(header::RETRY_AFTER, PROBATION_RETRY_SECONDS),
            TokenRefusal::Restarting => Self::new(ProblemKind::RESTARTING, detail)
                .header(header::RETRY_AFTER, RESTART_RETRY_SECONDS),
            TokenRefusal::RevokedHere(_) | TokenRefusal::Store(_) => {
                Self::new(ProblemKind::STORE_FAILED, detail)
            }
        }
    }
}
