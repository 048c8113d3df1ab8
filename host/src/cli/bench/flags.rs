//! The options of `abide bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::error::CliError;
use crate::cli::global::Global;
use crate::cli::out::hint;
use crate::cli::value_parsers::json_value;

/// The default number of connections.
const CONNECTIONS: u32 = 64;

const MEANING: &str = "\
What the figures mean:
  acknowledged  Messages whose answer said that they are on disk, per second. The time runs from
                the first request to the last answer (with --warm-up, from its end).
  completed     Turns whose answer said that they ended well, per second. With --no-wait the time
                runs until the last of them has ended.
  latency       From a turn's first request to its answer, with all that lay between: sending it
                again, connecting anew, waiting as told. p99 is what 99 of 100 turns did not
                exceed (within 0.1%). With --no-wait it is the acknowledgement's.
  pause         The longest latency of the turns that a restart or kill met or that began before
                the next one. `silent` is the longest time in which no client got an answer.
  refused       Connections that were not made.
  reset         Requests whose connection ended before their answer did. A kill cuts off what is
                under way: at most one request of each connection, told apart.
  slow          Requests without an answer for 30 s; they are cut off.
  throttled     Answers 429, or 503 with Retry-After: the client came back as told. No error.
  errors        Other answers without success, and turns that failed.
  unanswered    Turns that got no answer within 60 s, or because the daemon ended.
  lost          Acknowledged messages or turns that are not there any more, or never had a turn.
  doubled       Messages that are there twice, or had two turns.
  wrong         Answers and logs that say what cannot be: an echo of something else, a gap in the
                cursors.

lost and doubled come from every answer, whose turn must have the number of the session's last plus
one, and at the end from the sessions' logs (of --verify sessions, spread evenly). A request that
was reset or slow is sent again where it has a key; without one nobody knows, and its message may
be there or not. A restart or kill does not begin when less than half of its interval is left.
ABIDE_STORE__* and ABIDE_RETENTION__* in the environment tune the daemon that is started; nothing
else of the environment or of a configuration does.

Exit codes: 0 all is well, 1 something was refused, reset (but by a kill), in error, unanswered,
lost, doubled or wrong, 2 wrong usage, 3 no daemon answers.";

/// Measure how fast turns are, and whether the answers are right
///
/// Starts a daemon on a fresh folder and removes it at the end, or drives the one that --url names
/// (neither ABIDE_URL nor a configuration does) and closes the sessions that it made there. Each
/// connection owns its share of the sessions and
/// has one request out at a time; the next is sent when the answer is there. The load shares the
/// machine with the daemon, unless that runs elsewhere.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = MEANING)]
#[command(after_help = "`abide bench --help` says what the figures mean.")]
pub(crate) struct Bench {
    /// How many sessions are used, each in turn
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(super) sessions: u32,
    /// How many connections, each with one request out at a time; by default 64, and at most one
    /// for each session
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=50_000))]
    connections: Option<u32>,
    /// How long new turns are begun
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = some_time)]
    pub(super) duration: Duration,
    /// How long turns are sent before that without being counted
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration, conflicts_with = "no_wait")]
    pub(super) warm_up: Duration,
    /// Restart the daemon this often
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    pub(super) restart_every: Option<Duration>,
    /// Kill the daemon's worker this often, as `kill -9` does; only a daemon of its own
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    pub(super) kill_every: Option<Duration>,
    /// The plugin: one that lies in `plugins` beside this program, a component's file, or with
    /// --url one that the daemon has. Answers of `echo` are compared to the letter
    #[arg(long, value_name = "NAME|FILE", default_value = "echo")]
    pub(super) plugin: String,
    /// What the sessions are opened with, one JSON value
    #[arg(long, value_name = "JSON", value_parser = json_value)]
    pub(super) args: Option<serde_json::Value>,
    /// How long each message is, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=16 << 20))]
    pub(super) text_bytes: u32,
    /// Do not wait for turns, only for acknowledgements; at the end, for all turns
    #[arg(long)]
    pub(super) no_wait: bool,
    /// Send an Idempotency-Key with each message; always done with restarts or kills
    #[arg(long)]
    pub(super) keys: bool,
    /// The folder in which the daemon's fresh one is made, and where a sync is timed; by default
    /// the one for temporary files
    #[arg(long, value_name = "FOLDER")]
    pub(super) data_dir: Option<PathBuf>,
    /// Threads that send
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) threads: u16,
    /// At the end, read the logs of this many sessions; 0 reads none
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(super) verify: u32,
    /// Read the logs of all sessions
    #[arg(long, conflicts_with = "verify")]
    pub(super) verify_all: bool,
    /// With --url: leave the sessions open
    #[arg(long)]
    pub(super) keep: bool,
    /// Print JSON, with units in the names
    #[arg(long)]
    pub(super) json: bool,
}

impl Bench {
    /// Returns the number of threads to run the load on.
    pub(crate) fn threads(&self) -> usize {
        self.threads.into()
    }

    /// Checks the combinations of options that clap does not check, and turns on keys where
    /// restarts or kills need them.
    pub(super) fn check(&mut self, global: &Global) -> Result<(), CliError> {
        let foreign = global.url.is_some();
        if foreign && self.kill_every.is_some() {
            return Err(CliError::Usage(
                "--kill-every ends processes, which only a daemon that bench starts itself is \
                 there for; leave out --url, or use --restart-every"
                    .to_owned(),
            ));
        }
        if self.keep && !foreign {
            return Err(CliError::Usage(
                "--keep leaves sessions open in the daemon that --url names; a daemon of its own \
                 is removed with all it holds"
                    .to_owned(),
            ));
        }
        if self
            .connections
            .is_some_and(|wanted| wanted > self.sessions)
        {
            hint(format!(
                "warning: a session has one turn at a time, so of these connections only one for \
                 each of the {} sessions is made",
                self.sessions
            ));
        }
        self.keys |= self.restart_every.is_some() || self.kill_every.is_some();
        Ok(())
    }

    /// Returns the number of connections, at most one per session.
    pub(super) fn connections(&self) -> u32 {
        let wanted = self.connections.unwrap_or(CONNECTIONS);
        wanted.min(self.sessions)
    }

    /// Returns the number of sessions whose logs are checked.
    pub(super) fn verified(&self) -> usize {
        let most = if self.verify_all {
            u32::MAX
        } else {
            self.verify
        };
        most.min(self.sessions) as usize
    }
}

/// Parses a duration that must not be zero.
fn some_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time.is_zero() => Err("it must be longer than nothing, like 10s".to_owned()),
        Ok(time) => Ok(time),
        Err(error) => Err(format!("{error}; write it like 10s")),
    }
}
