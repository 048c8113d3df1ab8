//! Failures of guest calls, with texts that name the remedy.

use bytesize::ByteSize;
use wasmtime::{Trap, WasmBacktrace};

use super::budget::STACK_MAX_BYTES;
use super::error::EngineError;
use super::guest_memory::Outgrown;
use super::log::cut;
use super::store_data::StoreData;
use crate::domain::{FailureCode, Limits, TurnFailure};

/// The maximum length of a reason that comes from the guest, in bytes.
const REASON_MAX_BYTES: usize = 4 << 10;
/// The maximum number of functions that a trap's text names.
const FRAMES_MAX: usize = 5;
/// The maximum length of a function name in a trap's text, in bytes.
const FRAME_MAX_BYTES: usize = 120;

/// The reason why a call of a guest has no result.
#[derive(Clone, Debug, thiserror::Error)]
pub enum GuestFailure {
    /// The guest failed, and would fail in the same way again.
    #[error("{0}")]
    Failed(TurnFailure),
    /// The guest could not be restored from its snapshot.
    #[error("{text}")]
    Restore {
        /// The reason, for humans.
        text: String,
        /// The snapshot's schema, if the guest reports that it is too new.
        newer_schema: Option<u32>,
    },
    /// The guest outgrew its reservation, and there was no room for more. Nothing of the call has
    /// taken effect: it must be run again with this reservation.
    #[error(
        "the guests together hold all that `daemon.guest_memory` allows; it begins again once {} \
         are free",
        ByteSize(*.reserve_bytes)
    )]
    Outgrown { reserve_bytes: u64 },
    /// The host failed, not the guest.
    #[error(transparent)]
    Host(#[from] EngineError),
}

/// An error with which a host function ends a guest call.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Stop {
    /// The guest caused it.
    #[error("{0}")]
    Guest(TurnFailure),
    /// The host caused it.
    #[error(transparent)]
    Host(EngineError),
}

/// The plugin, and its limits, that a failure's text names.
pub(super) struct Blame<'a> {
    pub(super) plugin: &'a str,
    pub(super) limits: &'a Limits,
}

impl Blame<'_> {
    /// Returns the failure of a guest that exceeded a limit.
    pub(super) fn limit(&self, key: &str, what: &str) -> TurnFailure {
        let plugin = self.plugin;
        TurnFailure {
            code: FailureCode::Limit,
            text: format!("{what}; see plugins.{plugin}.limits.{key}"),
        }
    }

    /// Returns the failure of a turn that took too long.
    pub(super) fn timeout(&self) -> TurnFailure {
        let (plugin, timeout) = (self.plugin, self.limits.turn_timeout);
        TurnFailure {
            code: FailureCode::Timeout,
            text: format!(
                "the guest did not end within {}, which is `limits.turn_timeout`; \
                 raise plugins.{plugin}.limits.turn_timeout if it needs longer",
                humantime::format_duration(timeout)
            ),
        }
    }

    /// Returns the failure of a guest that computed for too long.
    pub(super) fn compute(&self) -> TurnFailure {
        let allowed = humantime::format_duration(self.limits.compute);
        let what =
            format!("the guest computed for more than the {allowed} that `limits.compute` allows");
        self.limit("compute", &what)
    }

    /// Returns the failure of a guest that returned an error of its own.
    pub(super) fn guest(&self, mut text: String) -> TurnFailure {
        cut(&mut text, REASON_MAX_BYTES);
        TurnFailure {
            code: FailureCode::Guest,
            text,
        }
    }

    /// Converts a wasmtime error into the guest's failure.
    pub(super) fn explain(&self, error: &wasmtime::Error, state: &StoreData) -> GuestFailure {
        if let Some(stop) = error.downcast_ref::<Stop>() {
            return match stop.clone() {
                Stop::Guest(failure) => GuestFailure::Failed(failure),
                Stop::Host(error) => GuestFailure::Host(error),
            };
        }
        if let Some(Outgrown { reserve_bytes }) = error.downcast_ref() {
            let reserve_bytes = *reserve_bytes;
            return GuestFailure::Outgrown { reserve_bytes };
        }
        // The second: the kernel gave no memory for the instance.
        if error.is::<wasmtime::PoolConcurrencyLimitError>() || error.is::<std::io::Error>() {
            return GuestFailure::Host(EngineError::Exhausted(error.to_string()));
        }
        if state.budget.memory_was_refused() {
            let memory = ByteSize(self.limits.memory_bytes);
            let what = format!(
                "the guest wanted more memory than the {memory} that `limits.memory` allows, and \
                 gave up ({})",
                reason(error)
            );
            return GuestFailure::Failed(self.limit("memory", &what));
        }
        let code = match error.downcast_ref::<Trap>() {
            Some(Trap::StackOverflow) => FailureCode::Limit,
            _ => FailureCode::Trap,
        };
        let mut text = reason(error);
        if code == FailureCode::Limit {
            let stack = ByteSize(STACK_MAX_BYTES as u64);
            text.push_str(&format!(
                " (of {stack}, which no key changes: recurse less)"
            ));
        }
        text.push_str(&backtrace(error));
        if let Some(words) = state.log.last_words() {
            text.push_str(&format!("; its last words: {words}"));
        }
        GuestFailure::Failed(TurnFailure { code, text })
    }
}

/// Formats the reason without the backtrace.
fn reason(error: &wasmtime::Error) -> String {
    if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
        return format!("the guest exited with status {}", exit.0);
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        let trap = trap.to_string();
        return format!(
            "the guest trapped: {}",
            trap.trim_start_matches("wasm trap: ")
        );
    }
    let mut text = error.root_cause().to_string();
    cut(&mut text, REASON_MAX_BYTES);
    text
}

/// Formats the names of the innermost functions. A language's own panic machinery is skipped if
/// other functions follow it.
fn backtrace(error: &wasmtime::Error) -> String {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return String::new();
    };
    let names: Vec<_> = backtrace.frames().iter().map(name).collect();
    let dying = names.iter().take_while(|name| is_machinery(name)).count();
    let from = if dying < names.len() { dying } else { 0 };
    let names: Vec<_> = names.into_iter().skip(from).take(FRAMES_MAX).collect();
    if names.is_empty() {
        return String::new();
    }
    format!(" in {}", names.join(" < "))
}

fn name(frame: &wasmtime::FrameInfo) -> String {
    let Some(name) = frame.func_name() else {
        return format!("function {}", frame.func_index());
    };
    let mut name = format!("{:#}", rustc_demangle::demangle(name));
    cut(&mut name, FRAME_MAX_BYTES);
    name
}

fn is_machinery(name: &str) -> bool {
    let of = |part: &str| name.starts_with(part) || name.starts_with(&format!("<{part}"));
    name == "abort"
        || ["std::", "core::", "alloc::", "__rustc"]
            .into_iter()
            .any(of)
}
