//! The imports of the contract, served by the mock host of the running harness.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use super::script::{Event, Script, Step, Timer, TurnResult};
use crate::log::Level;
use crate::{OutputError, StepError, TimerError};

/// The maximum length of the name of an event or a timer, in bytes.
const NAME_MAX: usize = 128;
/// The default maximum number of timers set at the same time.
const TIMERS_MAX: usize = 64;

thread_local! {
    static CURRENT: RefCell<Option<Host>> = const { RefCell::new(None) };
}

/// The source of the results of steps.
pub(super) enum Source {
    /// Steps are not allowed in this call.
    Closed,
    /// The test's script answers.
    Live,
    /// The results of an earlier run of the same turn are replayed.
    Replay(VecDeque<Step>),
}

/// The mock host of one call into a plugin.
pub(super) struct Host {
    pub(super) script: Script,
    pub(super) source: Source,
    pub(super) timers: BTreeMap<String, Timer>,
    pub(super) done: TurnResult,
}

impl Host {
    /// Runs `call` with this host behind the imports, and returns the host and the result.
    pub(super) fn serve<T>(self, call: impl FnOnce() -> T) -> (Self, T) {
        let outer = CURRENT.replace(Some(self));
        let result = call();
        let this = CURRENT
            .replace(outer)
            .expect("the host was put there above, and with_host leaves it");
        (this, result)
    }

    /// Performs one step: `live` gets the result from the script; `recall` returns the recorded
    /// result if the recorded step is the same one, and `None` if it is another.
    fn step<T: Clone>(
        &mut self,
        live: impl FnOnce(&mut Script) -> Result<T, StepError>,
        recall: impl FnOnce(&Step) -> Option<Result<T, StepError>>,
        record: impl FnOnce(Result<T, StepError>) -> Step,
    ) -> Result<T, StepError> {
        let result = match &mut self.source {
            Source::Closed => {
                return Err(StepError::Denied(
                    "steps may be called in a turn alone".to_owned(),
                ));
            }
            Source::Live => live(&mut self.script),
            Source::Replay(steps) => match steps.pop_front() {
                // A different step than in the earlier run: the harness detects that when it
                // compares both runs.
                None => Err(StepError::Unavailable("not replayed".to_owned())),
                Some(step) => recall(&step)
                    .unwrap_or_else(|| Err(StepError::Unavailable("not replayed".to_owned()))),
            },
        };
        self.done.steps.push(record(result.clone()));
        result
    }
}

fn with_host<T>(call: impl FnOnce(&mut Host) -> T) -> T {
    CURRENT.with_borrow_mut(|host| {
        call(
            host.as_mut().expect(
                "a plugin's imports work in a component, or while a testing::Harness runs it",
            ),
        )
    })
}

fn check_name(name: &str) -> Result<(), String> {
    match name.len() {
        0 => Err("the name is empty".to_owned()),
        1..=NAME_MAX => Ok(()),
        len => Err(format!(
            "the name has {len} bytes, over the limit of {NAME_MAX}"
        )),
    }
}

pub(crate) mod llm {
    use super::{Step, StepError, with_host};
    use crate::llm::{ChatRequest, Completion};

    pub(crate) fn chat(request: &ChatRequest) -> Result<Completion, StepError> {
        with_host(|host| {
            host.step(
                |script| script.chat(request),
                |step| match step {
                    Step::Chat(before, result) if before == request => Some(result.clone()),
                    _ => None,
                },
                |result| Step::Chat(request.clone(), result),
            )
        })
    }
}

pub(crate) mod tools {
    use super::{Step, StepError, with_host};
    use crate::tools::{Invocation, Outcome, Tool};

    pub(crate) fn list() -> Result<Vec<Tool>, StepError> {
        with_host(|host| {
            host.step(
                |script| script.list(),
                |step| match step {
                    Step::ListTools(result) => Some(result.clone()),
                    _ => None,
                },
                Step::ListTools,
            )
        })
    }

    pub(crate) fn call(invocation: &Invocation) -> Result<Outcome, StepError> {
        with_host(|host| {
            host.step(
                |script| script.call(invocation),
                |step| match step {
                    Step::Call(before, result) if before == invocation => Some(result.clone()),
                    _ => None,
                },
                |result| Step::Call(invocation.clone(), result),
            )
        })
    }

    pub(crate) fn call_all(invocations: &[Invocation]) -> Vec<Result<Outcome, StepError>> {
        invocations.iter().map(call).collect()
    }
}

pub(crate) mod http {
    use super::{Step, StepError, with_host};
    use crate::http::{Request, Response};

    pub(crate) fn send(request: &Request) -> Result<Response, StepError> {
        with_host(|host| {
            host.step(
                |script| script.send(),
                |step| match step {
                    Step::Send(before, result) if before == request => Some(result.clone()),
                    _ => None,
                },
                |result| Step::Send(request.clone(), result),
            )
        })
    }
}

pub(crate) mod inbox {
    use super::{Step, StepError, with_host};
    use crate::Message;

    pub(crate) fn receive() -> Result<Vec<Message>, StepError> {
        with_host(|host| {
            host.step(
                |script| script.receive(),
                |step| match step {
                    Step::Receive(result) => Some(result.clone()),
                    _ => None,
                },
                Step::Receive,
            )
        })
    }
}

pub(crate) mod output {
    use super::{Event, OutputError, check_name, with_host};

    pub(crate) fn text(text: &str) -> Result<(), OutputError> {
        with_host(|host| host.done.output.push(text.to_owned()));
        Ok(())
    }

    pub(crate) fn event(name: &str, data: &str) -> Result<(), OutputError> {
        check_name(name).map_err(OutputError::Invalid)?;
        let data =
            serde_json::from_str(data).map_err(|error| OutputError::Invalid(error.to_string()))?;
        let name = name.to_owned();
        with_host(|host| host.done.events.push(Event { name, data }));
        Ok(())
    }
}

pub(crate) mod timer {
    use super::{TIMERS_MAX, Timer, TimerError, check_name, with_host};

    pub(crate) fn set(name: &str, after_ms: u64, text: &str) -> Result<(), TimerError> {
        check_name(name).map_err(TimerError::Invalid)?;
        with_host(|host| {
            if host.timers.len() >= TIMERS_MAX && !host.timers.contains_key(name) {
                return Err(TimerError::TooMany(format!(
                    "{TIMERS_MAX} timers are set already"
                )));
            }
            let timer = Timer {
                name: name.to_owned(),
                after_ms,
                text: text.to_owned(),
            };
            host.timers.insert(name.to_owned(), timer);
            Ok(())
        })
    }

    pub(crate) fn cancel(name: &str) {
        with_host(|host| host.timers.remove(name));
    }
}

pub(crate) mod log {
    use super::{Level, with_host};

    pub(crate) fn write(level: Level, text: &str) {
        with_host(|host| host.done.logs.push((level, text.to_owned())));
    }
}
