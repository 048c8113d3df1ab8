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

mod audit;
mod disturb;
mod flags;
mod outcome;
mod own;
mod place;
mod progress;
mod run;
mod service;
mod settle;
mod setup;
mod show;
mod verify;

pub(crate) use flags::Bench;
pub(super) use run::run;
