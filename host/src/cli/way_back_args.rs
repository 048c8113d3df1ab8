//! The grammar of the commands by which a session goes back, or is copied.

use std::path::PathBuf;

use clap::Args;

use super::global::JsonFlag;
use super::value_parsers::{point, session_id};
use crate::domain::{EventId, SessionId};

#[derive(Debug, Args)]
pub(crate) struct Rewind {
    /// The session
    #[arg(value_parser = session_id)]
    pub(crate) id: SessionId,
    /// The restore point, as `abide sessions points ID` lists it
    #[arg(long, value_name = "POINT", value_parser = point)]
    pub(crate) to: EventId,
    #[command(flatten)]
    pub(crate) json: JsonFlag,
}

#[derive(Debug, Args)]
pub(crate) struct Fork {
    /// The session
    #[arg(value_parser = session_id)]
    pub(crate) id: SessionId,
    /// The id of the new session
    #[arg(value_parser = session_id)]
    pub(crate) new: SessionId,
    /// The restore point to begin at; without it, the session as it is
    #[arg(long, value_name = "POINT", value_parser = point)]
    pub(crate) at: Option<EventId>,
    #[command(flatten)]
    pub(crate) json: JsonFlag,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The session
    #[arg(value_parser = session_id)]
    pub(crate) id: SessionId,
    /// The file to write, which must not exist: it holds all that was said in the session
    pub(crate) file: PathBuf,
    /// The restore point to export; without it, the session as it is
    #[arg(long, value_name = "POINT", value_parser = point)]
    pub(crate) at: Option<EventId>,
    /// Write the component along, so that a daemon without it can run the session
    #[arg(long)]
    pub(crate) with_component: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The export
    pub(crate) file: PathBuf,
    /// The id of the new session; without it, that of the session that was exported
    #[arg(long = "as", value_name = "ID", value_parser = session_id)]
    pub(crate) id: Option<SessionId>,
    #[command(flatten)]
    pub(crate) json: JsonFlag,
}
