//! Who calls, and whether they may: each request passes here before its handler.
//!
//! ```text
//!   request --> right page? --> who? --------------------> may they? -------> handler
//!               `pages`         token of the configuration,  `rules`, and the     (an operator's act is
//!                               access token, or anybody     principal's rights    recorded around it)
//! ```

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use http::{HeaderMap, HeaderValue, Method, header};

use super::Api;
use super::extract::header_once;
use super::metrics;
use super::openai::{self, OpenAiError};
use super::pages::Pages;
use super::problem::{Problem, ProblemKind};
use super::rules::{self, Rule, Subject};
use super::server::PeerKind;
use crate::access::{Admission, AuditLog, Holder, Tokens, TooMuch};
use crate::domain::{
    Act, ApprovalId, Denial, DenialReason, Digest, Principal, SessionId, TokenName, UnixMillis,
};

/// The seconds after which a client may try again whose token cannot be checked.
const UNCHECKED_RETRY_SECONDS: u16 = 1;

/// The digest of a bearer token; the token itself is not kept.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenDigest(Digest);

impl TokenDigest {
    pub fn new(token: &str) -> Self {
        Self(Digest::of(token.as_bytes()))
    }

    /// Compares in a time that reveals nothing about the token: the digest of an attacker's text
    /// cannot be steered, and all bytes are compared.
    fn is(&self, other: &Digest) -> bool {
        let pairs = self.0.as_bytes().iter().zip(other.as_bytes());
        let differing = pairs.fold(0, |all, (a, b)| all | (a ^ b));
        std::hint::black_box(differing) == 0
    }
}

impl std::fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What the configuration says of who may call the API.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The token that the configuration names. Without one, anybody may do everything but decide
    /// approvals, which is for the local socket.
    pub token: Option<TokenDigest>,
    /// The name of the local socket, if there is one: `@` and its abstract name.
    pub local_socket: Option<String>,
    pub pages: Pages,
}

/// What requests are judged by.
pub(super) struct Gate {
    access: Arc<Access>,
    /// The access tokens and the audit log; none while the store, which has them, is not open.
    stored: Option<(Tokens, AuditLog)>,
    anybody: Arc<Holder>,
    local: Arc<Holder>,
    configured: Arc<Holder>,
}

/// What an act was about, where its path does not tell: handlers leave it with the response.
#[derive(Clone)]
pub(super) struct AuditSubject(pub(super) String);

/// Who sent a request, for handlers that need to know.
#[derive(Clone)]
pub(super) struct Caller(pub(super) Arc<Holder>);

impl FromRequestParts<Api> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        // The gate leaves one with each request that it lets through, but for probes, which do not ask.
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| unauthorized("the caller is not known"))
    }
}

impl Caller {
    /// Refuses what the caller may not do.
    pub(super) fn allow(&self, act: Act, session: Option<&SessionId>) -> Result<(), Problem> {
        Ok(self.0.principal.allow(act, session)?)
    }

    /// Returns the name that is recorded with a message.
    pub(super) fn sender(&self) -> Option<String> {
        self.0.name().sender().map(str::to_owned)
    }
}

impl From<Denial> for Problem {
    fn from(denial: Denial) -> Self {
        Self::new(ProblemKind::FORBIDDEN, denial.to_string())
    }
}

/// The middleware that lets requests through, or refuses them, and counts both. One for the two: each
/// layer of the router takes some microseconds of a request.
pub(super) async fn enter(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let counted = metrics::Counted::begin(&request);
    let is_openai = openai::is_path(request.uri().path());
    let response = match pass(&gate, request, next).await {
        Ok(response) => response,
        Err(problem) if is_openai => OpenAiError::from(problem).into_response(),
        Err(problem) => problem.into_response(),
    };
    counted.end(response.status());
    response
}

