//! Explains why a call has no result, for the guest, its model and the operator.

use std::time::Duration;

use super::ToolServer;
use super::brief::brief;
use super::connection::NoResult;
use super::outcome::Unusable;
use crate::domain::StepError;

/// The facts about a call that its errors mention.
pub(super) struct CallContext<'a> {
    pub(super) name: &'a str,
    pub(super) server: &'a str,
    pub(super) settings: &'a ToolServer,
    pub(super) repeatable: bool,
    pub(super) limit_bytes: u64,
    /// How long the call may take in total, however much progress the server reports.
    pub(super) limit: Duration,
}

impl CallContext<'_> {
    /// Converts a missing result into an error. `ended` is how the server ended, if it is known to
    /// have ended.
    pub(super) fn no_result(&self, error: NoResult, ended: Option<&str>) -> StepError {
        let (name, server) = (self.name, self.server);
        match error {
            NoResult::NotSent => self.not_sent(ended.unwrap_or("it takes no input any more")),
            NoResult::Busy => self.not_sent("it reads no input"),
            NoResult::NotTaken(why) => self.not_sent(&self.in_words_of(&why)),
            NoResult::Forgotten => self.not_sent("it forgets every session at once"),
            NoResult::Lost(why) => {
                let why = why.map(|why| self.in_words_of(&why));
                let why = why.as_deref().or(ended);
                let why = why.unwrap_or("it closed the connection");
                self.unanswered(&format!("tool server `{server}`: {why}"), |text| {
                    StepError::Unavailable(text)
                })
            }
            NoResult::Late(waited) => {
                let patience = self.settings.call_timeout;
                let why = if waited < self.limit {
                    // `waited` may exceed `call_timeout`: progress reports extended the deadline.
                    let patience = humantime::format_duration(patience);
                    format!("nothing within {patience}; see `mcp.{server}.call_timeout`")
                } else {
                    let limit = humantime::format_duration(self.limit);
                    format!("nothing within {limit}; see `limits.step_timeout`")
                };
                self.unanswered(&why, StepError::Timeout)
            }
            NoResult::TooLong => StepError::TooLarge(self.too_large("more")),
            NoResult::Refused(error) => {
                let message = self.in_words_of(&error.message);
                let mut text = format!(
                    "tool `{name}` answered with error {}: {message}",
                    error.code.0
                );
                if let Some(data) = &error.data {
                    let data = data
                        .as_str()
                        .map_or_else(|| data.to_string(), str::to_owned);
                    text.push_str(&format!(" ({})", self.in_words_of(&data)));
                }
                if refuses_call(&error) {
                    StepError::Invalid(text)
                } else {
                    StepError::Failed(text)
                }
            }
        }
    }

    pub(super) fn unusable(&self, error: Unusable) -> StepError {
        match error {
            Unusable::TooLarge(bytes) => {
                StepError::TooLarge(self.too_large(&format!("{bytes} bytes")))
            }
            Unusable::Unfinished => self.unanswered(
                "it goes on in the background, which this version cannot follow",
                StepError::Failed,
            ),
        }
    }

    /// Redacts and shortens a text of the server or the network.
    fn in_words_of(&self, text: &str) -> String {
        brief(&self.settings.redact(text))
    }

    fn not_sent(&self, why: &str) -> StepError {
        let (name, server) = (self.name, self.server);
        StepError::Unavailable(format!(
            "the call of `{name}` was not taken by tool server `{server}`, and has not happened: \
             {why}"
        ))
    }

    fn too_large(&self, size: &str) -> String {
        format!(
            "tool `{}` ran, and its answer has {size} where {} bytes are allowed \
             (`limits.event`); what it did is done: do not call it again for this alone, or ask \
             it for less",
            self.name, self.limit_bytes
        )
    }

    /// The error for a call that was sent and has no answer.
    fn unanswered(&self, why: &str, known: impl Fn(String) -> StepError) -> StepError {
        let name = self.name;
        let text = format!("the call was sent to `{name}` and no answer came ({why})");
        if self.repeatable {
            known(format!("{text}; it does no harm to call it again"))
        } else {
            StepError::UnknownOutcome(format!(
                "{text}; it may or may not have happened: find out before calling it again"
            ))
        }
    }
}

