//! The documents of the HTTP API that are no notions of the domain. The server writes them and the
//! command line reads them, each by this one definition. A reader ignores fields that a newer daemon
//! adds; fields that an older one lacks have defaults.
//!
//! | file | content |
//! |---|---|
//! | `backup` | backups and restores |
//! | `dead` | dead letters of all sessions |
//! | `daemon` | the daemon's status |
//! | `events` | a page of a session's events |
//! | `message` | the answer to a message |
//! | `object` | values that are read from objects alone |
//! | `page` | one page of a list |
//! | `point` | restore points, and copies of sessions |
//! | `problem` | problem documents |
//! | `token` | access tokens |

mod backup;
mod daemon;
mod dead;
mod events;
mod message;
mod object;
mod page;
mod point;
mod problem;
mod token;

pub use backup::{BackupReport, RestoreReport};
pub use daemon::{
    ComponentStatus, ConfigStatus, DaemonState, DaemonStatus, DrainStatus, FINDINGS_MAX,
    PluginStatus, RestartAccepted,
};
pub use dead::SessionDeadLetter;
pub use events::EventsPage;
pub use message::AcceptedMessage;
pub use object::{FromObject, from_object};
pub use page::Page;
pub use point::{CopiedSession, PointBody, RewoundSession};
pub use problem::ProblemDocument;
pub use token::{TokenCreated, TokenLimitsRequest, TokenRequest};

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::{FindingKind, ToolServerState};

    #[test]
    fn a_status_of_an_older_daemon_is_read() {
        let old = json!({"generation": 7, "state": "serving", "drain": {}, "plugins": [{"name": "echo"}]});
        let status: DaemonStatus =
            serde_json::from_value(old).expect("what is missing has a default");
        assert_eq!(status.state, DaemonState::Serving);
        assert_eq!((status.pid, status.started_at), (None, None));
        assert_eq!(status.config, ConfigStatus::default());
        assert_eq!(status.drain.map(|drain| drain.held), Some(0));
        assert_eq!(status.plugins[0].digest, None);
        let accepted: AcceptedMessage =
            serde_json::from_value(json!({"message": "m1"})).expect("as before");
        assert!(accepted.outcome.is_none() && accepted.output.is_none());
        let accepted: RestartAccepted =
            serde_json::from_value(json!({"generation": 8})).expect("as before");
        assert_eq!(accepted.generation.0, 8);
        let page: EventsPage = serde_json::from_value(json!({"items": []})).expect("as before");
        assert_eq!(page.next, None);
        let problem: ProblemDocument =
            serde_json::from_value(json!({"oldest": 9})).expect("as before");
        assert_eq!(problem.facts["oldest"], 9);
    }

    #[test]
    fn a_status_of_a_newer_daemon_is_read() {
        let new = json!({
            "generation": 7, "state": "dreaming", "further": true,
            "tool_servers": [{"name": "t", "kind": "radio", "state": "asleep"}],
            "watchdog": [{
                "kind": "moon_too_low", "subject": "s", "since": "2026-01-01T00:00:00Z",
                "reason": "a", "remedy": "b",
            }],
        });
        let status: DaemonStatus = serde_json::from_value(new).expect("what is new is no error");
        assert_eq!(status.state, DaemonState::Unknown);
        assert_eq!(status.tool_servers[0].state, ToolServerState::Unknown);
        assert_eq!(status.watchdog[0].kind, FindingKind::Unknown);
    }

    #[test]
    fn limits_are_whole_numbers_in_an_object() {
        let read = |limits| {
            let request = json!({"name": "ci", "role": "viewer", "limits": limits});
            let request = serde_json::from_value::<TokenRequest>(request).ok();
            request.map(|it| it.limits.requests_at_once.map(std::num::NonZeroU32::get))
        };
        assert_eq!(read(json!({})), Some(None));
        for seven in [json!(7), json!(7.0)] {
            assert_eq!(read(json!({"requests_at_once": seven})), Some(Some(7)));
        }
        let most = json!({"requests_at_once": u32::MAX});
        assert_eq!(read(most), Some(Some(u32::MAX)));
        for bad in [
            json!(0),
            json!(7.5),
            json!(-1),
            json!(4_294_967_296_u64),
            json!("7"),
        ] {
            assert_eq!(read(json!({"requests_at_once": bad})), None, "{bad}");
        }
        assert_eq!(read(json!([null, null])), None);
    }
}
