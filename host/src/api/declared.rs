//! The problems that each operation may answer with, as its part of the OpenAPI document lists them: by
//! the operation's rule, and by one table of what its handler refuses. An answer that is not in it is a
//! mistake, which `make api-fuzz` looks for.

use std::collections::BTreeMap;

use http::Method;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::Type;
use utoipa::openapi::{
    Content, Header, ObjectBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder,
};

use super::openai;
use super::problem::ProblemKind as Kind;
use super::rules::{RULES, Rule};

/// What every request is judged by, before anything is known of its caller.
const ANY: &[Kind] = &[Kind::BAD_REQUEST, Kind::FORBIDDEN_ORIGIN, Kind::WRONG_HOST];
/// What the caller is judged by.
const CALLER: &[Kind] = &[
    Kind::UNAUTHORIZED,
    Kind::FORBIDDEN,
    Kind::TOO_MANY_REQUESTS,
    Kind::NOT_READY,
];
/// A daemon that cannot serve answers nearly everything alike.
const REFUSED: &[Kind] = &[Kind::STORE_REFUSED, Kind::NOT_PREPARED];
/// What a body is refused for.
const BODY: &[Kind] = &[
    Kind::MALFORMED,
    Kind::TOO_SLOW,
    Kind::TOO_LARGE,
    Kind::MEDIA_TYPE,
    Kind::INVALID,
    Kind::OVERLOADED,
    // It has not arrived when the worker leaves.
    Kind::RESTARTING,
];
/// What the daemon refuses a question to itself for.
const CONTROL: &[Kind] = &[Kind::RESTARTING];
/// What a read of the store fails with.
const READS: &[Kind] = &[
    Kind::STORE_DAMAGED,
    Kind::STORE_FAILED,
    Kind::STORE_STALLED,
    Kind::RESTARTING,
];
/// What a session that the path names is refused for.
const SESSION: &[Kind] = &[Kind::BAD_SESSION_ID, Kind::UNKNOWN_SESSION, Kind::CLOSED];
/// What a message is refused for.
const MESSAGE: &[Kind] = &[
    Kind::TOO_LARGE,
    Kind::KEY_REUSED,
    Kind::INBOX_FULL,
    Kind::OVERLOADED,
    Kind::DISK_NEARLY_FULL,
];
/// What a new session is refused for.
const NEW_SESSION: &[Kind] = &[
    Kind::EXISTS,
    Kind::CLOSED,
    Kind::TOO_LARGE,
    Kind::UNKNOWN_PLUGIN,
    Kind::OPEN_FAILED,
    Kind::OVERLOADED,
    Kind::DISK_NEARLY_FULL,
];
/// What a state that is to be brought back, or to be copied, is refused for.
const RETURNS: &[Kind] = &[
    Kind::CANNOT_RETURN,
    Kind::NOT_TRIED,
    Kind::NOT_YET,
    Kind::UNKNOWN_PLUGIN,
    Kind::OVERLOADED,
    Kind::DISK_NEARLY_FULL,
];
/// What an approval that the path names is refused for.
const APPROVAL: &[Kind] = &[
    Kind::UNKNOWN_APPROVAL,
    Kind::UNKNOWN_SESSION,
    Kind::CLOSED,
    Kind::APPROVAL_VOID,
];

