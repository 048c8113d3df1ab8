//! Performs a script's acts and reports each of them in an event.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime};

use abide_plugin::llm::{ChatMessage, ChatRequest};
use abide_plugin::tools::{Invocation, Outcome};
use abide_plugin::{
    Cause, Error, Interruption, Message, Recovery, Role, StepError, http, inbox, llm, output,
    timer, tools,
};
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

use crate::script::{Act, ActReport, Script, ScriptedCall};

/// The tool server's name in the daemon's configuration.
const SERVER: &str = "t";

impl ActReport {
    fn publish(&self) -> Result<(), Error> {
        Ok(output::event("act", self)?)
    }
}

/// The execution of one turn.
pub(crate) struct Show<'a> {
    /// The turn's number, as counted in the state.
    turn: u64,
    /// The ballast that the state holds.
    held: &'a mut String,
    /// A mix of the values that `random` and `clock` returned so far.
    salt: u64,
}

impl<'a> Show<'a> {
    pub(crate) fn new(turn: u64, held: &'a mut String) -> Self {
        let salt = 0;
        Self { turn, held, salt }
    }

    /// Handles one message.
    pub(crate) fn take(&mut self, message: &Message) -> Result<(), Error> {
        if let Some(recovery) = &message.recovery {
            let data = notice(recovery, &message.text);
            return Ok(output::event("notice", &data)?);
        }
        if message.role == Role::System {
            let stopped = json!({"text": message.text});
            return Ok(output::event("stopped", &stopped)?);
        }
        if message.role == Role::Timer {
            let fired =
                json!({"name": message.name, "due_ms": message.due_at_ms, "at_ms": message.at_ms});
            output::event("timer", &fired)?;
        }
        let script: Script = serde_json::from_str(&message.text)?;
        for (n, act) in script.acts.iter().enumerate() {
            self.act(&script.id, n, act)?;
        }
        Ok(output::text(format!("done {} #{}", script.id, self.turn))?)
    }

    fn act(&mut self, script: &str, n: usize, act: &Act) -> Result<(), Error> {
        let report = |result: String, value| ActReport {
            script: script.to_owned(),
            n,
            kind: act.kind().to_owned(),
            part: None,
            tool: None,
            token: None,
            result,
            value,
        };
        let ok = || "ok".to_owned();
        match act {
            Act::Call(call) => {
                let result = result_of(&tools::call(&invocation(call)?));
                ActReport {
                    tool: Some(call.tool.clone()),
                    token: Some(call.token.clone()),
                    ..report(result, Value::Null)
                }
                .publish()
            }
            Act::CallAll { calls } => {
                let invocations = calls
                    .iter()
                    .map(invocation)
                    .collect::<Result<Vec<_>, _>>()?;
                let results = tools::call_all(&invocations);
                if results.len() != calls.len() {
                    let (asked, given) = (calls.len(), results.len());
                    return Err(format!("{asked} calls have {given} results").into());
                }
                for (part, (call, result)) in calls.iter().zip(&results).enumerate() {
                    ActReport {
                        part: Some(part),
                        tool: Some(call.tool.clone()),
                        token: Some(call.token.clone()),
                        ..report(result_of(result), Value::Null)
                    }
                    .publish()?;
                }
                Ok(())
            }
            Act::Say { text } => {
                output::text(text)?;
                report(ok(), Value::Null).publish()
            }
            Act::Timer {
                name,
                after_ms,
                script,
            } => {
                let text = serde_json::to_string(script)?;
                timer::set(name, Duration::from_millis(*after_ms), text)?;
                ActReport {
                    token: Some(name.clone()),
                    ..report(ok(), json!(unix_ms()))
                }
                .publish()
            }
            Act::Receive => match inbox::receive() {
                Ok(messages) => {
                    let news = messages.iter().filter(|message| message.recovery.is_none());
                    let ids: Vec<_> = news.map(|message| &message.id).collect();
                    report(ok(), json!(ids)).publish()?;
                    messages.iter().try_for_each(|message| self.take(message))
                }
                Err(error) => report(failed(&error), Value::Null).publish(),
            },
            Act::Llm { text } => {
                let question = match self.salt {
                    0 => text.clone(),
                    salt => format!("{text} ({salt})"),
                };
                let request = ChatRequest::new(vec![ChatMessage::user(question)]);
                match llm::chat(&request) {
                    Ok(completion) => report(ok(), json!(completion.content)).publish(),
                    Err(error) => report(failed(&error), Value::Null).publish(),
                }
            }
            Act::Chat { request } => match llm::chat(&ChatRequest::deserialize(request)?) {
                Ok(completion) => {
                    let names = completion.tool_calls.iter().map(|call| &call.name);
                    let names: Vec<_> = names.collect();
                    let value = json!({"content": completion.content, "calls": names});
                    report(ok(), value).publish()
                }
                Err(error) => report(failed(&error), json!(error.to_string())).publish(),
            },
            Act::Http { method, url, body } => {
                let request = http::Request {
                    body: body.clone().into_bytes(),
                    ..http::Request::new(method, url)
                };
                match http::send(&request) {
                    Ok(response) => {
                        let body = String::from_utf8_lossy(&response.body);
                        let value = json!({"status": response.status, "body": body});
                        report(ok(), value).publish()
                    }
                    Err(error) => report(failed(&error), json!(error.to_string())).publish(),
                }
            }
            Act::List => match tools::list() {
                Ok(tools) => {
                    let names: Vec<_> = tools.iter().map(|tool| &tool.name).collect();
                    report(ok(), json!(names)).publish()
                }
                Err(error) => report(failed(&error), Value::Null).publish(),
            },
            Act::Random => {
                let number = RandomState::new().build_hasher().finish();
                self.season(number);
                report(ok(), json!(number)).publish()
            }
            Act::Clock => {
                let now = unix_ms();
                self.season(now);
                report(ok(), json!(now)).publish()
            }
            Act::Fail { reason } => Err(reason.as_str().into()),
            Act::Trap => panic!("as the script of {script} says"),
            Act::Hold { bytes } => {
                *self.held = ballast(*bytes);
                report(ok(), json!(bytes)).publish()
            }
        }
    }

