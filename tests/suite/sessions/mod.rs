//! Sessions: messages, turns, steps, and the operations of clients and operators.

mod approvals;
mod bad_requests;
mod cancel;
mod exports;
mod fall_back;
mod hidden_text;
mod hostile_guest;
mod orders;
mod ramp;
mod replay;
mod same_agent;
mod slow_bodies;
mod snapshots;
mod stalled_readers;
mod standing_approvals;
mod steps;
mod stopped;
mod timelines;
mod trials;
mod watchdog;
mod way_back;