async fn pass(gate: &Gate, request: Request, next: Next) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let pages = &gate.access.pages;
    pages.allow(parts.version, &parts.uri, &parts.headers)?;
    let route = parts.extensions.get::<MatchedPath>().cloned();
    // A daemon that cannot serve has no route for some paths, which mean the same.
    let path = route.as_ref().map_or(parts.uri.path(), MatchedPath::as_str);
    let rule = rules::find(&parts.method, path);
    if let Ok(Rule { needs: None, .. }) = rule {
        return Ok(next.run(Request::from_parts(parts, body)).await);
    }
    let peer = parts.extensions.get::<PeerKind>().copied();
    let holder = gate.holder(&parts.headers, peer.unwrap_or_default())?;
    let admission = holder.admit()?;
    let audited = match rule {
        Ok(rule) => {
            let subject = RequestSubject::of(rule, &mut parts).await;
            if let Some(act) = rule.needs {
                let allowed = holder.principal.allow(act, subject.session.as_ref());
                allowed.map_err(|denial| gate.refusal(denial))?;
            }
            rule.is_audited.then_some((rule, subject.name))
        }
        // A daemon that cannot serve answers all of them alike.
        Err(methods) if route.is_some() && gate.stored.is_some() => {
            return Err(wrong_method(&parts, &methods));
        }
        // The fallback says that there is nothing.
        Err(_) => None,
    };
    parts.extensions.insert(Caller(holder.clone()));
    let request = Request::from_parts(parts, body);
    let response = match (audited, &gate.stored) {
        // Boxed, as what is rare: the future of every request has room for the largest of these.
        (Some((rule, subject)), Some((_, log))) => {
            let recorded = async {
                let who = holder.name();
                let entry = log.begin(who, rule.operation, subject.as_deref()).await;
                let response = next.run(request).await;
                let made = response.extensions().get::<AuditSubject>();
                let made = made.map(|AuditSubject(name)| name.clone());
                log.end(entry, made, response.status().as_u16()).await;
                response
            };
            Box::pin(recorded).await
        }
        _ if holder.may_end() => tokio::select! {
            biased;
            response = Box::pin(next.run(request)) => response,
            () = Box::pin(holder.ended()) => return Err(unauthorized(
                "the token was revoked or has expired while the request was answered",
            )),
        },
        _ => next.run(request).await,
    };
    Ok(ending_with(response, holder, admission))
}

/// What a request is about, by its path.
#[derive(Default)]
struct RequestSubject {
    session: Option<SessionId>,
    /// As the audit log has it, if the request is audited.
    name: Option<String>,
}

impl RequestSubject {
    /// An id that makes no sense is the handler's to refuse, and is nowhere recorded.
    async fn of(rule: &Rule, parts: &mut Parts) -> Self {
        let Ok(params) = RawPathParams::from_request_parts(parts, &()).await else {
            return Self::default();
        };
        let Some((_, value)) = params.iter().next() else {
            return Self::default();
        };
        let (session, name) = match rule.subject {
            Subject::None => (None, None),
            Subject::Token => (None, TokenName::new(value).ok().map(|it| it.to_string())),
            Subject::Session => {
                let id = SessionId::new(value).ok();
                let named = id.as_ref().filter(|_| rule.is_audited);
                let name = named.map(SessionId::to_string);
                (id, name)
            }
            Subject::Approval => {
                let id = ApprovalId::parse(value);
                let session = id.as_ref().and_then(ApprovalId::session);
                (session, id.map(|id| id.to_string()))
            }
        };
        Self { session, name }
    }
}

impl Gate {
    pub(super) fn new(access: Arc<Access>, stored: Option<(Tokens, AuditLog)>) -> Arc<Self> {
        Arc::new(Self {
            access,
            stored,
            anybody: Arc::new(Holder::lasting(Principal::anybody())),
            local: Arc::new(Holder::lasting(Principal::local())),
            configured: Arc::new(Holder::lasting(Principal::configured())),
        })
    }

    /// Returns who sends a request with these headers from the other end of a connection.
    fn holder(&self, headers: &HeaderMap, peer: PeerKind) -> Result<Arc<Holder>, Problem> {
        let without_token = match peer {
            PeerKind::Network => &self.anybody,
            PeerKind::Local => &self.local,
            PeerKind::Stranger => {
                let detail = "this socket is for the daemon's user and root, and not for processes that \
                              the daemon has started; use its address";
                return Err(Problem::new(ProblemKind::FORBIDDEN, detail));
            }
        };
        let Some(configured) = &self.access.token else {
            // Clients that were made for other services send any token.
            return Ok(without_token.clone());
        };
        let Some(given) = header_once(headers, &header::AUTHORIZATION)?.and_then(bearer) else {
            return Err(unauthorized(
                "send the token as `Authorization: Bearer TOKEN`",
            ));
        };
        let given = Digest::of(given.as_bytes());
        if configured.is(&given) {
            return Ok(self.configured.clone());
        }
        let Some((tokens, _)) = &self.stored else {
            let detail = "access tokens cannot be checked while the store is not open; try again";
            return Err(Problem::new(ProblemKind::NOT_READY, detail)
                .header(header::RETRY_AFTER, UNCHECKED_RETRY_SECONDS));
        };
        let Some(holder) = tokens.find(&given) else {
            return Err(unauthorized(
                "the token is neither the one that the configuration names nor an access token; it may \
                 have been revoked",
            ));
        };
        match holder.expired_at(UnixMillis::now()) {
            None => Ok(holder),
            Some(at) => {
                let name = holder.name();
                Err(unauthorized(format!(
                    "the token `{name}` expired at {at}; an admin can make another (`abide token create`)"
                )))
            }
        }
    }

