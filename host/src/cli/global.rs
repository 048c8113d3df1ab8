//! The options that every command takes. All commands use them, so they are not in `args`, which
//! uses the options of `bench`.

use std::path::PathBuf;

use clap::Args;

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// The configuration, by default ABIDE_CONFIG or abide.toml; the daemon is found through it
    #[arg(long, global = true, value_name = "FILE", default_value_os_t = default_config())]
    pub(crate) config: PathBuf,
    /// Where the daemon listens; without it, ABIDE_URL or what the configuration says
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The environment variable that holds the bearer token; without it, ABIDE_TOKEN or what the
    /// configuration names
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) token_env: Option<String>,
    /// No colours (as with NO_COLOR set)
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
}

fn default_config() -> PathBuf {
    std::env::var_os("ABIDE_CONFIG")
        .filter(|file| !file.is_empty())
        .map_or_else(|| PathBuf::from("abide.toml"), PathBuf::from)
}

/// Output for programs.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct JsonFlag {
    /// Print JSON, as the API gives it
    // Also behind an action and what it is about.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}
