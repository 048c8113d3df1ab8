//! A relay in front of a tool server: this program, started as `relay LOG MILLISECONDS COMMAND...`.
//! The server itself is unchanged, but each call is delayed on its way there and each result on its
//! way back, so that a kill can hit just before or just after a call executes; everything that
//! passes is logged. Without delays a server answers in a millisecond or two, which no kill would
//! hit. Of the calls that are delayed while the daemon dies, half are executed anyway, because real
//! servers differ in this.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

const NOBODY_PANICS: &str = "nobody panics while holding it";
/// The argument that makes this program run as a relay.
pub(crate) const ARGUMENT: &str = "relay";
/// How long a call or a result is delayed.
pub(crate) const PAUSE: Duration = Duration::from_millis(40);

/// The stage that a call has reached; each stage is one line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Passed {
    /// The relay received the call from the daemon.
    Came,
    /// The relay forwards the call to the server: it may take effect from here on.
    Sent,
    /// The server has answered: the call took effect.
    Answered,
}

/// A line of the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) passed: Passed,
    /// The tool, by the name that the server uses.
    pub(crate) tool: String,
    /// The idempotency key that the daemon assigned: the same for every attempt of a call.
    pub(crate) key: String,
    /// The time, in milliseconds since the Unix epoch.
    pub(crate) at_ms: u64,
}

impl Line {
    /// Returns whether the call is dropped if the daemon dies during its delay: always the same for
    /// the same key.
    fn is_dropped(&self) -> bool {
        self.key.bytes().map(u32::from).sum::<u32>() % 2 == 0
    }

    /// Returns whether the call must not be repeated when its outcome is unknown.
    pub(crate) fn once(&self) -> bool {
        ["edit_file", "move_file"].contains(&self.tool.as_str())
    }
}

/// Returns the current time in milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// Reads the log so far.
pub(crate) fn read(log: &Path) -> Vec<Line> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().map(serde_json::from_str);
    lines.filter_map(Result::ok).collect()
}

/// Runs until the server has exited, which it does when its input is closed.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let [log, pause, program, rest @ ..] = arguments else {
        eprintln!("usage: {ARGUMENT} LOG MILLISECONDS COMMAND...");
        return ExitCode::FAILURE;
    };
    match relay(log, pause, program, rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The calls in flight, by the text of their ids.
type Open = Arc<Mutex<HashMap<String, Line>>>;

fn relay(log: &str, pause: &str, program: &str, rest: &[String]) -> io::Result<()> {
    let log = Arc::new(File::options().create(true).append(true).open(log)?);
    let pause = pause.parse().map_err(io::Error::other)?;
    let pause = Duration::from_millis(pause);
    let mut server = Command::new(program)
        .args(rest)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (Some(input), Some(output)) = (server.stdin.take(), server.stdout.take()) else {
        return Err(io::Error::other("the server has no pipes"));
    };
    let open = Open::default();
    let (calls, notes) = (open.clone(), log.clone());
    thread::spawn(move || there(input, &notes, &calls, pause));
    back(output, &log, &open, pause);
    server.wait().map(drop)
}

/// Forwards the daemon's messages. Half of the delayed calls are forwarded even if the daemon dies
/// meanwhile, as a pipe would; after the last of them, the server's input is closed.
fn there(input: ChildStdin, log: &Arc<File>, open: &Open, pause: Duration) {
    let input = Arc::new(Mutex::new(input));
    let hung_up = Arc::new(AtomicBool::new(false));
    for text in io::stdin().lines().map_while(Result::ok) {
        let Some((id, line)) = call(&text) else {
            pass(&input, text);
            continue;
        };
        note(log, &line);
        let (input, open, log) = (input.clone(), open.clone(), log.clone());
        let hung_up = hung_up.clone();
        thread::spawn(move || {
            thread::sleep(pause);
            if hung_up.load(Ordering::Relaxed) && line.is_dropped() {
                return;
            }
            let sent = Line {
                passed: Passed::Sent,
                ..line
            };
            // Log and register the call before forwarding it: from then on it may take effect.
            note(&log, &sent);
            open.lock().expect(NOBODY_PANICS).insert(id, sent);
            pass(&input, text);
        });
    }
    hung_up.store(true, Ordering::Relaxed);
}

/// Forwards the server's messages until its output ends.
fn back(output: ChildStdout, log: &File, open: &Open, pause: Duration) {
    let daemon = Arc::new(Mutex::new(io::stdout()));
    for text in BufReader::new(output).lines().map_while(Result::ok) {
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        let id = answer["id"].to_string();
        let answered = open.lock().expect(NOBODY_PANICS).remove(&id);
        let Some(line) = answered else {
            pass(&daemon, text);
            continue;
        };
        let passed = Passed::Answered;
        note(log, &Line { passed, ..line });
        let daemon = daemon.clone();
        thread::spawn(move || {
            thread::sleep(pause);
            pass(&daemon, text);
        });
    }
}

/// Parses a tool call; returns it with the text of its id.
fn call(text: &str) -> Option<(String, Line)> {
    let message: Value = serde_json::from_str(text).ok()?;
    (message["method"] == "tools/call").then(|| {
        let params = &message["params"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let line = Line {
            passed: Passed::Came,
            tool: text(&params["name"]),
            key: text(&params["_meta"]["abide/key"]),
            at_ms: 0,
        };
        (message["id"].to_string(), line)
    })
}

/// Appends a line to the log. A line is a single write, because several relays write the log and
/// any of them may be killed.
fn note(mut log: &File, line: &Line) {
    let line = Line {
        at_ms: now_ms(),
        ..line.clone()
    };
    let mut text = serde_json::to_string(&line).expect("it is plain");
    text.push('\n');
    let _ = log.write_all(text.as_bytes());
}

fn pass(to: &Mutex<impl io::Write>, mut text: String) {
    text.push('\n');
    let mut to = to.lock().expect(NOBODY_PANICS);
    // An error means that the other side has disconnected.
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}