/// What the handler of each operation refuses, beside what its rule and its body are refused for.
#[rustfmt::skip]
const HANDLERS: &[(&str, &[&[Kind]])] = &[
    ("list_sessions", &[READS, &[Kind::BAD_SESSION_ID]]),
    ("create_session", &[READS, NEW_SESSION, &[Kind::BAD_SESSION_ID]]),
    ("show_session", &[READS, SESSION]),
    ("close_session", &[READS, SESSION, &[Kind::OVERLOADED, Kind::DISK_NEARLY_FULL]]),
    ("send_message", &[READS, SESSION, MESSAGE]),
    ("follow_events", &[READS, SESSION, &[Kind::TRIMMED, Kind::CURSOR_AHEAD]]),
    ("cancel_turns", &[READS, SESSION, &[Kind::NOTHING_RUNS, Kind::OVERLOADED, Kind::DISK_NEARLY_FULL]]),
    ("resume_session", &[READS, SESSION, &[Kind::NOT_FAULTED, Kind::STILL_FAULTED, Kind::NOT_TRIED, Kind::UNKNOWN_PLUGIN, Kind::OVERLOADED, Kind::DISK_NEARLY_FULL]]),
    ("adopt_component", &[READS, SESSION, &[Kind::NOT_PINNED, Kind::NOT_TRIED, Kind::CANNOT_ADOPT, Kind::TURN_OPEN, Kind::NOT_YET, Kind::UNKNOWN_PLUGIN, Kind::OVERLOADED, Kind::DISK_NEARLY_FULL]]),
    ("list_points", &[READS, SESSION]),
    ("rewind_session", &[READS, SESSION, &[Kind::UNKNOWN_POINT, Kind::NOTHING_TO_UNDO], RETURNS]),
    ("fork_session", &[READS, SESSION, &[Kind::UNKNOWN_POINT, Kind::EXISTS, Kind::TOO_LARGE], RETURNS]),
    ("export_session", &[READS, SESSION, &[Kind::UNKNOWN_POINT, Kind::CANNOT_RETURN, Kind::OVERLOADED]]),
    ("import_session", &[READS, &[Kind::BAD_SESSION_ID, Kind::CLOSED, Kind::EXISTS, Kind::BAD_EXPORT, Kind::COMPONENT_MISSING, Kind::TOO_LARGE], RETURNS]),
    ("show_turn", &[READS, SESSION, &[Kind::NO_TURN]]),
    ("replay_turn", &[READS, SESSION, &[Kind::NO_TURN, Kind::UNREPLAYABLE, Kind::UNKNOWN_PLUGIN, Kind::OVERLOADED]]),
    ("retry_dead_letter", &[READS, SESSION, MESSAGE, &[Kind::NO_DEAD_LETTER, Kind::NEEDS_FORCE]]),
    ("list_dead_letters", &[READS, SESSION]),
    ("list_all_dead_letters", &[READS, &[Kind::BAD_SESSION_ID]]),
    ("list_approvals", &[READS, &[Kind::BAD_SESSION_ID]]),
    ("show_approval", &[READS, APPROVAL]),
    ("decide_approval", &[READS, APPROVAL, &[Kind::APPROVAL_DECIDED, Kind::APPROVAL_EXPIRED, Kind::TOO_LARGE, Kind::OVERLOADED, Kind::DISK_NEARLY_FULL], &[Kind::TOO_MANY_STANDING, Kind::NOT_YET]]),
    ("list_standing_approvals", &[]),
    ("revoke_standing_approval", &[READS, &[Kind::UNKNOWN_APPROVAL, Kind::UNKNOWN_STANDING]]),
    ("create_chat_completion", &[READS, SESSION, NEW_SESSION, MESSAGE, &[Kind::TRIMMED, Kind::CURSOR_AHEAD, Kind::TURN_FAILED, Kind::STILL_RUNS]]),
    ("list_models", &[]),
    ("show_model", &[&[Kind::NOT_FOUND]]),
    ("show_daemon", &[]),
    ("list_restarts", &[CONTROL, READS]),
    ("show_restart", &[CONTROL, READS, &[Kind::UNKNOWN_RESTART]]),
    ("restart_daemon", &[CONTROL, &[Kind::INVALID_CONFIG]]),
    ("plan_file", &[CONTROL]),
    ("plan_text", &[CONTROL]),
    ("try_component", &[READS, &[Kind::UNKNOWN_PLUGIN, Kind::BAD_COMPONENT, Kind::TOO_LARGE, Kind::OVERLOADED]]),
    ("drain_daemon", &[CONTROL]),
    ("take_backup", &[CONTROL, &[Kind::BACKUP_RUNS, Kind::BACKUP_FOLDER, Kind::DISK_NEARLY_FULL, Kind::STORE_DAMAGED, Kind::STORE_STALLED, Kind::BACKUP_FAILED]]),
    ("list_tokens", &[]),
    ("create_token", &[CONTROL, &[Kind::NO_TOKEN_CONFIGURED, Kind::TOKEN_EXISTS, Kind::NOT_YET, Kind::STORE_FAILED]]),
    ("revoke_token", &[CONTROL, &[Kind::UNKNOWN_TOKEN, Kind::NOT_YET, Kind::STORE_FAILED]]),
    ("list_audit", &[CONTROL, &[Kind::STORE_FAILED]]),
    ("healthz", &[]),
    ("readyz", &[&[Kind::NOT_READY]]),
    ("show_metrics", &[]),
    ("show_openapi", &[]),
];
/// The operations that a daemon that cannot serve has.
const NEVER_REFUSED: [&str; 3] = ["show_daemon", "healthz", "show_metrics"];

/// Returns the problems that an operation may answer with, each once, by status.
fn problems(rule: &Rule) -> BTreeMap<u16, Vec<Kind>> {
    let handler = HANDLERS.iter().find(|(name, _)| *name == rule.operation);
    let handler = handler.map_or(&[][..], |(_, groups)| groups);
    let takes_body = matches!(rule.method, Method::POST | Method::PUT);
    let by_rule = [
        Some(ANY),
        rule.needs.map(|_| CALLER),
        takes_body.then_some(BODY),
        (!NEVER_REFUSED.contains(&rule.operation)).then_some(REFUSED),
    ];
    let groups = by_rule.into_iter().flatten();
    let mut by_status: BTreeMap<u16, Vec<Kind>> = BTreeMap::new();
    for kind in groups.chain(handler.iter().copied()).flatten() {
        let kinds = by_status.entry(kind.status().as_u16()).or_default();
        if !kinds.iter().any(|known| known.name() == kind.name()) {
            kinds.push(*kind);
        }
    }
    by_status
}

