//! Renders a guest's chat request so that the strictest servers accept it. Pure: the same request
//! and dialect yield the same bytes.
//!
//! A guest records messages in the order in which they occurred. Servers, and the chat templates
//! that they use, refuse much of that: a system message after the first line, two consecutive lines
//! of one role, a repeated id, a schema without properties. A conversation that was refused once
//! would be refused every time, so each request is rendered for the strictest of them:
//!
//! ```text
//!   system?  user  ( assistant  |  assistant with calls, one tool line per call )  user ...
//!     |       |          |                     |
//!     |       |          |                     +-- ids made acceptable; names and arguments valid;
//!     |       |          |                         each name defined among the tools
//!     |       |          +-- never empty
//!     |       +-- notices, notes and messages received meanwhile in one line, oldest first
//!     +-- the guest's leading instructions; nothing is added to them later
//! ```
//!
//! Rendering happens behind the journal: a step's digest covers what the guest asked, not what is
//! sent, so a new version of this module does not make an open turn diverge.
//!
//! Rendering is prefix-stable, because servers cache the prompts that they have read: if a
//! conversation has only grown, an earlier request, as far as it was answered, is a prefix of each
//! later one.
//!
//! | file | content |
//! |---|---|
//! | `lines` | the conversation, in the order that strict templates accept |
//! | `fold` | what a provider does not support, rewritten as text |
//! | `names` | the names of tools as sent, and the guest's names for them |
//! | `schema` | JSON Schemas of arguments |
//! | `tools` | definitions: which are sent, which are left out and why |
//! | `images` | images within texts |
//! | `body` | the body of the request |

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
