use std::env;
use std::path::PathBuf;

use anyhow::anyhow;

use crate::stage::ChaosParts;

/// The text of `--help`.
pub(crate) const HELP: &str = "\
Judges the daemon under chaos: real processes, killed with -9 at random and at fault points.

abide-chaos run [--seeds N] [--first S] [--jobs J] [--bug NAME] [--json] [--without-tools]
    Runs N (200) seeded programs (S = 1, S+1, ...; J = 2 at a time) of messages, tool calls, timers,
    kills, power cuts, restarts, edits, new components, rewinds, forks, exports and imports, each on a
    daemon of its own, and holds what clients, a subscriber and the tools saw against what must be
    true. Prints counts; what is wrong, with its seed; and keeps that seed's folder (store, log
    `stderr.log`, `effects`, `abide.toml`). A seed replays its program; kills at fault points are
    exact, the others come after the same delay.
abide-chaos boundaries [--jobs J]
    Traces the fault points that one representative turn crosses, then kills the worker, and then
    both processes, at each of them in turn; prints what became of it.
abide-chaos bugs [--seeds N] [--first S] [--jobs J] [NAME...]
    Runs seeds with one deliberate bug after the other (default: all) until the checker catches it,
    at most N (40) each; and as many seeds without one, in which it must find nothing.
abide-chaos show [--first S]
    Prints the program of a seed.

--without-tools   programs without tool calls, for a daemon that has none
The binary is ABIDE_BIN, built with `--features abide/faults` for fault points and bugs; guests
lie in ABIDE_GUESTS; the tool server is `abide-test-tools` beside this program, or ABIDE_TEST_TOOLS.
It ends with 0 if nothing is wrong, with 1 if something is, with 2 if it was called wrongly.";

/// The parsed command line.
pub(crate) struct ChaosArgs {
    pub(crate) command: String,
    pub(crate) seeds: Option<u64>,
    pub(crate) first: u64,
    pub(crate) jobs: usize,
    pub(crate) bug: Option<String>,
    pub(crate) json: bool,
    pub(crate) without_tools: bool,
    /// The remaining arguments.
    pub(crate) names: Vec<String>,
}

impl ChaosArgs {
    /// Parses the command line, or returns what is wrong with it.
    pub(crate) fn read() -> anyhow::Result<Self> {
        let mut words = env::args().skip(1);
        let mut args = Self {
            command: words.next().unwrap_or_default(),
            seeds: None,
            first: 1,
            jobs: 2,
            bug: None,
            json: false,
            without_tools: false,
            names: Vec::new(),
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| anyhow!("{word} needs a value"));
            match word.as_str() {
                "--seeds" => args.seeds = Some(number(&value()?)?),
                "--first" => args.first = number(&value()?)?,
                "--jobs" => args.jobs = number(&value()?)?.max(1) as usize,
                "--bug" => args.bug = Some(value()?),
                "--json" => args.json = true,
                "--without-tools" => args.without_tools = true,
                other if other.starts_with('-') => return Err(anyhow!("{other} means nothing")),
                _ => args.names.push(word),
            }
        }
        Ok(args)
    }

    /// Returns the parts of which stages are built.
    ///
    /// # Errors
    /// If there is no tool server.
    pub(crate) fn means(&self) -> anyhow::Result<ChaosParts> {
        let tools = match self.without_tools {
            true => None,
            false => Some(tool_server()?),
        };
        Ok(ChaosParts {
            tools,
            bug: self.bug.clone(),
        })
    }
}

fn number(text: &str) -> anyhow::Result<u64> {
    text.parse().map_err(|error| anyhow!("{text}: {error}"))
}

fn tool_server() -> anyhow::Result<PathBuf> {
    let beside = || Some(env::current_exe().ok()?.with_file_name("abide-test-tools"));
    let path = env::var_os("ABIDE_TEST_TOOLS").map(PathBuf::from);
    let path = path.or_else(beside).unwrap_or_default();
    match path.exists() {
        true => Ok(path),
        false => Err(anyhow!(
            "{} is missing: build the bins of abide-tests, or say --without-tools",
            path.display()
        )),
    }
}