    /// Tells who is denied what the local socket is for where that is.
    fn refusal(&self, denial: Denial) -> Problem {
        let is_unknown = denial.reason == DenialReason::Unknown;
        let problem = Problem::from(denial);
        match &self.access.local_socket {
            Some(name) if is_unknown => problem.fact("socket", name.clone()),
            _ => problem,
        }
    }
}

fn unauthorized(detail: impl Into<String>) -> Problem {
    let challenge = HeaderValue::from_static("Bearer realm=\"abide\"");
    Problem::new(ProblemKind::UNAUTHORIZED, detail).header(header::WWW_AUTHENTICATE, challenge)
}

/// The answer where the route does not take the method.
fn wrong_method(parts: &Parts, methods: &[&Method]) -> Problem {
    let (method, path) = (&parts.method, parts.uri.path());
    let allowed = methods.iter().map(|method| match **method {
        Method::GET => "GET, HEAD",
        _ => method.as_str(),
    });
    let allowed = allowed.collect::<Vec<_>>().join(", ");
    let detail = format!("`{path}` does not take {method}; it takes {allowed}");
    let problem = Problem::new(ProblemKind::METHOD, detail);
    match HeaderValue::from_str(&allowed) {
        Ok(allowed) => problem.header(header::ALLOW, allowed),
        Err(_) => problem,
    }
}

impl From<TooMuch> for Problem {
    fn from(refused: TooMuch) -> Self {
        let seconds = refused.retry_after.as_secs().saturating_add(1);
        Self::new(ProblemKind::TOO_MANY_REQUESTS, refused.to_string())
            .fact("limit", refused.limit.get())
            .header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }
}

/// Ends a stream of events when the rights of who receives it end. Until it is sent, it counts as being
/// answered.
fn ending_with(response: Response, holder: Arc<Holder>, admission: Admission) -> Response {
    let is_stream = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    if !is_stream || !holder.may_end() {
        return response;
    }
    response.map(|body| {
        let ended = async move {
            holder.ended().await;
            drop(admission);
        };
        Body::from_stream(body.into_data_stream().take_until(Box::pin(ended)))
    })
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_matches(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(token: Option<&str>) -> Arc<Gate> {
        let access = Access {
            token: token.map(TokenDigest::new),
            local_socket: Some("@abide-0".to_owned()),
            pages: Pages::default(),
        };
        Gate::new(Arc::new(access), None)
    }

    /// Returns the name of who is let through, or the status of the refusal.
    fn answer(gate: &Gate, authorization: Option<&'static str>) -> Result<String, u16> {
        let headers = authorization
            .map(|value| (header::AUTHORIZATION, HeaderValue::from_static(value)))
            .into_iter()
            .collect();
        match gate.holder(&headers, PeerKind::Network) {
            Ok(holder) => Ok(holder.name().to_string()),
            Err(problem) => Err(problem.status()),
        }
    }

    #[test]
    fn a_token_is_asked_for_where_one_is_configured() {
        let gate = gate(Some("secret"));
        let answer = |value| answer(&gate, value);
        assert_eq!(answer(Some("Bearer secret")).as_deref(), Ok("config"));
        assert_eq!(answer(Some("bearer secret")).as_deref(), Ok("config"));
        assert_eq!(answer(None), Err(401));
        assert_eq!(answer(Some("Basic secret")), Err(401));
        // It may be an access token, which only the store has.
        assert_eq!(answer(Some("Bearer secretx")), Err(503));
        assert_eq!(answer(Some("Bearer ")), Err(503));
    }

    #[test]
    fn without_one_anybody_may_call_with_any_token() {
        let gate = gate(None);
        for value in [None, Some("Bearer sk-other"), Some("Basic x")] {
            assert_eq!(answer(&gate, value).as_deref(), Ok("anybody"));
        }
    }

    #[test]
    fn who_comes_by_the_local_socket_is_known_unless_a_token_is_asked_for() {
        let name = |token, peer| {
            let holder = gate(token).holder(&HeaderMap::new(), peer);
            holder
                .map(|holder| holder.name().to_string())
                .map_err(|it| it.status())
        };
        assert_eq!(name(None, PeerKind::Local).as_deref(), Ok("@local"));
        assert_eq!(name(Some("secret"), PeerKind::Local), Err(401));
        assert_eq!(name(None, PeerKind::Stranger), Err(403));
        assert_eq!(name(Some("secret"), PeerKind::Stranger), Err(403));
    }

    #[test]
    fn who_may_not_decide_is_told_the_local_socket() {
        let gate = gate(None);
        let socket = |reason| {
            let denial = Denial {
                who: "anybody".to_owned(),
                reason,
            };
            gate.refusal(denial).fact_of("socket")
        };
        assert_eq!(socket(DenialReason::Unknown), Some("@abide-0".into()));
        assert_eq!(socket(DenialReason::Approve), None);
    }
}
