//! What each request needs: the one table of routes and acts. A request that is not in it is refused, so
//! that a new route is closed until it has a rule.

use http::Method;

use crate::domain::Act;

/// What a request is about, by the parameter of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    None,
    /// `{id}` is a session's.
    Session,
    /// `{id}` is an approval's, which contains a session's.
    Approval,
    /// `{name}` is an access token's.
    Token,
}

/// The rule of one operation.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) method: Method,
    /// The route, as the router and the OpenAPI document have it.
    pub(super) path: &'static str,
    /// The operation's id in the OpenAPI document; the audit log has it.
    pub(super) operation: &'static str,
    /// What its caller must be allowed to do. None if it needs no token: it reveals nothing, and serves
    /// probes, which have none.
    pub(super) needs: Option<Act>,
    pub(super) subject: Subject,
    /// Whether the audit log has it: an act that changes what others may rely on.
    pub(super) is_audited: bool,
}

const fn rule(
    method: Method,
    path: &'static str,
    operation: &'static str,
    needs: Option<Act>,
    subject: Subject,
) -> Rule {
    Rule {
        method,
        path,
        operation,
        needs,
        subject,
        is_audited: false,
    }
}

impl Rule {
    const fn audited(mut self) -> Self {
        self.is_audited = true;
        self
    }
}

const READ: Option<Act> = Some(Act::Read);
const CONVERSE: Option<Act> = Some(Act::Converse);
const DECIDE: Option<Act> = Some(Act::Decide);
const REPAIR: Option<Act> = Some(Act::Repair);
const WATCH: Option<Act> = Some(Act::Watch);
const RUN: Option<Act> = Some(Act::Run);
const ADMINISTER: Option<Act> = Some(Act::Administer);

/// The rules of all operations. Lists are cut to the sessions that the caller may read, and a request
/// whose body names the session is judged by its handler as well.
#[rustfmt::skip]
pub(super) const RULES: &[Rule] = &[
    rule(Method::GET, "/v1/sessions", "list_sessions", READ, Subject::None),
    rule(Method::PUT, "/v1/sessions/{id}", "create_session", CONVERSE, Subject::Session),
    rule(Method::GET, "/v1/sessions/{id}", "show_session", READ, Subject::Session),
    rule(Method::DELETE, "/v1/sessions/{id}", "close_session", CONVERSE, Subject::Session).audited(),
    rule(Method::POST, "/v1/sessions/{id}/messages", "send_message", CONVERSE, Subject::Session),
    rule(Method::GET, "/v1/sessions/{id}/events", "follow_events", READ, Subject::Session),
    rule(Method::POST, "/v1/sessions/{id}/cancel", "cancel_turns", CONVERSE, Subject::Session).audited(),
    rule(Method::POST, "/v1/sessions/{id}/resume", "resume_session", REPAIR, Subject::Session).audited(),
    rule(Method::POST, "/v1/sessions/{id}/adopt", "adopt_component", REPAIR, Subject::Session).audited(),
    rule(Method::GET, "/v1/sessions/{id}/points", "list_points", READ, Subject::Session),
    rule(Method::POST, "/v1/sessions/{id}/rewind", "rewind_session", REPAIR, Subject::Session).audited(),
    rule(Method::POST, "/v1/sessions/{id}/fork", "fork_session", REPAIR, Subject::Session).audited(),
    rule(Method::GET, "/v1/sessions/{id}/export", "export_session", REPAIR, Subject::Session),
    rule(Method::POST, "/v1/sessions/{id}/import", "import_session", REPAIR, Subject::Session).audited(),
    rule(Method::GET, "/v1/sessions/{id}/turn", "show_turn", READ, Subject::Session),
    rule(Method::POST, "/v1/sessions/{id}/replay", "replay_turn", REPAIR, Subject::Session),
    rule(Method::POST, "/v1/sessions/{id}/retry", "retry_dead_letter", CONVERSE, Subject::Session).audited(),
    rule(Method::GET, "/v1/sessions/{id}/dead", "list_dead_letters", READ, Subject::Session),
    rule(Method::GET, "/v1/dead", "list_all_dead_letters", READ, Subject::None),
    rule(Method::GET, "/v1/approvals", "list_approvals", READ, Subject::None),
    rule(Method::GET, "/v1/approvals/{id}", "show_approval", READ, Subject::Approval),
    rule(Method::POST, "/v1/approvals/{id}", "decide_approval", DECIDE, Subject::Approval).audited(),
    rule(Method::GET, "/v1/standing-approvals", "list_standing_approvals", READ, Subject::None),
    rule(Method::DELETE, "/v1/standing-approvals/{id}", "revoke_standing_approval", DECIDE, Subject::Approval).audited(),
    rule(Method::POST, "/v1/chat/completions", "create_chat_completion", CONVERSE, Subject::None),
    rule(Method::GET, "/v1/models", "list_models", READ, Subject::None),
    rule(Method::GET, "/v1/models/{id}", "show_model", READ, Subject::None),
    rule(Method::GET, "/v1/daemon", "show_daemon", WATCH, Subject::None),
    rule(Method::GET, "/v1/daemon/restarts", "list_restarts", WATCH, Subject::None),
    rule(Method::GET, "/v1/daemon/restarts/{generation}", "show_restart", WATCH, Subject::None),
    rule(Method::POST, "/v1/daemon/restart", "restart_daemon", RUN, Subject::None).audited(),
    rule(Method::GET, "/v1/daemon/plan", "plan_file", RUN, Subject::None),
    rule(Method::POST, "/v1/daemon/plan", "plan_text", RUN, Subject::None),
    rule(Method::POST, "/v1/plugins/{name}/trial", "try_component", RUN, Subject::None),
    rule(Method::POST, "/v1/daemon/drain", "drain_daemon", RUN, Subject::None).audited(),
    rule(Method::POST, "/v1/backups", "take_backup", RUN, Subject::None).audited(),
    rule(Method::GET, "/v1/tokens", "list_tokens", ADMINISTER, Subject::None),
    rule(Method::POST, "/v1/tokens", "create_token", ADMINISTER, Subject::None).audited(),
    rule(Method::DELETE, "/v1/tokens/{name}", "revoke_token", ADMINISTER, Subject::Token).audited(),
    rule(Method::GET, "/v1/audit", "list_audit", ADMINISTER, Subject::None),
    rule(Method::GET, "/healthz", "healthz", None, Subject::None),
    rule(Method::GET, "/readyz", "readyz", None, Subject::None),
    rule(Method::GET, "/metrics", "show_metrics", WATCH, Subject::None),
    rule(Method::GET, "/openapi.json", "show_openapi", READ, Subject::None),
];