/// Adds its problems to each operation of the document.
pub(super) fn add_problems(document: &mut OpenApi) {
    for rule in RULES {
        let item = document.paths.paths.get_mut(rule.path);
        if let Some(operation) = item.and_then(|item| operation(item, &rule.method)) {
            for (status, kinds) in problems(rule) {
                let (status, responses) = (status.to_string(), &mut operation.responses.responses);
                let own = match responses.get(&status) {
                    Some(RefOr::T(own)) => Some(own.description.as_str()),
                    _ => None,
                };
                let response = response(rule.path, own, &status, &kinds);
                responses.insert(status, RefOr::T(response));
            }
        }
    }
}

fn operation<'i>(item: &'i mut PathItem, method: &Method) -> Option<&'i mut Operation> {
    match *method {
        Method::GET => item.get.as_mut(),
        Method::PUT => item.put.as_mut(),
        Method::POST => item.post.as_mut(),
        Method::DELETE => item.delete.as_mut(),
        _ => None,
    }
}

/// Describes a response. `own` is what the operation's handler says of it, if it does.
fn response(path: &str, own: Option<&str>, status: &str, kinds: &[Kind]) -> Response {
    let kinds = kinds
        .iter()
        .map(|kind| format!("`{}`: {}.", kind.name(), kind.title()));
    let kinds = kinds.collect::<Vec<_>>().join(" ");
    let description = own.map_or_else(|| kinds.clone(), |own| format!("{own}. {kinds}"));
    let (content_type, schema) = match openai::is_path(path) {
        true => ("application/json", "ErrorBody"),
        false => ("application/problem+json", "Problem"),
    };
    let content = Content::new(Some(Ref::from_schema_name(schema)));
    let response = ResponseBuilder::new()
        .description(description)
        .content(content_type, content);
    let header = |of: Type, description| {
        let mut header = Header::new(ObjectBuilder::new().schema_type(of));
        header.description = Some(String::from(description));
        header
    };
    let response = match status {
        "401" => response.header(
            "www-authenticate",
            header(Type::String, "The scheme: `Bearer`"),
        ),
        "429" | "503" => response.header(
            "retry-after",
            header(
                Type::Integer,
                "The seconds after which to send again; absent if that is of no use",
            ),
        ),
        _ => response,
    };
    response.build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::openapi_document;

    #[test]
    fn every_operation_has_its_row() {
        let rows = HANDLERS.iter().map(|(operation, _)| *operation);
        assert!(rows.eq(RULES.iter().map(|rule| rule.operation)));
    }

    /// A client can rely on the list: there is no `default` that would allow any other answer.
    #[test]
    fn each_answer_has_a_status_and_a_form() {
        let document = serde_json::to_value(openapi_document()).expect("JSON");
        let paths = document["paths"].as_object().expect("paths");
        for (path, operations) in paths {
            for (method, operation) in operations.as_object().expect("operations") {
                let responses = operation["responses"].as_object().expect("responses");
                for (status, response) in responses {
                    let status: u16 = status.parse().expect("a status");
                    let content = response["content"].as_object();
                    let forms: Vec<&str> = content
                        .expect("each has a body")
                        .keys()
                        .map(String::as_str)
                        .collect();
                    let place = format!("{method} {path} {status}");
                    match (status >= 400, openai::is_path(path)) {
                        (true, false) => assert_eq!(forms, ["application/problem+json"], "{place}"),
                        (true, true) => assert_eq!(forms, ["application/json"], "{place}"),
                        (false, _) => assert!(!forms.is_empty(), "{place}"),
                    }
                }
                let of_all = ["400", "403", "421"];
                assert!(of_all.iter().all(|status| responses.contains_key(*status)));
            }
        }
    }

    #[test]
    fn what_a_rule_implies_is_declared() {
        let statuses = |operation: &str| -> Vec<u16> {
            let rule = RULES.iter().find(|rule| rule.operation == operation);
            problems(rule.expect("a rule")).into_keys().collect()
        };
        assert_eq!(statuses("healthz"), [400, 403, 421]);
        assert_eq!(statuses("show_daemon"), [400, 401, 403, 421, 429, 503]);
        let restart = [400, 401, 403, 408, 413, 415, 421, 422, 429, 503];
        assert_eq!(statuses("restart_daemon"), restart);
    }
}