    fn season(&mut self, with: u64) {
        self.salt = self.salt.rotate_left(1) ^ with;
    }
}

/// Returns a text of that length that hardly compresses.
fn ballast(bytes: usize) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-";
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let letters = (0..bytes).map(|_| {
        // Marsaglia's xorshift.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        char::from(LETTERS[(seed >> 58) as usize])
    });
    letters.collect()
}

fn invocation(call: &ScriptedCall) -> Result<Invocation, Error> {
    let mut arguments = Map::new();
    arguments.insert("token".to_owned(), json!(call.token));
    for (name, ms) in [
        ("sleep_ms", call.sleep_ms),
        ("sleep_after_ms", call.sleep_after_ms),
    ] {
        if let Some(ms) = ms {
            arguments.insert(name.to_owned(), json!(ms));
        }
    }
    Ok(Invocation::new(
        format!("{SERVER}__{}", call.tool),
        &arguments,
    )?)
}

fn result_of(result: &Result<Outcome, StepError>) -> String {
    match result {
        Ok(outcome) if outcome.is_error => "error:tool".to_owned(),
        Ok(_) => "ok".to_owned(),
        Err(error) => failed(error),
    }
}

fn failed(error: &StepError) -> String {
    let kind = match error {
        StepError::UnknownOutcome(_) => return "unknown".to_owned(),
        StepError::Denied(_) => "denied",
        StepError::Invalid(_) => "invalid",
        StepError::Unavailable(_) => "unavailable",
        StepError::Timeout(_) => "timeout",
        StepError::TooLarge(_) => "too-large",
        StepError::Failed(_) => "failed",
    };
    format!("error:{kind}")
}

fn notice(recovery: &Recovery, text: &str) -> Value {
    let cause = match recovery.cause {
        Cause::Config => "config",
        Cause::Upgrade => "upgrade",
        Cause::Crash => "crash",
        Cause::Operator => "operator",
    };
    let interruption = recovery
        .interruption
        .map(|interruption| match interruption {
            Interruption::Rerun => "rerun",
            Interruption::Resumed => "resumed",
        });
    let mut data = json!({
        "generation": recovery.generation,
        "cause": cause,
        "interruption": interruption,
        "unknown_steps": recovery.unknown_steps,
    });
    // The first line describes the restart, the others the turns that were stopped.
    if let Some((_, stopped)) = text.split_once('\n') {
        data["stopped"] = json!(stopped);
    }
    data
}

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |since| since.as_millis() as u64)
}
