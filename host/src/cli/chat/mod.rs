//! `abide chat`: a conversation on a terminal, or line by line through a pipe.
//!
//! ```text
//! input    input lines, on request                    \
//! follow   the session's stream, across restarts       >  talk  ->  view  ->  screen
//! client   sends messages                             /
//! ```

mod follow;
mod input;
mod join;
mod screen;
mod talk;
mod view;

pub(crate) use join::{join, no_session};
pub(super) use talk::run;
