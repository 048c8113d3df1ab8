//! `abide bench`: sends turns as fast as they are answered, and counts and checks them from the
//! client's side.
//!
//! ```text
//! flags         options                          run        a run, from sessions to report
//! disk_probe    the data's disk: in memory?      service    Abide's requests and answers
//!               what does a sync cost?           chaos      restarts and kills during the load
//! local_daemon  a daemon on a fresh directory    quiesce    waits for every acknowledged turn
//! setup         creates and closes sessions      check_all  checks the sessions' logs against
//! progress      the progress line                           what was acknowledged
//! outcome       the report, as JSON              check_log  checks one session's log
//! render        the report, for humans
//! ```
//!
//! The load itself is [`crate::loadgen`], which does not depend on Abide.

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
