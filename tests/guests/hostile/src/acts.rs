//! The acts that a message can request.

use std::hint::black_box;
use std::process;
use std::time::Duration;

use abide_plugin::http::Request;
use abide_plugin::llm::{ChatMessage, ChatRequest};
use abide_plugin::tools::Invocation;
use abide_plugin::{Error, Message, http, inbox, llm, log, output, timer, tools};

use crate::{Hostile, probe};

/// How much memory `alloc` allocates at a time, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;

/// Performs the act that the message's first word names. `N` is a number, `TEXT` the rest of the
/// message.
pub(crate) fn act(state: &mut Hostile, message: &Message) -> Result<(), Error> {
    let (word, rest) = match message.text.split_once(' ') {
        Some((word, rest)) => (word, rest),
        None => (message.text.as_str(), ""),
    };
    match word {
        // Acts that end the instance, or fail the turn.
        "trap" => core::arch::wasm32::unreachable(),
        "panic" => panic!("{rest}"),
        "exit" => process::exit(7),
        "fail" => return Err(rest.into()),
        // Acts that never end.
        "loop" => spin(),
        "alloc" => grow(),
        "recurse" => output::text(recurse(1).to_string())?,
        // Acts that exceed a limit: `events N`, `logs N`, `say N` bytes in one output, `snapshot N`
        // bytes.
        "events" => {
            for n in 0..number(rest)? {
                output::event("flood", &n)?;
            }
        }
        "logs" => {
            for n in 0..number(rest)? {
                log::info(format!("flood {n}"));
            }
        }
        "say" => output::text("x".repeat(size(rest)?))?,
        "snapshot" => state.fill_bytes = size(rest)?,
        // From now on, each snapshot of the same state differs from the one before.
        "unfaithful" => state.unfaithful = true,
        // Acts that go around the contract.
        "env" => output::text(probe::environment())?,
        "time" => output::text(probe::time())?,
        "random" => output::text(probe::random())?,
        "stdout" => {
            println!("{rest}");
            eprintln!("{rest}");
        }
        // Steps: one output with their result, or with their typed error.
        "llm" => {
            let request = ChatRequest::new(vec![ChatMessage::user(rest)]);
            said(llm::chat(&request).map(|completion| completion.content))?;
        }
        "tools" => said(tools::list().map(|tools| {
            let names: Vec<_> = tools.into_iter().map(|tool| tool.name).collect();
            names.join(" ")
        }))?,
        // `call NAME JSON`
        "call" => {
            let (name, arguments) = rest.split_once(' ').unwrap_or((rest, "{}"));
            let invocation = Invocation {
                name: name.to_owned(),
                arguments: arguments.to_owned(),
            };
            said(tools::call(&invocation).map(|outcome| format!("{outcome:?}")))?;
        }
        // `fickle MIB`: a step that depends on how much memory is available, followed by a long
        // one.
        "fickle" => {
            let mut room = Vec::<u8>::new();
            let much = room.try_reserve_exact(size(rest)? << 20).is_ok();
            let token = if much { "much" } else { "little" };
            let invocation = Invocation {
                name: "t__record".to_owned(),
                arguments: format!("{{\"token\": \"{token}\"}}"),
            };
            said(tools::call(&invocation).map(|outcome| format!("{outcome:?}")))?;
            let request = ChatRequest::new(vec![ChatMessage::user("wait [hold=fickle]")]);
            said(llm::chat(&request).map(|completion| completion.content))?;
        }
        // `feed MIB TOKEN`: a step, then this much memory, which is held during a further step.
        "feed" => {
            let (mib, token) = rest.split_once(' ').unwrap_or((rest, "fed"));
            let record = |token: String| {
                tools::call(&Invocation {
                    name: "t__record".to_owned(),
                    arguments: format!("{{\"token\": \"{token}\", \"sleep_ms\": 200}}"),
                })
                .map(|outcome| format!("{outcome:?}"))
            };
            said(record(format!("{token}-before")))?;
            let held = fill(size(mib)?);
            said(record(format!("{token}-after")))?;
            output::text(format!("held {} MiB", held.len()))?;
        }
        // `hold MIB TEXT`: this much memory, which is held while the model is asked.
        "hold" => {
            let (mib, question) = rest.split_once(' ').unwrap_or((rest, ""));
            let held = fill(size(mib)?);
            let request = ChatRequest::new(vec![ChatMessage::user(question)]);
            said(llm::chat(&request).map(|completion| completion.content))?;
            output::text(format!("held {} MiB", held.len()))?;
        }
        "http" => said(http::send(&Request::new("GET", rest)).map(|response| {
            let body = String::from_utf8_lossy(&response.body).into_owned();
            format!("{} {body}", response.status)
        }))?,
        "receive" => said(inbox::receive().map(|messages| {
            let texts: Vec<_> = messages.into_iter().map(|message| message.text).collect();
            format!("{} {}", texts.len(), texts.join("|"))
        }))?,
        // `timer NAME MS TEXT`
        "timer" => {
            let mut words = rest.splitn(3, ' ');
            let mut word = || words.next().unwrap_or_default();
            let (name, after, text) = (word(), word(), word());
            timer::set(name, Duration::from_millis(number(after)?), text)?;
        }
        "cancel" => timer::cancel(rest),
        _ => output::text(format!("ok {}", message.text))?,
    }
    Ok(())
}

fn number(text: &str) -> Result<u64, Error> {
    text.parse()
        .map_err(|error| Error::new(format_args!("{text:?} is no number: {error}")))
}

fn size(text: &str) -> Result<usize, Error> {
    usize::try_from(number(text)?).map_err(Error::new)
}

fn said(result: Result<String, abide_plugin::StepError>) -> Result<(), Error> {
    output::text(match result {
        Ok(text) => text,
        Err(error) => format!("{error:?}"),
    })?;
    Ok(())
}

fn spin() {
    let mut n = 0_u64;
    loop {
        n = black_box(n.wrapping_add(1));
    }
}

/// Allocates and writes this many MiB.
fn fill(mib: usize) -> Vec<Vec<u8>> {
    (0..mib).map(|_| black_box(vec![1_u8; 1 << 20])).collect()
}

fn grow() {
    let mut chunks = Vec::new();
    loop {
        chunks.push(black_box(vec![1_u8; CHUNK_BYTES]));
    }
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    black_box(recurse(black_box(depth) + 1)) + 1
}
