//! The command line's grammar.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::audit::Audit;
use super::bench::Bench;
use super::config_history::{History, Rollback};
use super::global::Global;
pub(crate) use super::global::JsonFlag;
use super::plugin_args::PluginCommand;
use super::tokens::TokenCommand;
use super::value_parsers::{json_value, session_id};
use super::way_back_args::{Export, Fork, Import, Rewind};
use crate::domain::SessionId;
use crate::engine::COMPILE;

/// The subcommand with which `serve` starts its workers.
pub(crate) const WORKER: &str = "worker";

/// A daemon that hosts long-lived sessions and never loses one.
#[derive(Debug, Parser)]
#[command(name = "abide", version, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no daemon answers.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: CliCommand,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Start on the last configuration that passed its probation, not on the file: for when the
    /// file is unusable and the sessions cannot wait. The file is watched, and taken over once it
    /// is correct
    #[arg(long)]
    pub(crate) last_good: bool,
    /// Start although the store lacks writes that were acknowledged: they are given up, the
    /// sessions that they were about wait for `abide resume` (all of them, if that is not known), and
    /// each is told. It counts for this start only
    #[arg(long)]
    pub(crate) accept_loss: bool,
    /// The data folder was put back from a copy, by other means than `abide restore`: all sessions
    /// begin new timelines and wait for `abide resume`, and each is told. It counts for this start
    /// only
    #[arg(long)]
    pub(crate) restored: bool,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Compile {
    /// The memory that it may take, in bytes
    pub(crate) memory_bytes: u64,
    /// The processor time that it may take, in seconds
    pub(crate) cpu_seconds: u64,
    /// How much it yields to others, as `nice` counts it
    pub(crate) niceness: i32,
    /// The process id of its parent
    pub(crate) parent: u32,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CliCommand {
    /// Write a configuration to start from
    Init(Init),
    /// Run the daemon, in the foreground
    Serve(Serve),
    /// The daemon's process, as `serve` starts it
    #[command(name = WORKER, hide = true)]
    Worker(Serve),
    /// The compiler's process, as a worker starts it
    #[command(name = COMPILE, hide = true)]
    Compile(Compile),
    /// What runs, what drains, what is faulted, and why
    Status(Status),
    /// Talk with a session
    Chat(Chat),
    /// Send one message and print the answer
    Send(Send),
    /// List sessions, look at one, act on one
    #[command(subcommand)]
    Sessions(SessionsCommand),
    /// Let a faulted session go on, or those that wait because their history was cut
    Resume(Resume),
    /// Tool calls that wait for a human: list them, approve one, deny one
    Approvals(Approvals),
    /// Check the configuration, or see what a change would do
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Let running turns end, then stop the daemon; held messages stay for the next start
    Drain(Operate),
    /// Restart the daemon; sessions go on where they are
    Restart(Operate),
    /// What restarts there were, and how each one went
    Restarts(Restarts),
    /// Access tokens: make one, list them, revoke one
    #[command(subcommand)]
    Token(TokenCommand),
    /// What operators did: decisions, repairs, restarts, backups, tokens
    Audit(Audit),
    /// Take a backup of the running daemon
    Backup(Backup),
    /// Put a backup in the place of a data folder that is gone; no daemon may run on it
    Restore(Restore),
    /// Write a plugin, or look at those that are configured
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Check the store of a stopped daemon, or rescue what can be read of a damaged one
    #[command(subcommand)]
    Store(StoreCommand),
    Bench(Bench),
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Read all of the store, and compare what belongs together; changes nothing. The exit code is 1
    /// if anything is wrong
    Check(CheckStore),
    /// Write what can be read of the store into another folder, and name what is lost. Sessions of
    /// which something is lost wait for `abide resume`, and are told. The store itself is left alone
    Salvage(Salvage),
}

#[derive(Debug, Args)]
pub(crate) struct CheckStore {
    #[command(flatten)]
    pub(crate) json: JsonFlag,
}

#[derive(Debug, Args)]
pub(crate) struct Salvage {
    /// The new data folder, which must not exist or must be empty
    pub(crate) new: PathBuf,
    #[command(flatten)]
    pub(crate) json: JsonFlag,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The folder for abide.toml; it is created if need be
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check all that a start would, and name what is wrong with its place and remedy
    Check(Check),
    /// What the running daemon would do about the file as it is now
    Plan(Check),
    /// The configurations that the daemon has run on, with what each one changed
    History(History),
    /// Write an earlier configuration to the file; a running daemon takes it over
    Rollback(Rollback),
    /// Print the JSON Schema, for editors
    Schema,
    /// Print every key with its documentation and default
    Reference,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) json: JsonFlag,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) json: JsonFlag,
}

