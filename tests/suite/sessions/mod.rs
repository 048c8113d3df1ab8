//! Sessions: messages, turns, steps, and what clients and operators do with them.

mod approvals;
mod bad_requests;
mod cancel;
mod hostile_guest;
mod orders;
mod replay;
mod same_agent;
mod snapshots;
mod steps;
mod stopped;
mod watchdog;
