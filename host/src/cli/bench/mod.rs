//! `abide bench`: turns as fast as they are answered, counted and checked from the client's side.
//!
//! ```text
//! flags    what is asked for              run       from the first session to the last line
//! place    where the data lies, and what  service   how Abide is asked, and what its answers say
//!          a sync costs there             disturb   restarts and kills while it runs
//! own      a daemon on a fresh folder      settle    until every acknowledged turn has ended
//! setup    sessions, before and after      verify    the sessions' logs, held against what was
//! progress what goes on                             acknowledged; audit: one session's
//! outcome  what came of it, as JSON       show      and for humans
//! ```
//!
//! The load itself is [`crate::load`], which knows nothing of Abide.

mod chaos;
mod check_all;
mod check_log;
mod disk_probe;
mod flags;
mod local_daemon;
mod outcome;
mod progress;
mod quiesce;
mod render;
mod run;
mod service;
mod setup;

pub(crate) use flags::Bench;
pub(super) use run::run;