#[derive(Debug, Args)]
pub(crate) struct Chat {
    /// The session
    #[arg(value_parser = session_id)]
    pub(crate) id: SessionId,
    /// Create the session with this plugin if it does not exist
    #[arg(long)]
    pub(crate) plugin: Option<String>,
    /// The new session's arguments, one JSON value
    #[arg(long, value_name = "JSON", value_parser = json_value, requires = "plugin")]
    pub(crate) args: Option<serde_json::Value>,
}

#[derive(Debug, Args)]
pub(crate) struct Send {
    /// The session
    #[arg(value_parser = session_id)]
    pub(crate) id: SessionId,
    /// The message; `-` reads it from standard input
    pub(crate) text: String,
    /// How long to wait for the answer; `0s` only hands the message over. Without an answer in
    /// that time the exit code is 1, and the message stays accepted
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) wait: Duration,
    /// The Idempotency-Key: the same message under the same key is one message. Drawn if absent
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Create the session with this plugin if it does not exist
    #[arg(long)]
    pub(crate) plugin: Option<String>,
    /// The new session's arguments, one JSON value
    #[arg(long, value_name = "JSON", value_parser = json_value, requires = "plugin")]
    pub(crate) args: Option<serde_json::Value>,
    #[command(flatten)]
    pub(crate) json: JsonFlag,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// List sessions
    List(ListSessions),
    /// One session: its state and why, its turn, its last events, its dead letters
    Show(One),
    /// End a session for ever; its id is never used again
    Close(Close),
    /// Cut the running turn, or all that waits; the messages become dead letters
    Cancel(Cancel),
    /// The same as `abide resume`
    Resume(Resume),
    /// List the states that a session can be rewound to, or copied from
    Points(One),
    /// Bring back an earlier state; what came after it is undone, and the next turn is told
    Rewind(Rewind),
    /// Begin a new session with the state and history of another
    Fork(Fork),
    /// Write a session to a file, for this daemon or another one
    Export(Export),
    /// Begin a new session from an export
    Import(Import),
    /// The open turn, or the last that committed, step by step
    Steps(One),
    /// Run that turn again, offline and without effects: is it deterministic?
    Replay(One),
    /// Queue dead letters again: one, or all
    Retry(Retry),
    /// List the messages that no turn will consume, of a session or of all
    Dead(DeadLetters),
}

#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// The session
    #[arg(value_parser = session_id, required_unless_present = "all", conflicts_with = "all")]
    pub(crate) id: Option<SessionId>,
    /// All sessions that wait because their history was cut
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) json: JsonFlag,
}

