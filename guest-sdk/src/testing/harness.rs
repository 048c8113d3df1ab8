//! The harness: one session of one plugin, driven by a test.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error as StdError;
use std::fmt::{self, Display, Formatter};
use std::marker::PhantomData;
use std::mem;

use serde_json::Value;

use super::imports::{Host, Source};
use super::script::{Script, Step, Timer, TurnResult};
use crate::http::Response;
use crate::llm::{ChatRequest, Completion, FinishReason, ToolCall};
use crate::tools::{Outcome, Tool};
use crate::{
    Cause, Context, Instance, Interruption, Message, Plugin, Recovery, RestoreError, Role, State,
    StepError,
};

/// The daemon's default limit on a snapshot, in bytes.
pub(super) const SNAPSHOT_MAX: usize = 1024 * 1024;
/// How far the clock advances from one message to the next, in milliseconds.
pub(super) const TICK_MS: u64 = 1000;

/// Why a session was not opened or a turn failed: the error that the plugin returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed(pub String);

impl Display for Failed {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Failed {}

/// One session of a plugin, on a mock host.
///
/// Every turn runs on a fresh instance that was restored from the last snapshot, as in the daemon,
/// and every snapshot must survive `restore` and `snapshot` byte for byte. Then the harness runs
/// the turn again, with the same answers, on the instance of the turn before: it must behave
/// identically, otherwise it remembers something that its snapshot does not hold. On such a mistake
/// the harness panics, and so fails the test. It cannot detect memory outside the plugin's own
/// value (a `static`).
///
/// A plugin that reads the clock or randomness does not behave identically twice on a native target
/// (in the daemon it does): for such a plugin, see [`rehearse`](Self::rehearse).
pub struct Harness<P: Plugin> {
    pub(super) context: Context,
    script: Script,
    pub(super) timers: BTreeMap<String, Timer>,
    /// `None` until the session is opened.
    pub(super) snapshot: Option<State>,
    /// The instance of the last turn, if that turn was committed.
    warm: Option<Instance<P>>,
    rehearse: bool,
    /// The recovery message that the next turn gets.
    recovery: Option<Recovery>,
    /// The description of stopped turns that the next turn gets.
    stopped: Option<String>,
    /// The number of the last restart.
    generation: u64,
    pub(super) messages: u64,
    plugin: PhantomData<P>,
}

impl<P: Plugin> Default for Harness<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Plugin> Harness<P> {
    /// Creates a session that is not opened yet.
    pub fn new() -> Self {
        Self {
            context: Context {
                session: "test".to_owned(),
                plugin: "plugin".to_owned(),
                args: "null".to_owned(),
            },
            script: Script::default(),
            timers: BTreeMap::new(),
            snapshot: None,
            warm: None,
            rehearse: true,
            recovery: None,
            stopped: None,
            generation: 0,
            messages: 0,
            plugin: PhantomData,
        }
    }

    /// Creates a session from the snapshot of its last turn, which an older version may have
    /// written.
    ///
    /// # Errors
    /// The error with which the plugin rejects the snapshot.
    pub fn from_snapshot(snapshot: State) -> Result<Self, RestoreError> {
        let mut harness = Self::new();
        let (_, restored) = harness
            .host(Source::Closed)
            .serve(|| Instance::<P>::new().restore(&snapshot));
        restored?;
        harness.snapshot = Some(snapshot);
        Ok(harness)
    }

    /// Opens the session with these arguments. If a test does not call this, the first turn opens
    /// the session without arguments.
    ///
    /// # Errors
    /// The error that the plugin returned.
    ///
    /// # Panics
    /// If the session is already open, or if the snapshot does not survive a restore byte for byte.
    pub fn open(&mut self, args: impl Into<Value>) -> Result<TurnResult, Failed> {
        assert!(self.snapshot.is_none(), "the session is open already");
        self.context.args = args.into().to_string();
        let instance = Instance::<P>::new();
        let (host, result) = self.host(Source::Closed).serve(|| {
            instance
                .open(&self.context)
                .map(|()| snapshot_twice(&instance))
        });
        self.commit(host, instance, result)
    }

