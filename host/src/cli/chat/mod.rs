//! `abide chat`: a conversation on a terminal, or line by line through a pipe.
//!
//! ```text
//! input    lines, when asked for                      \
//! follow   the session's stream, over restarts         >  talk  ->  view  ->  screen
//! client   what is sent                               /
//! ```

mod follow;
mod input;
mod join;
mod screen;
mod talk;
mod view;

pub(crate) use join::{join, no_session};
pub(super) use talk::run;