#[derive(Debug, Args)]
pub(crate) struct Approvals {
    #[command(flatten)]
    pub(crate) json: JsonFlag,
    #[command(subcommand)]
    pub(crate) action: Option<ApprovalsAction>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ApprovalsAction {
    /// List those that wait (the default)
    List,
    /// Show the whole call
    Show {
        /// The approval's id
        id: String,
    },
    /// Let the call be made
    Approve {
        /// The approval's id
        id: String,
        /// And, without asking, each later call of this tool with these very arguments in this session
        #[arg(long)]
        always: bool,
    },
    /// Do not let it be made; the model is told so
    Deny {
        /// The approval's id
        id: String,
        /// Why: the model reads it
        #[arg(long)]
        reason: Option<String>,
    },
    /// List the calls that are always approved
    Standing,
    /// Ask again about a call that is always approved
    Revoke {
        /// The id of the approval that it was given with
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ListSessions {
    /// Only those of this plugin
    #[arg(long)]
    pub(crate) plugin: Option<String>,
    /// Only those in this state
    #[arg(long, value_parser = ["idle", "queued", "running", "parked", "faulted", "closed"])]
    pub(crate) state: Option<String>,
    /// Only those that stay on an older component than their plugin's
    #[arg(long)]
    pub(crate) pinned: bool,
    /// At most this many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "all")]
    pub(crate) limit: u32,
    /// All of them, however many
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) json: JsonFlag,
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// The session
    #[arg(value_parser = session_id)]
    pub(crate) id: SessionId,
    #[command(flatten)]
    pub(crate) json: JsonFlag,
}

#[derive(Debug, Args)]
pub(crate) struct Close {
    #[command(flatten)]
    pub(crate) one: One,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Cancel {
    #[command(flatten)]
    pub(crate) one: One,
    /// What to give up: the open turn; that and all that waits in the inbox; or one message
    #[arg(long, value_enum, value_name = "SCOPE")]
    pub(crate) scope: Option<Scope>,
    /// The message, whether a turn works on it or it waits
    #[arg(long, value_name = "ID")]
    pub(crate) message: Option<String>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Scope {
    Turn,
    Queue,
    Message,
}

#[derive(Debug, Args)]
pub(crate) struct Retry {
    /// The session
    #[arg(value_parser = session_id, required_unless_present = "all", conflicts_with = "all")]
    pub(crate) id: Option<SessionId>,
    /// The dead letter's message id; without it, the latest one
    #[arg(long, value_name = "ID", conflicts_with = "all")]
    pub(crate) message: Option<String>,
    /// All dead letters of all sessions
    #[arg(long)]
    pub(crate) all: bool,
    /// Only those of this plugin's sessions
    #[arg(long, value_name = "NAME", conflicts_with = "id")]
    pub(crate) plugin: Option<String>,
    /// Only those that died within this time
    #[arg(long, value_name = "DURATION", conflicts_with = "id", value_parser = humantime::parse_duration)]
    pub(crate) since: Option<Duration>,
    /// Also if its turn made calls that cannot be repeated: they are made again
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) json: JsonFlag,
}

#[derive(Debug, Args)]
pub(crate) struct DeadLetters {
    /// The session; without it, those of all
    #[arg(value_parser = session_id)]
    pub(crate) id: Option<SessionId>,
    /// Only those of this plugin's sessions
    #[arg(long, value_name = "NAME", conflicts_with = "id")]
    pub(crate) plugin: Option<String>,
    /// Only those that died within this time
    #[arg(long, value_name = "DURATION", conflicts_with = "id", value_parser = humantime::parse_duration)]
    pub(crate) since: Option<Duration>,
    /// At most this many of all sessions
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "id")]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) json: JsonFlag,
}

#[derive(Debug, Args)]
pub(crate) struct Operate {
    /// Return once it is accepted
    #[arg(long)]
    pub(crate) no_wait: bool,
    #[command(flatten)]
    pub(crate) json: JsonFlag,
}

#[derive(Debug, Args)]
pub(crate) struct Restarts {
    /// Only this one, in detail
    pub(crate) generation: Option<u64>,
    /// The latest so many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) json: JsonFlag,
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The folder for it, on the daemon's machine; it must not exist, or be empty
    pub(crate) folder: PathBuf,
    #[command(flatten)]
    pub(crate) json: JsonFlag,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup's folder; the configuration says where the data folder is to be
    pub(crate) folder: PathBuf,
    #[command(flatten)]
    pub(crate) json: JsonFlag,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_values_are_named() {
        for (line, named) in [
            ("abide send a hi --wait soon", "--wait"),
            ("abide chat ..", "cannot be a session id"),
            ("abide chat a --plugin p --args {", "not one JSON value"),
            ("abide chat a --args 1", "--plugin"),
            ("abide sessions list --state asleep", "asleep"),
            ("abide plugin new Bad_Name", "lowercase"),
            ("abide plugin retire 12", "8 to 64"),
            ("abide sessions retry", "<ID>"),
            ("abide sessions retry s --since 1h", "--since"),
        ] {
            let error = Cli::try_parse_from(line.split(' '))
                .expect_err(line)
                .to_string();
            assert!(error.contains(named), "{line}: {error}");
        }
    }
}