    /// Runs a turn with a user's message.
    ///
    /// # Errors
    /// The error that the plugin returned: the turn failed, and the state is the one before it.
    ///
    /// # Panics
    /// If the plugin does not save a part of its state (see [`Harness`]).
    pub fn say(&mut self, text: impl Into<String>) -> Result<TurnResult, Failed> {
        let message = self.message(Role::User, None, text.into());
        self.deliver(message)
    }

    /// Runs a turn with the message of a timer that is set, and removes the timer.
    ///
    /// # Errors
    /// As [`say`](Self::say).
    ///
    /// # Panics
    /// If no timer of that name is set; otherwise as [`say`](Self::say).
    pub fn fire(&mut self, name: &str) -> Result<TurnResult, Failed> {
        let timer = self
            .timers
            .remove(name)
            .unwrap_or_else(|| panic!("no timer {name:?} is set"));
        let mut message = self.message(Role::Timer, Some(timer.name), timer.text);
        message.due_at_ms = Some(message.at_ms);
        self.deliver(message)
    }

    /// Runs a turn with any message, preceded by the recovery message or the description of a
    /// stopped turn, where there is one.
    ///
    /// # Errors
    /// As [`say`](Self::say).
    ///
    /// # Panics
    /// As [`say`](Self::say).
    pub fn deliver(&mut self, message: Message) -> Result<TurnResult, Failed> {
        if self.snapshot.is_none() {
            self.open(Value::Null)?;
        }
        let before = self.snapshot.clone().expect("the session was opened above");
        let notice = self.notice_message();
        let input: Vec<Message> = notice.into_iter().chain([message]).collect();

        let instance = Instance::<P>::new();
        let (host, result) = self.host(Source::Live).serve(|| {
            instance
                .restore(&before)
                .unwrap_or_else(|error| panic!("the plugin refuses its own snapshot: {error}"));
            let result = instance.turn(&input);
            result.map(|()| snapshot_twice(&instance))
        });
        self.compare_with_kept_instance(&input, &host, &result);
        let received = recovery_received(&host.done);
        let result = self.commit(host, instance, result);
        // A failed turn returns the recovery message that it received to the session; a recovery
        // message that was not received precedes the next turn's input.
        match &result {
            Ok(_) => (self.recovery, self.stopped) = (None, None),
            Err(_) => self.recovery = received.or(self.recovery.take()),
        }
        if let Some(missed) = self.script.interruption.take() {
            self.recovery = missed.recovery;
        }
        result
    }

    /// Simulates a restart of the daemon: a recovery message precedes the next turn's input.
    pub fn restart(&mut self, cause: Cause) {
        let generation = self.generation + 1;
        self.restart_as(Recovery {
            cause,
            generation,
            interruption: None,
            unknown_steps: Vec::new(),
        });
    }

    /// Simulates a restart of the daemon with a given recovery message.
    pub fn restart_as(&mut self, recovery: Recovery) {
        self.warm = None;
        self.generation = recovery.generation;
        self.recovery = Some(recovery);
    }

    /// Simulates a turn that was stopped (cancelled, or over a limit) after it had acted outside
    /// the session; `text` is the daemon's description of it. It precedes the next turn's input as
    /// a message of the role [`System`](Role::System) without a recovery; after a restart the
    /// recovery message contains both.
    pub fn stopped(&mut self, text: impl Into<String>) {
        self.stopped = Some(text.into());
    }

    /// Simulates a restart of the daemon in the middle of the next turn, after one of its steps
    /// completed: the turn continues, and its next [`inbox::receive`](crate::inbox::receive)
    /// returns the recovery message first. If the turn receives nothing any more, the message
    /// precedes the input of the turn after it. `unknown_steps` is the list in the message (each
    /// `kind name`); to make the steps themselves unknown, have the functions of
    /// [`tool`](Self::tool) return [`StepError::UnknownOutcome`].
    pub fn interrupt_in_turn(&mut self, cause: Cause, unknown_steps: &[&str]) {
        self.generation += 1;
        let recovery = Recovery {
            cause,
            generation: self.generation,
            interruption: Some(Interruption::Resumed),
            unknown_steps: unknown_steps.iter().map(|&step| step.to_owned()).collect(),
        };
        self.script.interruption = Some(self.recovery_message(recovery));
    }

    /// Grants the model, and queues an answer with `text`.
    pub fn answer(&mut self, text: impl Into<String>) {
        self.answer_with(Ok(Completion {
            content: text.into(),
            tool_calls: Vec::new(),
            finish: FinishReason::Stop,
            usage: None,
            model: "mock".to_owned(),
        }));
    }

