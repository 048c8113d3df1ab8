//! End-to-end tests of the built daemon and its plugins: real processes, real files, real HTTP.
//! `make test` builds what they need.

mod approvals;
mod bad_config;
mod bad_requests;
mod bench;
mod boot_failures;
mod chaos;
mod disk;
mod engine;
mod incident;
mod judge;
mod model_faults;
mod openai;
mod outgoing;
mod phases;
mod powercut;
mod replay;
mod restart;
mod rogue;
mod same_agent;
mod secrets;
mod snapshots;
mod stage;
mod steps;
mod tidy;
mod tools_bench;
mod tools_down;
mod tools_faults;
mod tools_http;
mod tools_mcp;
mod tools_odd;
mod tools_odd_http;
mod tools_web;
mod trial;
mod watchdog;
