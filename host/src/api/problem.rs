//! Errors as clients see them: problem documents (RFC 9457), and the one table that maps refusals
//! to them.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Map, Value};

use crate::documents::ProblemDocument;
use crate::domain::{Refusal, TimelineName};

/// The prefix of every problem's `type`.
const TYPE_PREFIX: &str = "urn:abide:problem:";
/// The seconds after which a client may retry when a message found no room or the daemon restarts.
const RETRY_SECONDS: u16 = 1;
/// The seconds after which something may be asked for again that the data folder cannot hold yet.
pub(super) const PROBATION_RETRY_SECONDS: u16 = 30;
/// The same while the disk does not answer.
const STALLED_RETRY_SECONDS: u16 = 10;

/// A request that is answered with a problem document.
#[derive(Debug)]
pub struct Problem {
    /// Boxed to keep results small, as most calls succeed.
    document: Box<ProblemDocument>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// Creates a problem of this kind, which has a name, a status and a title.
    pub(super) fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        let ProblemKind(name, status, title) = kind;
        let document = ProblemDocument {
            r#type: format!("{TYPE_PREFIX}{name}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            facts: Map::new(),
        };
        Self {
            document: Box::new(document),
            headers: Vec::new(),
        }
    }

    #[cfg(test)]
    pub(super) fn status(&self) -> u16 {
        self.document.status
    }

    #[cfg(test)]
    pub(super) fn detail(&self) -> &str {
        &self.document.detail
    }

    #[cfg(test)]
    pub(super) fn fact_of(&self, name: &str) -> Option<Value> {
        self.document.facts.get(name).cloned()
    }

    /// Returns status, name, text and headers, for APIs with another form of errors.
    pub(super) fn into_parts(self) -> (StatusCode, String, String, Vec<(HeaderName, HeaderValue)>) {
        let ProblemDocument {
            r#type,
            status,
            detail,
            ..
        } = *self.document;
        let name = r#type.strip_prefix(TYPE_PREFIX).unwrap_or_default();
        (as_code(status), name.to_owned(), detail, self.headers)
    }

    /// Adds a fact for programs.
    pub(super) fn fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.document.facts.insert(name.to_owned(), value.into());
        self
    }

    /// Adds the timeline on which a cursor among the facts is, unless it is a session's first.
    fn timeline(self, name: Option<TimelineName>) -> Self {
        match name {
            None => self,
            Some(name) => self.fact("timeline", name.as_str()),
        }
    }

    /// Adds a header to the response.
    pub(super) fn header(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        // The document consists of texts and numbers: serialization cannot fail.
        let body = serde_json::to_vec(&self.document).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = as_code(self.document.status);
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, kind);
        headers.extend(self.headers);
        response
    }
}

/// Returns the status of a document, all of which come from a [`ProblemKind`].
fn as_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// A kind of problem: its name in `type`, its status, its title.
#[derive(Clone, Copy)]
pub(super) struct ProblemKind(&'static str, StatusCode, &'static str);

impl ProblemKind {
    pub(super) fn name(self) -> &'static str {
        self.0
    }

    pub(super) fn status(self) -> StatusCode {
        self.1
    }

    pub(super) fn title(self) -> &'static str {
        self.2
    }
}