    /// Grants the model, and queues an answer that requests these tool calls, with `text`.
    pub fn answer_with_calls(
        &mut self,
        text: impl Into<String>,
        calls: impl IntoIterator<Item = ToolCall>,
    ) {
        self.answer_with(Ok(Completion {
            content: text.into(),
            tool_calls: calls.into_iter().collect(),
            finish: FinishReason::ToolCalls,
            usage: None,
            model: "mock".to_owned(),
        }));
    }

    /// Grants the model, and queues this result.
    pub fn answer_with(&mut self, result: Result<Completion, StepError>) {
        let answers = self.script.completions.get_or_insert_default();
        answers.push_back(result);
    }

    /// Grants the model: `answer` handles each request for which no answer is queued. It should
    /// answer equal requests equally.
    pub fn model(
        &mut self,
        answer: impl FnMut(&ChatRequest) -> Result<Completion, StepError> + 'static,
    ) {
        self.script.model = Some(Box::new(answer));
    }

    /// Grants HTTP, and queues this result.
    pub fn respond(&mut self, result: Result<Response, StepError>) {
        let answers = self.script.responses.get_or_insert_default();
        answers.push_back(result);
    }

    /// Grants a tool: `answer` gets the JSON of each call's arguments. It may return any
    /// [`StepError`]: [`UnknownOutcome`](StepError::UnknownOutcome) is the result after a restart
    /// in the middle of the call.
    pub fn tool(
        &mut self,
        tool: Tool,
        answer: impl FnMut(&str) -> Result<Outcome, StepError> + 'static,
    ) {
        let entry = (tool.clone(), Box::new(answer) as _);
        self.script.tools.insert(tool.name, entry);
    }

    /// Makes the next [`tools::list`](crate::tools::list) fail with this error.
    pub fn fail_to_list_tools(&mut self, error: StepError) {
        self.script.unlisted = Some(error);
    }

    /// Adds a user's message that arrives while the next turn runs, for its next
    /// [`inbox::receive`](crate::inbox::receive).
    pub fn interject(&mut self, text: impl Into<String>) {
        let message = self.message(Role::User, None, text.into());
        self.interject_later(0, message);
    }

    /// Adds any message that arrives while a turn runs: the receive call that comes after `later`
    /// others returns it. See [`message`](Self::message).
    pub fn interject_later(&mut self, later: usize, message: Message) {
        self.script.queue(later, message);
    }

    /// Sets whether each turn is run a second time on the instance of the turn before (the
    /// default). Turn it off for a plugin that reads the clock or randomness.
    pub fn rehearse(&mut self, rehearse: bool) {
        self.rehearse = rehearse;
    }

    /// Creates the next message of this session, for [`deliver`](Self::deliver) and
    /// [`interject_later`](Self::interject_later).
    pub fn message(&mut self, role: Role, name: Option<String>, text: String) -> Message {
        self.messages += 1;
        Message {
            id: self.messages.to_string(),
            role,
            name,
            text,
            at_ms: self.messages * TICK_MS,
            due_at_ms: None,
            recovery: None,
        }
    }

    /// Returns the message that precedes the next turn's input.
    fn notice_message(&mut self) -> Option<Message> {
        match (self.recovery.clone(), self.stopped.clone()) {
            (None, None) => None,
            (None, Some(stopped)) => {
                Some(self.message(Role::System, None, format!("[system] {stopped}")))
            }
            (Some(recovery), stopped) => {
                let mut message = self.recovery_message(recovery);
                if let Some(stopped) = stopped {
                    message.text.push('\n');
                    message.text.push_str(&stopped);
                }
                Some(message)
            }
        }
    }

    fn recovery_message(&mut self, recovery: Recovery) -> Message {
        Message {
            recovery: Some(recovery.clone()),
            ..self.message(Role::System, None, notice(&recovery))
        }
    }

    /// Returns the last snapshot; `None` before the session is opened.
    pub fn snapshot(&self) -> Option<&State> {
        self.snapshot.as_ref()
    }

    fn host(&mut self, source: Source) -> Host {
        Host {
            script: mem::take(&mut self.script),
            source,
            timers: self.timers.clone(),
            done: TurnResult::default(),
        }
    }

