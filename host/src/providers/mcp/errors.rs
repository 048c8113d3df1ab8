//! Why a call has no result, in words that a guest, its model and an operator understand.

use super::ToolServer;
use super::connection::NoResult;
use super::outcome::Unusable;
use crate::domain::StepError;

/// The longest text of a server that an error repeats, in characters.
const REPEATED_MAX_CHARS: usize = 500;

/// A call, as far as its errors tell of it.
pub(super) struct Told<'a> {
    pub(super) name: &'a str,
    pub(super) server: &'a str,
    pub(super) settings: &'a ToolServer,
    pub(super) repeatable: bool,
    pub(super) limit_bytes: u64,
    /// How long the answer may take.
    pub(super) timeout: std::time::Duration,
}

impl Told<'_> {
    /// `ended` says what became of the server, where it is known to have ended.
    pub(super) fn no_result(&self, error: NoResult, ended: Option<&str>) -> StepError {
        let (name, server) = (self.name, self.server);
        match error {
            NoResult::NotSent => self.not_sent(ended.unwrap_or("it takes no input any more")),
            NoResult::Busy => self.not_sent("it reads no input"),
            NoResult::NotTaken(why) => self.not_sent(&self.said(&why)),
            NoResult::Forgotten => self.not_sent("it forgets every session at once"),
            NoResult::Lost(why) => {
                let why = why.map(|why| self.said(&why));
                let why = why.as_deref().or(ended);
                let why = why.unwrap_or("it closed the connection");
                self.unanswered(&format!("tool server `{server}`: {why}"), |text| {
                    StepError::Unavailable(text)
                })
            }
            NoResult::Late => {
                let limit = humantime::format_duration(self.timeout);
                let why = format!(
                    "nothing within {limit}; see `mcp.{server}.call_timeout` and \
                     `limits.step_timeout`"
                );
                self.unanswered(&why, StepError::Timeout)
            }
            NoResult::TooLong => StepError::TooLarge(self.too_large("more")),
            NoResult::Refused(error) => {
                let said = self.said(&error.message);
                let text = format!("tool `{name}` answered with error {}: {said}", error.code.0);
                if error.code == rmcp::model::ErrorCode::INVALID_PARAMS {
                    StepError::Invalid(text)
                } else {
                    StepError::Failed(text)
                }
            }
        }
    }

    pub(super) fn unusable(&self, error: Unusable) -> StepError {
        let name = self.name;
        match error {
            Unusable::TooLarge(bytes) => {
                StepError::TooLarge(self.too_large(&format!("{bytes} bytes")))
            }
            Unusable::Unfinished => self.unanswered(
                "it goes on in the background, which this version cannot follow",
                StepError::Failed,
            ),
            Unusable::Odd => StepError::Failed(format!(
                "tool `{name}` ran, and what its server answered is no tool's answer"
            )),
        }
    }

    /// What a server or the network said, fit to be repeated.
    fn said(&self, text: &str) -> String {
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

    /// A call that was sent and has no answer.
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

/// A text in one line and of bounded length.
pub(super) fn brief(text: &str) -> String {
    let text = text.trim();
    let mut brief: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(REPEATED_MAX_CHARS)
        .collect();
    if brief.len() < text.len() {
        brief.push('…');
    }
    if brief.is_empty() {
        brief.push_str("(it does not say why)");
    }
    brief
}

#[cfg(test)]
mod tests {
    use rmcp::model::{ErrorCode, ErrorData};

    use super::*;

    fn told(repeatable: bool, error: NoResult, ended: Option<&str>) -> StepError {
        let settings = super::super::tests::with_secret("TOKEN", "hunter2hunter2");
        let told = Told {
            name: "files__write",
            server: "files",
            settings: &settings,
            repeatable,
            limit_bytes: 1000,
            timeout: settings.call_timeout,
        };
        told.no_result(error, ended)
    }

    #[test]
    fn only_what_was_sent_may_have_happened() {
        use NoResult::{Busy, Forgotten, Late, Lost, NotSent, NotTaken};
        let ended = Some("it exited with status 1");
        let once = told(false, Lost(None), ended);
        let text = "unknown outcome: the call was sent to `files__write` and no answer came \
                    (tool server `files`: it exited with status 1); it may or may not have \
                    happened: find out before calling it again";
        assert_eq!(once.to_string(), text);
        assert!(matches!(
            told(true, Lost(None), None),
            StepError::Unavailable(_)
        ));
        assert!(matches!(told(true, Late, None), StepError::Timeout(_)));
        let late = told(false, Late, None);
        assert!(matches!(&late, StepError::UnknownOutcome(text) if text.contains("call_timeout")));
        for repeatable in [true, false] {
            let refused = NotTaken("it refused the request (400)".to_owned());
            for error in [NotSent, Busy, Forgotten, refused] {
                let error = told(repeatable, error, None);
                assert!(matches!(error, StepError::Unavailable(_)), "{error}");
            }
        }
    }

    #[test]
    fn an_error_is_an_answer_and_tells_no_secret() {
        let refused = |code| {
            let data = ErrorData::new(code, "no hunter2hunter2\nhere", None);
            told(false, NoResult::Refused(data), None)
        };
        let failed = refused(ErrorCode::INTERNAL_ERROR);
        let text = "failed: tool `files__write` answered with error -32603: no [TOKEN] here";
        assert_eq!(failed.to_string(), text);
        assert!(matches!(
            refused(ErrorCode::INVALID_PARAMS),
            StepError::Invalid(_)
        ));
        let large = told(false, NoResult::TooLong, None).to_string();
        assert!(
            large.contains("tool `files__write` ran") && large.contains("1000 bytes"),
            "{large}"
        );
    }
}
