//! Finish reasons, in the spellings of many servers and of the gateways in front of them.

use crate::domain::FinishReason;

/// The meaning of a finish reason.
#[derive(Debug, PartialEq)]
pub(super) enum Ending {
    /// It is not a finish reason: the answer continues.
    None,
    Finished(FinishReason),
    /// The answer is void.
    Failed,
}

/// Substrings in the finish reasons of void answers.
const FAILURES: [&str; 19] = [
    "error",
    "malformed",
    "fail",
    "abort",
    "cancel",
    "interrupt",
    "incomplete",
    "timeout",
    "timed_out",
    "time_limit",
    "overload",
    "unavailable",
    "exception",
    "disconnect",
    "shutdown",
    "preempt",
    "closed",
    "deadline",
    "pause",
];
/// Substrings in the finish reasons of answers that were cut off.
const CUTS: [&str; 4] = ["length", "max_", "token", "truncat"];

/// Interprets a finish reason. Gateways pass on those of the servers behind them.
pub(super) fn ending(reason: &str) -> Ending {
    let reason = reason.trim().to_ascii_lowercase();
    let finish = match reason.as_str() {
        ""
        | "null"
        | "none"
        | "finish_reason_unspecified"
        | "unspecified"
        | "normal"
        | "in_progress"
        | "continue"
        | "generating"
        | "not_finished" => return Ending::None,
        "stop" | "end_turn" | "stop_sequence" | "eos" | "eos_token" | "end" | "complete"
        | "completed" => FinishReason::Stop,
        "length"
        | "max_tokens"
        | "max_output_tokens"
        | "model_length"
        | "token_limit"
        | "model_context_window_exceeded" => FinishReason::Length,
        "tool_calls" | "tool_call" | "tool_use" | "function_call" => FinishReason::ToolCalls,
        "content_filter"
        | "content_filtered"
        | "safety"
        | "recitation"
        | "blocklist"
        | "prohibited_content"
        | "spii"
        | "sensitive"
        | "refusal"
        | "guardrail_intervened" => FinishReason::ContentFilter,
        "abort"
        | "aborted"
        | "cancelled"
        | "canceled"
        | "failed"
        | "timeout"
        | "unexpected_tool_call"
        | "too_many_tool_calls"
        | "insufficient_system_resource" => {
            return Ending::Failed;
        }
        // `network_error`, `malformed_function_call`, `engine_overloaded` and the like.
        reason if reason.starts_with("stop") || reason.starts_with("eo") => FinishReason::Stop,
        reason if FAILURES.iter().any(|word| reason.contains(word)) => return Ending::Failed,
        reason if CUTS.iter().any(|word| reason.contains(word)) => FinishReason::Length,
        reason if reason.contains("safety") || reason.contains("filter") => {
            FinishReason::ContentFilter
        }
        _ => FinishReason::Other,
    };
    Ending::Finished(finish)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_nobody_has_listed_are_read_by_their_words() {
        for reason in [
            "interrupted",
            "engine_overloaded",
            "internal_failure",
            "time_limit",
        ] {
            assert_eq!(ending(reason), Ending::Failed, "{reason}");
        }
        for reason in ["max_length", "length_limit", "max_new_tokens"] {
            assert_eq!(
                ending(reason),
                Ending::Finished(FinishReason::Length),
                "{reason}"
            );
        }
        assert_eq!(ending("stop_token"), Ending::Finished(FinishReason::Stop));
        assert_eq!(ending("whatever"), Ending::Finished(FinishReason::Other));
    }
}