    /// Commits a call as the daemon does: all of its effects, or none.
    fn commit(
        &mut self,
        host: Host,
        instance: Instance<P>,
        result: Result<State, String>,
    ) -> Result<TurnResult, Failed> {
        self.script = host.script;
        self.warm = None;
        let snapshot = result.map_err(Failed)?;
        if snapshot.data.len() > SNAPSHOT_MAX && !self.has_higher_limit() {
            return Err(Failed(format!(
                "the snapshot has {} bytes, over the default limit of {SNAPSHOT_MAX}",
                snapshot.data.len()
            )));
        }
        self.snapshot = Some(snapshot);
        self.warm = Some(instance);
        self.timers = host.timers;
        Ok(TurnResult {
            timers: self.timers.values().cloned().collect(),
            ..host.done
        })
    }

    /// Runs the turn once more, with the same answers, on the last turn's instance, and compares.
    fn compare_with_kept_instance(
        &mut self,
        input: &[Message],
        fresh: &Host,
        result: &Result<State, String>,
    ) {
        let Some(instance) = self.warm.take().filter(|_| self.rehearse) else {
            return;
        };
        let steps: VecDeque<_> = fresh.done.steps.iter().cloned().collect();
        let host = Host {
            script: Script::default(),
            source: Source::Replay(steps),
            timers: self.timers.clone(),
            done: TurnResult::default(),
        };
        let (kept, kept_result) = host.serve(|| instance.turn(input).map(|()| instance.snapshot()));
        let same = kept.done == fresh.done && kept.timers == fresh.timers && kept_result == *result;
        assert!(
            same,
            "the plugin remembers something that its snapshot does not hold: a field with \
             #[serde(skip)]? (A plugin that reads the clock or randomness turns this check off \
             with Harness::rehearse.)\n after a restore: {:?}, {}\n without one:     {:?}, {}",
            fresh.done,
            show(result),
            kept.done,
            show(&kept_result),
        );
    }
}

/// Returns the recovery message that a turn received while it ran.
fn recovery_received(done: &TurnResult) -> Option<Recovery> {
    let received = done.steps.iter().filter_map(|step| match step {
        Step::Receive(Ok(messages)) => Some(messages),
        _ => None,
    });
    let mut recoveries = received
        .flatten()
        .filter_map(|message| message.recovery.clone());
    recoveries.next_back()
}

/// Returns a recovery message's text, as the daemon writes it.
fn notice(recovery: &Recovery) -> String {
    let why = match recovery.cause {
        Cause::Config => "due to a configuration change",
        Cause::Upgrade => "due to an upgrade",
        Cause::Crash => "after a crash",
        Cause::Operator => "at an operator's request",
    };
    let turn = match recovery.interruption {
        None => "",
        Some(Interruption::Rerun) => {
            " The turn that was interrupted is being run again from its beginning."
        }
        Some(Interruption::Resumed) => " The turn that was interrupted goes on where it was.",
    };
    let unknown = match recovery.unknown_steps.join(", ") {
        none if none.is_empty() => none,
        steps => format!(" Nobody knows whether these steps took effect: {steps}."),
    };
    format!(
        "[system] The daemon restarted {why}. Your session state has been recovered from the last \
         checkpoint.{turn}{unknown}"
    )
}

/// Takes a snapshot, and checks that it survives a restore byte for byte.
fn snapshot_twice<P: Plugin>(instance: &Instance<P>) -> State {
    let snapshot = instance.snapshot();
    let restored = Instance::<P>::new();
    restored
        .restore(&snapshot)
        .unwrap_or_else(|error| panic!("the plugin refuses its own snapshot: {error}"));
    let again = restored.snapshot();
    assert!(
        again == snapshot,
        "restore and snapshot do not give the same bytes back: is there a HashMap or a HashSet \
         in the state? Use a BTreeMap or a BTreeSet.\n before: {}\n after:  {}",
        show(&Ok(snapshot)),
        show(&Ok(again)),
    );
    snapshot
}

/// Formats the result of a turn for a human: the state as JSON, if it can be represented.
fn show(result: &Result<State, String>) -> String {
    match result {
        Ok(state) => match crate::decode::<Value>(&state.data) {
            Ok(value) => format!("state {value}"),
            Err(_) => format!("state {}", state.data.escape_ascii()),
        },
        Err(error) => format!("error {error:?}"),
    }
}
