//! A guest's chat request as the strictest servers take it. Pure: the same request and dialect give
//! the same bytes.
//!
//! A guest writes down what happened, in the order in which it happened. Servers, and the chat
//! templates behind them, refuse most of that: a system message behind the first line, two lines of
//! one role, an id that occurs twice, a schema without properties. A conversation that was refused
//! once would be refused for ever, so each request is rendered for the strictest of them:
//!
//! ```text
//!   system?  user  ( assistant  |  assistant with calls, one tool line a call )  user ...
//!     |       |          |                     |
//!     |       |          |                     +-- ids of Abide's own; names and arguments sound;
//!     |       |          |                         each name defined among the tools
//!     |       |          +-- never empty
//!     |       +-- notices, notes and what came meanwhile in one line, oldest first
//!     +-- what the guest says before everything else; nothing is added to it later
//! ```
//!
//! Rendering happens behind the journal: a step's digest is of what the guest asked, so that another
//! version of this module makes no open turn diverge.
//!
//! It is prefix-stable, for servers cache what they have read: where a conversation has only grown,
//! an earlier request, as far as it was answered, is the beginning of each later one.
//!
//! | file | content |
//! |---|---|
//! | `lines` | the conversation in the order that strict templates take |
//! | `fold` | roles that a provider does not know, told as text |
//! | `names` | names of tools, and which of them the guest means by them |
//! | `schema` | JSON Schemas of arguments |
//! | `tools` | definitions: which are sent, which are left out and why |
//! | `images` | images within texts |
//! | `body` | the request's body |

mod body;
mod fold;
mod images;
mod lines;
mod names;
mod schema;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_tools;
mod tools;

pub(super) use body::{Sent, body};
pub(super) use images::weight;
pub(super) use tools::HiddenTool;
