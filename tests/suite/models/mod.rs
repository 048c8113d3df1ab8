//! Model providers: what they receive, what they answer, and how they fail.

mod answers;
mod assistant;
mod calls;
mod faults;
mod openai;
mod refusals;
mod stage;
mod strict_rules;
mod strict_server;
mod strict_stage;
mod strict_tools;
