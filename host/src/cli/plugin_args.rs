//! The grammar of `abide plugin`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::global::JsonFlag;
use super::value_parsers::{crate_name, digest_prefix, json_value, session_id};
use crate::domain::SessionId;

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Write a new plugin: a Rust crate that builds and passes its tests
    New(New),
    /// Prove that a component can be a plugin: its contract, limits and snapshot
    Check(CheckFile),
    /// Have sessions that stay on an older component, since the present one could not carry them on, try
    /// the present one again
    Adopt(Adopt),
    /// Have all sessions that stay on this older component leave it: those that the present one cannot
    /// carry on are faulted
    Retire(Retire),
    /// List the plugins that are configured, and what the daemon has loaded of them
    List(JsonFlag),
}

#[derive(Debug, Args)]
pub(crate) struct New {
    /// The plugin's name, and its folder's: lowercase letters, digits and dashes
    #[arg(value_parser = crate_name)]
    pub(crate) name: String,
    /// The folder of the guest SDK; without it, the one that came with this abide
    #[arg(long, value_name = "PATH")]
    pub(crate) sdk: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Adopt {
    /// The session
    #[arg(value_parser = session_id, required_unless_present = "all", conflicts_with = "all")]
    pub(crate) id: Option<SessionId>,
    /// All sessions that stay on an older component
    #[arg(long)]
    pub(crate) all: bool,
    /// Only those of this plugin
    #[arg(long, value_name = "NAME", conflicts_with = "id")]
    pub(crate) plugin: Option<String>,
    /// Also if it is not carried on as a whole: what would be lost of its state is lost. If its guest cannot be
    /// restored at all it is faulted, until its plugin has another component
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) json: JsonFlag,
}

#[derive(Debug, Args)]
pub(crate) struct Retire {
    /// The component's digest, or the beginning of it, as `abide status` shows it
    #[arg(value_parser = digest_prefix)]
    pub(crate) component: String,
    #[command(flatten)]
    pub(crate) json: JsonFlag,
}

#[derive(Debug, Args)]
pub(crate) struct CheckFile {
    /// The component
    pub(crate) file: PathBuf,
    /// The arguments to open a session with, one JSON value
    #[arg(long, value_name = "JSON", value_parser = json_value)]
    pub(crate) args: Option<serde_json::Value>,
    /// Check it under the limits of this configured plugin; without it, under those of the one whose
    /// file it is, if there is one
    #[arg(long, value_name = "NAME")]
    pub(crate) plugin: Option<String>,
    /// Try it on sessions, too, as a restart that brings it would: those of the daemon at this URL, of a data
    /// folder that no daemon uses, of a backup, or an exported session
    #[arg(long, value_name = "URL|FOLDER|EXPORT")]
    pub(crate) against: Option<String>,
    #[command(flatten)]
    pub(crate) json: JsonFlag,
}