/// Returns whether a server's error means that the tool never began. The code alone does not
/// decide: SDKs use the same code for an invalid tool output, and some servers for errors of a
/// service behind them.
fn refuses_call(error: &rmcp::model::ErrorData) -> bool {
    let message = error.message.to_lowercase();
    let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
    error.code == rmcp::model::ErrorCode::INVALID_PARAMS
        && says(&[
            "no tool",
            "no such tool",
            "unknown tool",
            "unknown function",
            "not found",
            "missing",
            "required",
            "argument",
            "input",
        ])
        && !says(&[
            "output",
            "structured content",
            "result",
            "response",
            "upstream",
        ])
}

#[cfg(test)]
mod tests {
    use rmcp::model::{ErrorCode, ErrorData};

    use super::*;

    fn step_error(repeatable: bool, error: NoResult, ended: Option<&str>) -> StepError {
        let settings = super::super::tests::with_secret("TOKEN", "hunter2hunter2");
        let context = CallContext {
            name: "files__write",
            server: "files",
            settings: &settings,
            repeatable,
            limit_bytes: 1000,
            limit: settings.call_timeout * 2,
        };
        context.no_result(error, ended)
    }

    #[test]
    fn only_what_was_sent_may_have_happened() {
        use NoResult::{Busy, Forgotten, Late, Lost, NotSent, NotTaken};
        let ended = Some("it exited with status 1");
        let once = step_error(false, Lost(None), ended);
        let text = "unknown outcome: the call was sent to `files__write` and no answer came \
                    (tool server `files`: it exited with status 1); it may or may not have \
                    happened: find out before calling it again";
        assert_eq!(once.to_string(), text);
        assert!(matches!(
            step_error(true, Lost(None), None),
            StepError::Unavailable(_)
        ));
        let late = |seconds| Late(Duration::from_secs(seconds));
        assert!(matches!(
            step_error(true, late(10), None),
            StepError::Timeout(_)
        ));
        // Either the server's own time limit has passed, or the step's.
        for (seconds, part) in [
            (10, "within 10s; see `mcp.files.call_timeout`"),
            (20, "within 20s; see `limits.step_timeout`"),
        ] {
            let late = step_error(false, late(seconds), None);
            assert!(
                matches!(&late, StepError::UnknownOutcome(text) if text.contains(part)),
                "{late}"
            );
        }
        for repeatable in [true, false] {
            let refused = NotTaken("it refused the request (400)".to_owned());
            for error in [NotSent, Busy, Forgotten, refused] {
                let error = step_error(repeatable, error, None);
                assert!(matches!(error, StepError::Unavailable(_)), "{error}");
            }
        }
    }

    #[test]
    fn an_error_is_an_answer_and_tells_no_secret() {
        let refused = |code| {
            let data = ErrorData::new(code, "no hunter2hunter2\nhere", None);
            step_error(false, NoResult::Refused(data), None)
        };
        let data = serde_json::json!({"field": "hunter2hunter2", "rest": "x".repeat(5000)});
        let error = ErrorData::new(ErrorCode::INTERNAL_ERROR, "no", Some(data));
        let with_data = step_error(false, NoResult::Refused(error), None).to_string();
        assert!(
            with_data.contains("-32603: no ({\"field\":\"[TOKEN]\"") && with_data.len() < 700,
            "{with_data}"
        );
        let failed = refused(ErrorCode::INTERNAL_ERROR);
        let text = "failed: tool `files__write` answered with error -32603: no [TOKEN] here";
        assert_eq!(failed.to_string(), text);
        for (message, is_certain) in [
            ("Unknown tool: files__write", true),
            ("MCP error -32602: Tool x not found", true),
            ("Invalid arguments for tool x: path is required", true),
            (
                "MCP error -32602: Tool x has an output schema but no structured content was provided",
                false,
            ),
            ("the service behind it says no", false),
        ] {
            let data = ErrorData::new(ErrorCode::INVALID_PARAMS, message, None);
            let error = step_error(false, NoResult::Refused(data), None);
            assert_eq!(
                matches!(error, StepError::Invalid(_)),
                is_certain,
                "{error}"
            );
        }
        let large = step_error(false, NoResult::TooLong, None).to_string();
        assert!(
            large.contains("tool `files__write` ran") && large.contains("1000 bytes"),
            "{large}"
        );
    }
}
