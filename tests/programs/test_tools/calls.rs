//! Calls in flight and their cancellation.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The outcome of a call.
pub(crate) enum Done {
    /// A result, or an error's code and text.
    Answer(Result<Value, (i64, String)>),
    /// The call was cancelled, so no answer is expected.
    Cancelled,
}

/// A call in flight.
#[derive(Clone, Default)]
pub(crate) struct CallInFlight(Arc<(Mutex<bool>, Condvar)>);

impl CallInFlight {
    /// Sleeps for `time`; returns early with `true` if the call is cancelled.
    pub(crate) fn sleep(&self, time: Duration) -> bool {
        let (cancelled, changed) = &*self.0;
        let until = Instant::now() + time;
        let mut cancelled = cancelled.lock().expect("no panic");
        while !*cancelled {
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return false;
            }
            let (guard, _) = changed.wait_timeout(cancelled, rest).expect("no panic");
            cancelled = guard;
        }
        true
    }
}

/// All calls in flight, by the text of their id.
#[derive(Default)]
pub(crate) struct CallsInFlight(Mutex<HashMap<String, CallInFlight>>);

impl CallsInFlight {
    pub(crate) fn begin(&self, id: &Value) -> CallInFlight {
        let call = CallInFlight::default();
        let mut calls = self.0.lock().expect("no panic");
        calls.insert(id.to_string(), call.clone());
        call
    }

    pub(crate) fn end(&self, id: &Value) {
        self.0.lock().expect("no panic").remove(&id.to_string());
    }

    pub(crate) fn cancel(&self, id: &Value) {
        if let Some(call) = self.0.lock().expect("no panic").get(&id.to_string()) {
            let (cancelled, changed) = &*call.0;
            *cancelled.lock().expect("no panic") = true;
            changed.notify_all();
        }
    }
}