/// Returns the rule of a request; `Err` with the methods that the route takes if it does not take this
/// one. A HEAD is answered as a GET.
pub(super) fn find(method: &Method, path: &str) -> Result<&'static Rule, Vec<&'static Method>> {
    let method = match *method {
        Method::HEAD => &Method::GET,
        _ => method,
    };
    let of_path = || RULES.iter().filter(|rule| rule.path == path);
    of_path()
        .find(|rule| rule.method == *method)
        .ok_or_else(|| of_path().map(|rule| &rule.method).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::api::openapi_document;

    /// Each operation of the document has a rule, under the same name, and nothing else has.
    #[test]
    fn every_operation_has_a_rule() {
        let document = serde_json::to_value(openapi_document()).expect("JSON");
        let paths = document["paths"].as_object().expect("paths");
        let described: BTreeSet<_> = paths
            .iter()
            .flat_map(|(path, operations)| {
                let operations = operations.as_object().into_iter().flatten();
                operations.map(move |(method, operation)| {
                    let name = operation["operationId"].as_str().unwrap_or_default();
                    (path.clone(), method.to_uppercase(), name.to_owned())
                })
            })
            .collect();
        let ruled: BTreeSet<_> = RULES
            .iter()
            // Not in itself.
            .filter(|rule| rule.path != "/openapi.json")
            .map(|rule| {
                let (path, name) = (rule.path.to_owned(), rule.operation.to_owned());
                (path, rule.method.to_string(), name)
            })
            .collect();
        assert_eq!(ruled, described);
        assert!(paths.values().all(Value::is_object));
    }

    #[test]
    fn the_subject_is_in_the_path() {
        for rule in RULES {
            let expected = match rule.path {
                path if path.starts_with("/v1/sessions/{id}") => Subject::Session,
                path if path.contains("approvals/{id}") => Subject::Approval,
                path if path.starts_with("/v1/tokens/{name}") => Subject::Token,
                _ => Subject::None,
            };
            assert_eq!(rule.subject, expected, "{rule:?}");
        }
    }

    #[test]
    fn what_only_reads_leaves_no_trace() {
        for rule in RULES {
            assert!(!rule.is_audited || rule.method != Method::GET, "{rule:?}");
        }
    }

    #[test]
    fn only_a_route_with_a_rule_is_found() {
        let found = find(&Method::HEAD, "/v1/sessions/{id}").expect("as a GET");
        assert_eq!(found.operation, "show_session");
        let others = find(&Method::PATCH, "/v1/sessions/{id}").expect_err("no rule");
        assert_eq!(others, [&Method::PUT, &Method::GET, &Method::DELETE]);
        assert!(find(&Method::GET, "/v1/new").expect_err("none").is_empty());
    }
}