#[rustfmt::skip]
impl ProblemKind {
    pub(super) const BAD_REQUEST: Self = Self("bad-request", StatusCode::BAD_REQUEST, "The request makes no sense");
    pub(super) const MALFORMED: Self = Self("malformed-json", StatusCode::BAD_REQUEST, "The body is not JSON");
    pub(super) const BAD_SESSION_ID: Self = Self("bad-session-id", StatusCode::BAD_REQUEST, "This cannot be a session's id");
    pub(super) const UNAUTHORIZED: Self = Self("unauthorized", StatusCode::UNAUTHORIZED, "A token is needed");
    pub(super) const FORBIDDEN: Self = Self("forbidden", StatusCode::FORBIDDEN, "The caller may not do this");
    pub(super) const NO_TOKEN_CONFIGURED: Self = Self("no-token-configured", StatusCode::CONFLICT, "Access tokens need a token in the configuration");
    pub(super) const TOKEN_EXISTS: Self = Self("token-exists", StatusCode::CONFLICT, "The name is taken by another token");
    pub(super) const UNKNOWN_TOKEN: Self = Self("unknown-token", StatusCode::NOT_FOUND, "There is no such token");
    pub(super) const NOT_YET: Self = Self("not-yet", StatusCode::SERVICE_UNAVAILABLE, "The data folder cannot hold this yet");
    pub(super) const FORBIDDEN_ORIGIN: Self = Self("forbidden-origin", StatusCode::FORBIDDEN, "Pages of this origin may not call the API");
    pub(super) const NOT_FOUND: Self = Self("not-found", StatusCode::NOT_FOUND, "There is nothing here");
    pub(super) const UNKNOWN_SESSION: Self = Self("unknown-session", StatusCode::NOT_FOUND, "There is no such session");
    pub(super) const UNKNOWN_RESTART: Self = Self("unknown-restart", StatusCode::NOT_FOUND, "There is no such restart");
    pub(super) const NO_DEAD_LETTER: Self = Self("no-dead-letter", StatusCode::NOT_FOUND, "There is no such dead letter");
    pub(super) const METHOD: Self = Self("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, "The method does not fit");
    pub(super) const TOO_SLOW: Self = Self("too-slow", StatusCode::REQUEST_TIMEOUT, "The body arrives too slowly");
    pub(super) const EXISTS: Self = Self("session-exists", StatusCode::CONFLICT, "The id is taken by another session");
    pub(super) const NOTHING_RUNS: Self = Self("nothing-runs", StatusCode::CONFLICT, "No turn runs");
    pub(super) const NOT_FAULTED: Self = Self("not-faulted", StatusCode::CONFLICT, "The session is not faulted");
    pub(super) const STILL_FAULTED: Self = Self("still-faulted", StatusCode::CONFLICT, "The session cannot run yet");
    pub(super) const NOT_TRIED: Self = Self("not-tried", StatusCode::SERVICE_UNAVAILABLE, "The session could not be tried");
    pub(super) const NOT_PINNED: Self = Self("not-pinned", StatusCode::CONFLICT, "The session runs on its plugin's component");
    pub(super) const CANNOT_ADOPT: Self = Self("cannot-adopt", StatusCode::CONFLICT, "The plugin's component cannot carry the session on");
    pub(super) const TURN_OPEN: Self = Self("turn-open", StatusCode::CONFLICT, "A turn is open");
    pub(super) const UNKNOWN_POINT: Self = Self("unknown-point", StatusCode::NOT_FOUND, "The session has no such restore point");
    pub(super) const NOTHING_TO_UNDO: Self = Self("nothing-to-undo", StatusCode::CONFLICT, "The session is in that state");
    pub(super) const CANNOT_RETURN: Self = Self("cannot-return", StatusCode::CONFLICT, "The state cannot be brought back");
    pub(super) const BAD_EXPORT: Self = Self("bad-export", StatusCode::UNPROCESSABLE_ENTITY, "The export cannot be imported");
    pub(super) const BAD_COMPONENT: Self = Self("bad-component", StatusCode::UNPROCESSABLE_ENTITY, "The component cannot be a plugin");
    pub(super) const COMPONENT_MISSING: Self = Self("component-missing", StatusCode::CONFLICT, "The component of the export is not here");
    pub(super) const NEEDS_FORCE: Self = Self("needs-force", StatusCode::CONFLICT, "It would do again what cannot be repeated");
    pub(super) const UNKNOWN_STANDING: Self = Self("unknown-standing-approval", StatusCode::NOT_FOUND, "There is no such standing approval");
    pub(super) const TOO_MANY_STANDING: Self = Self("too-many-standing-approvals", StatusCode::CONFLICT, "Too many calls are approved for good");
    pub(super) const UNKNOWN_APPROVAL: Self = Self("unknown-approval", StatusCode::NOT_FOUND, "There is no such approval");
    pub(super) const APPROVAL_DECIDED: Self = Self("approval-decided", StatusCode::CONFLICT, "The approval was decided before");
    pub(super) const APPROVAL_EXPIRED: Self = Self("approval-expired", StatusCode::GONE, "The approval expired");
    pub(super) const APPROVAL_VOID: Self = Self("approval-void", StatusCode::GONE, "The approval is void");
    pub(super) const NO_TURN: Self = Self("no-turn", StatusCode::CONFLICT, "There is no turn to look at");
    pub(super) const UNREPLAYABLE: Self = Self("unreplayable", StatusCode::CONFLICT, "The turn cannot be run again");
    pub(super) const CLOSED: Self = Self("session-closed", StatusCode::GONE, "The session was closed");
    pub(super) const TRIMMED: Self = Self("events-trimmed", StatusCode::GONE, "Events that old are gone");
    pub(super) const CURSOR_AHEAD: Self = Self("cursor-ahead", StatusCode::GONE, "The session's history does not reach that far");
    pub(super) const BACKUP_RUNS: Self = Self("backup-runs", StatusCode::CONFLICT, "Another backup is being taken");
    pub(super) const BACKUP_FOLDER: Self = Self("backup-folder", StatusCode::UNPROCESSABLE_ENTITY, "The folder cannot take a backup");
    pub(super) const BACKUP_FAILED: Self = Self("backup-failed", StatusCode::INTERNAL_SERVER_ERROR, "There is no backup");
    pub(super) const TOO_LARGE: Self = Self("too-large", StatusCode::PAYLOAD_TOO_LARGE, "Too large");
    pub(super) const MEDIA_TYPE: Self = Self("unsupported-media-type", StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body must be JSON");
    pub(super) const WRONG_HOST: Self = Self("wrong-host", StatusCode::MISDIRECTED_REQUEST, "The request was meant for another host");
    pub(super) const INVALID: Self = Self("invalid", StatusCode::UNPROCESSABLE_ENTITY, "The body has not the right shape");
    pub(super) const INVALID_CONFIG: Self = Self("invalid-config", StatusCode::UNPROCESSABLE_ENTITY, "The configuration is invalid");
    pub(super) const UNKNOWN_PLUGIN: Self = Self("unknown-plugin", StatusCode::UNPROCESSABLE_ENTITY, "There is no such plugin");
    pub(super) const OPEN_FAILED: Self = Self("open-failed", StatusCode::UNPROCESSABLE_ENTITY, "The plugin refused the session");
    pub(super) const KEY_REUSED: Self = Self("idempotency-key-reused", StatusCode::UNPROCESSABLE_ENTITY, "The key belongs to another message");
    pub(super) const INBOX_FULL: Self = Self("inbox-full", StatusCode::TOO_MANY_REQUESTS, "The inbox is full");
    pub(super) const OVERLOADED: Self = Self("overloaded", StatusCode::TOO_MANY_REQUESTS, "Too much waits already");
    pub(super) const TOO_MANY_REQUESTS: Self = Self("too-many-requests", StatusCode::TOO_MANY_REQUESTS, "The token's limit is reached");
    pub(super) const TURN_FAILED: Self = Self("turn-failed", StatusCode::UNPROCESSABLE_ENTITY, "The message's turn failed");
    pub(super) const STILL_RUNS: Self = Self("turn-still-runs", StatusCode::GATEWAY_TIMEOUT, "The message's turn takes longer than the request may wait");
    pub(super) const RESTARTING: Self = Self("restarting", StatusCode::SERVICE_UNAVAILABLE, "The daemon is restarting");
    pub(super) const NOT_READY: Self = Self("not-ready", StatusCode::SERVICE_UNAVAILABLE, "The daemon does not serve now");
    pub(super) const STORE_REFUSED: Self = Self("store-refused", StatusCode::SERVICE_UNAVAILABLE, "The store is not opened");
    pub(super) const NOT_PREPARED: Self = Self("not-prepared", StatusCode::SERVICE_UNAVAILABLE, "The daemon cannot run sessions");
    pub(super) const STORE_DAMAGED: Self = Self("store-damaged", StatusCode::INTERNAL_SERVER_ERROR, "The store cannot be read");
    pub(super) const DISK_NEARLY_FULL: Self = Self("disk-nearly-full", StatusCode::INSUFFICIENT_STORAGE, "The disk is nearly full");
    pub(super) const STORE_STALLED: Self = Self("store-stalled", StatusCode::SERVICE_UNAVAILABLE, "The disk does not answer");
    pub(super) const STORE_FAILED: Self = Self("store-failed", StatusCode::INSUFFICIENT_STORAGE, "The store cannot write");
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        let problem = |kind| Self::new(kind, detail);
        match refusal {
            Refusal::BadSessionId(_) => problem(ProblemKind::BAD_SESSION_ID),
            Refusal::UnknownSession(_) => problem(ProblemKind::UNKNOWN_SESSION),
            Refusal::Closed { at } => {
                problem(ProblemKind::CLOSED).fact("closed_at", at.to_string())
            }
            Refusal::Gone => problem(ProblemKind::CLOSED),
            Refusal::Exists { what } => problem(ProblemKind::EXISTS).fact("differs", what),
            Refusal::UnknownPlugin { name, .. } => {
                problem(ProblemKind::UNKNOWN_PLUGIN).fact("plugin", name)
            }
            Refusal::OpenFailed(_) => problem(ProblemKind::OPEN_FAILED),
            Refusal::TooLarge { bytes, limit, .. } => problem(ProblemKind::TOO_LARGE)
                .fact("bytes", bytes)
                .fact("limit", limit),
            Refusal::InboxFull { limit } => problem(ProblemKind::INBOX_FULL)
                .fact("limit", limit)
                .header(header::RETRY_AFTER, RETRY_SECONDS),
            Refusal::Overloaded { limit } => problem(ProblemKind::OVERLOADED)
                .fact("limit", limit)
                .header(header::RETRY_AFTER, RETRY_SECONDS),
            Refusal::DiskNearlyFull {
                free_bytes,
                reserve_bytes,
            } => problem(ProblemKind::DISK_NEARLY_FULL)
                .fact("free_bytes", free_bytes)
                .fact("reserve_bytes", reserve_bytes),
            Refusal::KeyReused => problem(ProblemKind::KEY_REUSED),
            Refusal::NothingRuns => problem(ProblemKind::NOTHING_RUNS),
            Refusal::NotFaulted => problem(ProblemKind::NOT_FAULTED),
            Refusal::StillFaulted { .. } => problem(ProblemKind::STILL_FAULTED),
            Refusal::NothingFound { .. } => {
                problem(ProblemKind::NOT_TRIED).header(header::RETRY_AFTER, RETRY_SECONDS)
            }
            Refusal::NotPinned => problem(ProblemKind::NOT_PINNED),
            Refusal::CannotAdopt { .. } => problem(ProblemKind::CANNOT_ADOPT),
            Refusal::BadComponent { .. } => problem(ProblemKind::BAD_COMPONENT),
            Refusal::TurnOpen => problem(ProblemKind::TURN_OPEN),
            Refusal::NothingToUndo => problem(ProblemKind::NOTHING_TO_UNDO),
            Refusal::UnknownPoint { .. } => problem(ProblemKind::UNKNOWN_POINT),
            Refusal::CannotReturn { .. } => problem(ProblemKind::CANNOT_RETURN),
            Refusal::CopiesBusy => {
                problem(ProblemKind::OVERLOADED).header(header::RETRY_AFTER, RETRY_SECONDS)
            }
            Refusal::Taken => problem(ProblemKind::EXISTS),
            Refusal::BadExport { .. } => problem(ProblemKind::BAD_EXPORT),
            Refusal::ComponentMissing { component } => {
                problem(ProblemKind::COMPONENT_MISSING).fact("component", component.to_string())
            }
            Refusal::NoDeadLetter => problem(ProblemKind::NO_DEAD_LETTER),
            Refusal::NeedsForce { calls } => problem(ProblemKind::NEEDS_FORCE).fact("calls", calls),
            Refusal::UnknownApproval(_) => problem(ProblemKind::UNKNOWN_APPROVAL),
            Refusal::UnknownStanding(_) => problem(ProblemKind::UNKNOWN_STANDING),
            Refusal::ArgumentsCut => problem(ProblemKind::INVALID),
            Refusal::TooManyStanding { limit } => {
                problem(ProblemKind::TOO_MANY_STANDING).fact("limit", limit)
            }
            Refusal::NotYet(_) => {
                problem(ProblemKind::NOT_YET).header(header::RETRY_AFTER, PROBATION_RETRY_SECONDS)
            }
            Refusal::ApprovalDecided { status } => {
                problem(ProblemKind::APPROVAL_DECIDED).fact("outcome", status.as_str())
            }
            Refusal::ApprovalExpired { at } => {
                problem(ProblemKind::APPROVAL_EXPIRED).fact("expired_at", at.to_string())
            }
            Refusal::NoTurn => problem(ProblemKind::NO_TURN),
            Refusal::Unreplayable(_) => problem(ProblemKind::UNREPLAYABLE),
            Refusal::MayHaveActed => problem(ProblemKind::NEEDS_FORCE),
            Refusal::ApprovalVoid { .. } => problem(ProblemKind::APPROVAL_VOID),
            Refusal::Trimmed { oldest, timeline } => problem(ProblemKind::TRIMMED)
                .fact("oldest", oldest)
                .timeline(timeline),
            Refusal::CursorAhead { last, timeline, .. } => problem(ProblemKind::CURSOR_AHEAD)
                .fact("last", last)
                .timeline(timeline),
            Refusal::StoreFailed(_) => problem(ProblemKind::STORE_FAILED),
            Refusal::StoreStalled { .. } => problem(ProblemKind::STORE_STALLED)
                .header(header::RETRY_AFTER, STALLED_RETRY_SECONDS),
            Refusal::Unreadable(_) => problem(ProblemKind::STORE_DAMAGED),
            Refusal::Restarting => {
                problem(ProblemKind::RESTARTING).header(header::RETRY_AFTER, RETRY_SECONDS)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{EventId, UnixMillis};

    fn trimmed() -> Refusal {
        Refusal::Trimmed {
            oldest: 7,
            timeline: None,
        }
    }

    #[test]
    fn refusals_become_problem_documents() {
        for (refusal, status, name) in [
            (Refusal::UnknownSession("a".into()), 404, "unknown-session"),
            (Refusal::Closed { at: UnixMillis(0) }, 410, "session-closed"),
            (trimmed(), 410, "events-trimmed"),
            (Refusal::Exists { what: "args" }, 409, "session-exists"),
            (Refusal::KeyReused, 422, "idempotency-key-reused"),
            (Refusal::InboxFull { limit: 3 }, 429, "inbox-full"),
            (Refusal::Overloaded { limit: 3 }, 429, "overloaded"),
            (Refusal::StoreFailed("full".into()), 507, "store-failed"),
            (
                Refusal::StoreStalled {
                    after: std::time::Duration::from_secs(10),
                },
                503,
                "store-stalled",
            ),
            (
                Refusal::DiskNearlyFull {
                    free_bytes: 1,
                    reserve_bytes: 2,
                },
                507,
                "disk-nearly-full",
            ),
            (Refusal::Restarting, 503, "restarting"),
        ] {
            let detail = refusal.to_string();
            let problem = Problem::from(refusal);
            let json = serde_json::to_value(&problem.document).expect("JSON");
            assert_eq!(json["type"], format!("{TYPE_PREFIX}{name}"));
            assert_eq!(json["status"], status);
            assert_eq!(json["detail"], detail);
            assert!(json["title"].as_str().is_some_and(|t| !t.is_empty()));
        }
    }

    #[test]
    fn facts_and_headers_are_there() {
        let trimmed = Problem::from(trimmed());
        assert_eq!(
            serde_json::to_value(&trimmed.document).expect("JSON")["oldest"],
            7
        );
        let timeline = TimelineName::draw(5);
        let ahead = Problem::from(Refusal::CursorAhead {
            position: EventId {
                timeline: None,
                cursor: 9,
            },
            last: 7,
            timeline: Some(timeline.clone()),
        });
        let json = serde_json::to_value(&ahead.document).expect("JSON");
        assert_eq!((ahead.status(), &json["last"]), (410, &7.into()));
        assert_eq!(json["timeline"], timeline.as_str());
        let full = Problem::from(Refusal::InboxFull { limit: 3 }).into_response();
        assert_eq!(full.headers()[header::RETRY_AFTER], "1");
        assert_eq!(
            full.headers()[header::CONTENT_TYPE],
            "application/problem+json"
        );
    }
}
